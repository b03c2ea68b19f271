"""What single nodes cost in floats and in integers: measured once for equal nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from onnxsqueeze.errors import DataError
from onnxsqueeze.facts.records import Interval, Machine, Record

KernelForm = Literal["qdq", "dynamic", "blockwise4", "blockwise8"]
KERNEL_FORMS: tuple[KernelForm, ...] = ("qdq", "dynamic", "blockwise4", "blockwise8")
"""Forms that a node is timed in; blocks by the bits of their codes."""


class OpKey(Record):
    """What the time of a node depends on, apart from the machine.

    Attributes:
        op_type: The operator.
        attributes: Its attributes as text, by name.
        shapes: Measured shape of the activation and shapes of the constants, by port.
        provider: Execution provider, short name.
        threads: Threads of the session.
    """

    op_type: str
    attributes: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    provider: str
    threads: int


class IntegerLatency(Record):
    """One integer form of a node, timed in turns with its float form.

    It includes what makes the activations integers in front of it, and the DequantizeLinear behind
    it where its kernel writes integers. In a model, readers of one tensor share the former, and
    between integer nodes ONNX Runtime drops both.

    Attributes:
        ms: Thread CPU time per run, in milliseconds, paired with that of floats.
        speedup: Median of the paired ratios float / integer (over 1: integers are faster).
        fused: Whether ONNX Runtime made an integer kernel of it.
        block: Values per scale, where scales are of blocks.
    """

    ms: tuple[float, ...]
    speedup: Interval
    fused: bool
    block: int | None = None


class InRegion(Record):
    """One node among its like: its kernel by itself, and what changing sides costs.

    Wall milliseconds by ONNX Runtime's own profile, medians over runs of the node alone. Between
    kernels of one kind there is nothing else: floats stay in blocks of channels, integers stay
    integers, with the channels last.

    Attributes:
        float_ms: The kernel in floats.
        integer_ms: The kernel in integers, by type of the weight's codes; a type that ONNX Runtime
            makes no integer kernel of is absent. A node without a weight has ``uint8`` only.
        enter_ms: What makes its inputs integers, and orders them as integer kernels need them.
        leave_ms: What makes its output floats again; 0 where the kernel writes floats.
    """

    float_ms: float
    integer_ms: dict[Literal["uint8", "int8"], float]
    enter_ms: float
    leave_ms: float


class OpLatency(Record):
    """One node, timed alone in floats and in each form of integers that it can have, in turns.

    Attributes:
        key: Which node.
        machine: Where.
        float_ms: Thread CPU time per run, in milliseconds.
        integers: By form: ``qdq`` over grids of the plan, ``dynamic`` over grids of each run,
            ``blockwise4`` and ``blockwise8`` with weights in blocks, at the accuracy level that
            a session has by default. Empty for a node without a weight.
        inside: The node among its like, or None if that was not measured.
    """

    key: OpKey
    machine: Machine
    float_ms: tuple[float, ...]
    integers: dict[KernelForm, IntegerLatency]
    inside: InRegion | None = None


class OpLatencies(Record):
    """All nodes that were timed so far."""

    schema_number: Literal[4] = 4
    rows: tuple[OpLatency, ...] = ()

    def of(self, key: OpKey, machine: Machine) -> OpLatency | None:
        """Return the record of an equal node on an equal machine and engine, or None."""
        kernels = _kernels(machine)
        equal = (row for row in self.rows if row.key == key and _kernels(row.machine) == kernels)
        return next(equal, None)

    def added(self, row: OpLatency) -> OpLatencies:
        """Return these records with one more."""
        return self.model_copy(update={"rows": (*self.rows, row)})

    def save(self, path: Path) -> None:
        """Write the records as JSON, moved into place when complete."""
        beside = path.with_name(path.name + ".part")
        beside.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> OpLatencies:
        """Read records; without a file there are none.

        Raises:
            DataError: If the file is malformed.
        """
        if not path.exists():
            return cls()
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{path} holds no operator latencies: {place}: {first['msg']}\n"
                "  Remove it; what is needed is measured again."
            ) from error


def _kernels(machine: Machine) -> tuple[object, ...]:
    """What decides which kernels run, and how fast."""
    engine = machine.versions.get("onnxruntime")
    return machine.processor, machine.features, machine.system.rpartition(" ")[2], engine
