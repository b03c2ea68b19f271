"""What differs between two models: interface, operators, and stored tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.summary import operators
from onnxsqueeze.graph import walk
from onnxsqueeze.numerics.error import EXACT_DB, relative_energy, sqnr_db

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """A tensor as a model holds it.

    Attributes:
        dtype: Element type, as ONNX calls it.
        shape: Its shape.
        size_bytes: Bytes in the file, of all parts together.
        parts: Initializers that it is computed of when the model loads; empty for one initializer.
    """

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorChange:
    """One tensor that differs; ``before`` or ``after`` is None where it is not there.

    ``sqnr_db`` is None where values cannot be compared: the shapes differ, one is not there, or
    they are no numbers.
    """

    name: str
    before: Stored | None
    after: Stored | None
    sqnr_db: float | None


@dataclass(frozen=True)
class Change:
    """Something with a name that differs, in words; empty where it is not there."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class ModelDiff:
    """All that differs between two models; empty fields for equal ones.

    Attributes:
        opsets: Opset versions by domain.
        interface: Inputs and outputs: types and shapes.
        operators: Numbers of nodes by operator.
        tensors: Stored tensors, those with most bytes first.
        same: Number of stored tensors that are equal to the bit.
    """

    opsets: tuple[Change, ...]
    interface: tuple[Change, ...]
    operators: tuple[Change, ...]
    tensors: tuple[TensorChange, ...]
    same: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.opsets or self.interface or self.operators or self.tensors)


@dataclass(frozen=True)
class Computed:
    """A value that a model computes from initializers alone when it loads.

    Attributes:
        value: Its name in the model.
        parts: The initializers that are named after the tensor that it stands for.
    """

    value: str
    parts: tuple[str, ...]


def restorable(model: ir.Model, names: set[str]) -> dict[str, Computed]:
    """Return what stands for tensors of these names where they are computed from initializers.

    A weight ``w`` that is stored as codes and scales is such a tensor: what is computed of them
    and read by other nodes is called ``w``, or ``w.2``, and its parts ``w.int`` and ``w.scale``.
    """
    constant: dict[ir.Value, set[ir.Value]] = {}
    for node in model.graph:
        read = [value for value in node.inputs if value is not None]
        if node.inputs and all(value in constant or _is_stored(value) for value in read):
            found = set[ir.Value]().union(*(constant.get(value, {value}) for value in read))
            constant.update(dict.fromkeys(node.outputs, found))
    made: dict[str, Computed] = {}
    for value, sources in constant.items():
        name = str(value.name)
        name = name if name in names else name.rpartition(".")[0]
        read_by = [str(reader.outputs[0].name) for reader in walk.readers(value)]
        is_last = any(not _is_of(output, name) and output != name for output in read_by)
        parts = tuple(sorted(n for n in (str(one.name) for one in sources) if _is_of(n, name)))
        if name in names and is_last and parts:
            made.setdefault(name, Computed(str(value.name), parts))
    return made


def _is_stored(value: ir.Value) -> bool:
    return value.is_initializer() and not value.is_graph_input()


def _is_of(part: str, name: str) -> bool:
    return part.startswith(f"{name}.")


def diff(
    before: ir.Model,
    after: ir.Model,
    restored_before: Mapping[str, Array] | None = None,
    restored_after: Mapping[str, Array] | None = None,
) -> ModelDiff:
    """Return what differs; tensors are compared by name.

    Args:
        before: The one model.
        after: The other.
        restored_before: Values of the tensors that are ``restorable`` in ``before``; their parts
            then count as these tensors.
        restored_after: The same of ``after``.
    """
    old, new = _Side(before, restored_before or {}), _Side(after, restored_after or {})
    changes, same = [], 0
    for name in dict.fromkeys([*old.stored, *new.stored]):
        change = _compared(name, old, new)
        if change is None:
            same += 1
        else:
            changes.append(change)
    return ModelDiff(
        opsets=_changes(_opsets(before), _opsets(after)),
        interface=_changes(_interface(before), _interface(after)),
        operators=_changes(_counts(before), _counts(after)),
        tensors=tuple(sorted(changes, key=lambda change: (-_most(change), change.name))),
        same=same,
    )


class _Side:
    """The stored tensors of one model, with those that are restored instead of their parts."""

    def __init__(self, model: ir.Model, restored: Mapping[str, Array]) -> None:
        self.restored = restored
        self.tensors = {
            str(value.name): value.const_value
            for _, value in walk.initializers(model)
            if value.const_value is not None
        }
        made = restorable(model, set(restored))
        used = {part for computed in made.values() for part in computed.parts}
        self.stored = {
            name: Stored(tensor.dtype.name, tuple(tensor.shape.numpy()), tensor.nbytes)
            for name, tensor in self.tensors.items()
            if name not in used
        }
        for name, computed in made.items():
            size_bytes = sum(self.tensors[part].nbytes for part in computed.parts)
            kind = ir.DataType.from_numpy(restored[name].dtype).name
            self.stored[name] = Stored(kind, restored[name].shape, size_bytes, computed.parts)

    def values(self, name: str) -> Array:
        return self.restored[name] if name in self.restored else self.tensors[name].numpy()


def _compared(name: str, old: _Side, new: _Side) -> TensorChange | None:
    """Return how one tensor differs, or None if it is equal in type, shape, bytes and values."""
    before, after = old.stored.get(name), new.stored.get(name)
    if before is None or after is None or before.shape != after.shape:
        return TensorChange(name, before, after, None)
    a, b = old.values(name), new.values(name)
    if a.dtype.kind in "OSU" or b.dtype.kind in "OSU":  # strings
        equal = np.array_equal(a, b)
        return None if equal and before == after else TensorChange(name, before, after, None)
    # NaN or infinite values leave no ratio; they may still be equal to the bit.
    ratio = None if np.isnan(relative_energy(a, b)) else sqnr_db(a, b)
    is_same = before == after and (ratio == EXACT_DB or a.tobytes() == b.tobytes())
    return None if is_same else TensorChange(name, before, after, ratio)


def _most(change: TensorChange) -> int:
    sides = (change.before, change.after)
    return max(side.size_bytes for side in sides if side is not None)


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    names = dict.fromkeys([*before, *after])
    pairs = ((name, before.get(name, ""), after.get(name, "")) for name in names)
    return tuple(Change(*pair) for pair in pairs if pair[1] != pair[2])


def _opsets(model: ir.Model) -> dict[str, str]:
    return {domain or "ai.onnx": str(version) for domain, version in model.opset_imports.items()}


def _counts(model: ir.Model) -> dict[str, str]:
    return {name: str(count) for name, count in operators(model).items()}


def _interface(model: ir.Model) -> dict[str, str]:
    sides = (("input", model.graph.inputs), ("output", model.graph.outputs))
    return {f"{side} {value.name}": _typed(value) for side, values in sides for value in values}


def _typed(value: ir.Value) -> str:
    dims = "?" if value.shape is None else ", ".join(str(dim) for dim in value.shape)
    dtype = "?" if value.dtype is None else value.dtype.name
    return f"{dtype} [{dims}]"
