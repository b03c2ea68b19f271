"""What a processor's integer kernels do: how exact each spelling is, and how fast."""

from __future__ import annotations

import hashlib
import math
import statistics
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from onnxsqueeze.errors import DataError
from onnxsqueeze.facts.records import Interval, Machine, Record

CodeType = Literal["uint8", "int8"]
SHORT = {"uint8": "u8", "int8": "s8"}


class Spelling(Record):
    """How the factors of a product are written: types of their codes, and scales of the weight."""

    activation: CodeType
    weight: CodeType
    per: Literal["tensor", "channel"]

    def __str__(self) -> str:
        return f"{SHORT[self.activation]}{SHORT[self.weight]} per {self.per}"


SPELLINGS = tuple(
    Spelling(activation=activation, weight=weight, per=per)
    for activation, weight in (("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8"))
    for per in ("tensor", "channel")
)
"""What is probed; the first type is the activation's."""


class Exactness(Record):
    """One product in one spelling, held against exact integer sums.

    Attributes:
        case: What was computed, in words.
        spelling: How.
        kernel: The integer operators that ONNX Runtime made of it; empty where it stays float.
        differences: How many outputs are off by 0, 1, 2, … steps of the output's grid, or of a
            grid over the same range where the output is float. Empty where it was refused.
        refused: ONNX Runtime's own words where it does not load or run it.
    """

    case: str
    spelling: Spelling
    kernel: str
    differences: tuple[int, ...]
    refused: str = ""

    @property
    def wrong_fraction(self) -> float:
        """Fraction of outputs that are off by more than one step: more than rounding explains."""
        return sum(self.differences[2:]) / max(sum(self.differences), 1)

    @property
    def largest(self) -> int:
        """Largest difference, in steps of the output's grid."""
        return max(len(self.differences) - 1, 0)


class Speed(Record):
    """A chain of equal nodes in floats and in integers, timed in turns.

    Attributes:
        kind: What it stands for, as ``Conv 3x3``.
        size: Its dims, by name.
        float_ms: Thread CPU time per run, in milliseconds.
        integer_ms: The same, paired with ``float_ms``, by spelling.
        speedup: Median of the paired ratios float / integer (over 1: integers are faster).
    """

    kind: str
    size: dict[str, int]
    float_ms: tuple[float, ...]
    integer_ms: dict[str, tuple[float, ...]]
    speedup: dict[str, Interval]


class Kernels(Record):
    """What this processor's integer kernels do, with raw samples.

    Attributes:
        machine: Where, and with which engine.
        provider: Execution provider, short name.
        created: When, ISO 8601.
        seconds: How long the probe took.
        exactness: One row per product and spelling.
        speeds: One row per product and size.
        left_out: Timings for which there was no time.
    """

    schema_number: Literal[1] = 1
    machine: Machine
    provider: str
    created: str
    seconds: float
    exactness: tuple[Exactness, ...]
    speeds: tuple[Speed, ...]
    left_out: tuple[str, ...] = ()

    def saturates(self, weight: CodeType, activation: CodeType = "uint8") -> bool:
        """Return whether any integer kernel for these types gave sums that are not exact."""
        return any(row.wrong_fraction > 0 for row in self._rows(activation, weight))

    def is_exact(self, weight: CodeType, activation: CodeType = "uint8") -> bool:
        """Return whether there are integer kernels for these types, and all are exact."""
        rows = self._rows(activation, weight)
        return bool(rows) and not self.saturates(weight, activation)

    def _rows(self, activation: str, weight: str) -> list[Exactness]:
        return [
            row
            for row in self.exactness
            if row.kernel
            and (row.spelling.activation, row.spelling.weight) == (activation, weight)
        ]

    def gain(self, kind: str | None = None) -> float:
        """Return how much faster int8 weights run than uint8 ones: median ratio of their times.

        Over all sizes of one kind, or of all kinds; 1.0 where nothing was timed.
        """
        unsigned, signed = (f"u8{weight} per channel" for weight in ("u8", "s8"))
        ratios = [
            statistics.median(
                a / b
                for a, b in zip(row.integer_ms[unsigned], row.integer_ms[signed], strict=True)
            )
            for row in self.speeds
            if kind in (None, row.kind) and {unsigned, signed} <= row.integer_ms.keys()
        ]
        return statistics.median(ratios) if ratios else 1.0

    def speedup(self, weight: CodeType, kind: str | None = None) -> float | None:
        """Return how much faster integers run than floats: the median over sizes of one kind.

        None where nothing of the kind was timed.
        """
        name = f"u8{SHORT[weight]} per channel"
        values = [
            row.speedup[name].value
            for row in self.speeds
            if kind in (None, row.kind) and name in row.speedup
        ]
        return statistics.median(values) if values else None

    def save(self, path: Path) -> None:
        """Write the record as JSON, moved into place when complete."""
        beside = path.with_name(path.name + ".part")
        beside.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Kernels:
        """Read a record.

        Raises:
            DataError: If the file is not there, cannot be read, or is malformed.
        """
        make = "  Make one where the result will run: onnxsqueeze doctor -o FILE"
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(
                f"{path} cannot be read as facts of a target: {error.strerror}\n{make}"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{path} holds no facts of a target: {place}: {first['msg']}\n{make}"
            ) from error


def kernel_key(machine: Machine, provider: str) -> str:
    """Return a name that is the same where the same kernels run, and runs equally fast."""
    engine = machine.versions.get("onnxruntime", "")
    architecture = machine.system.rpartition(" ")[2]
    parts = (machine.processor, *machine.features, architecture, engine, provider)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


ROWS = (1, 8, 16, 128)
"""Rows of the matrix products that are timed."""


def kind_of(w_shape: tuple[int, ...], group: int, rows: int) -> str:
    """Return the kind of product, as the probe's rows name it, that is most like a node's.

    Args:
        w_shape: Shape of the weight.
        group: Groups of a convolution.
        rows: Rows of a matrix product.

    Example:
        >>> kind_of((64, 1, 5, 5), 64, 1), kind_of((64, 32), 1, 10)
        ('Conv 3x3 depthwise', 'MatMul, 8 rows')
    """
    if len(w_shape) > 2:
        if group > 1:
            return "Conv 3x3 depthwise" if w_shape[:2] == (group, 1) else "Conv 3x3 in groups"
        return "Conv 1x1" if max(w_shape[2:]) == 1 else "Conv 3x3"
    nearest = min(ROWS, key=lambda one: abs(math.log(max(rows, 1) / one)))
    return f"MatMul, {nearest} row{'s' * (nearest > 1)}"


def summary(kernels: Kernels) -> tuple[str, ...]:
    """Return sentences for a reader: how exact each spelling is, then how fast each product.

    Speeds are ranges over the sizes that were timed; the rows have them one by one.
    """
    exact = (f"{spelling}: {_exact(kernels, spelling)}" for spelling in SPELLINGS)
    kinds = dict.fromkeys(row.kind for row in kernels.speeds)
    fast = (f"{kind}: {_fast(kernels, kind)} times its speed in floats" for kind in kinds)
    return (*exact, *fast)


def _exact(kernels: Kernels, spelling: Spelling) -> str:
    rows = [row for row in kernels.exactness if row.spelling == spelling and row.kernel]
    if not rows:
        return "no integer kernel"
    wrong = [row for row in rows if row.wrong_fraction > 0]
    if not wrong:
        return "exact"
    worst = max(wrong, key=lambda row: row.wrong_fraction)
    return (
        f"saturates in {len(wrong)} of {len(rows)} products, at worst ({worst.case}) "
        f"{worst.wrong_fraction:.0%} of the outputs are wrong, by up to {worst.largest} steps"
    )


def _fast(kernels: Kernels, kind: str) -> str:
    found: dict[str, list[float]] = {}
    for row in kernels.speeds:
        if row.kind == kind:
            for spelling, speedup in row.speedup.items():
                found.setdefault(spelling.split()[0], []).append(speedup.value)
    return ", ".join(
        f"{short} {min(values):.2f} to {max(values):.2f}" for short, values in found.items()
    )
