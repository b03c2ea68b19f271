"""Weights that multiply what is pruned, as matrices over rows, and which units they read.

Narrow weights are read as the operator table's matrices (a Conv's im2col features). Where those
have too many features for a Gram matrix, each place of the kernel is taken by itself, over the
channels of one place: the matrix is small, and a repair is the same map for all places.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.units import Units
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.measure.grams import MOST_FEATURES, empty
from onnxsqueeze.numerics.pruning import Consumer
from onnxsqueeze.numerics.pruning_refit import Inputs
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.im2col import drawn
from onnxsqueeze.ops.row import Linear, adds, inputs, outputs

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reader:
    """A float32 initializer that one node of the main graph multiplies rows of its input with.

    Attributes:
        name: The initializer.
        node: The node.
        linear: The node as a matrix product.
        shape: Shape of the weight.
        is_wide: Whether the kernel's places are taken one by one.
    """

    name: str
    node: ir.Node
    linear: Linear
    shape: tuple[int, ...]
    is_wide: bool

    @property
    def y(self) -> str:
        """Name of the node's output."""
        return outputs(self.node)[self.linear.y].name or ""

    @property
    def features(self) -> int:
        """Columns of each of its matrices."""
        return self.dims[2]

    @property
    def dims(self) -> tuple[int, int, int]:
        """Groups, outputs and features of its matrices."""
        groups, out, features = self.matrix(empty(self.shape)).shape
        return groups, out, features

    @property
    def x(self) -> str:
        """Name of the tensor that it is multiplied with."""
        return inputs(self.node)[self.linear.x].name or ""

    def weight(self) -> Array:
        """Return its values."""
        value = inputs(self.node)[self.linear.w].const_value
        assert value is not None  # readers are made of initializers
        return value.numpy()

    def matrix(self, w: Array) -> Array:
        """Return a tensor of the weight's shape as matrices, (groups, out, features)."""
        if self.is_wide:
            return np.moveaxis(w, 1, -1).reshape(1, -1, w.shape[1])
        return self.linear.matrix(self.node, w)

    def tensor(self, matrix: Array) -> Array:
        """Return matrices as a tensor of the weight's shape: the inverse of ``matrix``."""
        if self.is_wide:
            places = matrix.reshape(self.shape[0], *self.shape[2:], self.shape[1])
            return np.ascontiguousarray(np.moveaxis(places, -1, 1))
        return self.linear.tensor(self.node, matrix, self.shape)

    def rows(self, x: Array, limit: int, rng: np.random.Generator) -> Array:
        """Return at most ``limit`` rows, (groups, rows, features), at places drawn by ``rng``.

        The places depend on the generator and on how many there are, not on the channels.
        """
        shape = self.shape
        if self.is_wide:
            shape = (*shape[:2], *(1 for _ in shape[2:]))
        return self.linear.rows(self.node, x, shape, limit, rng)

    def unit_of_feature(self, units: Units) -> Array | None:
        """Return the unit of each feature, (groups, features), or None if it reads none."""
        found = None
        for (name, axis), entries in units.entries.items():
            if name == self.name and self.is_read_along(axis):
                own = entries[self._entries(axis)[:, 0]]
                found = own if found is None else np.maximum(found, own)
        return found

    def is_read_along(self, axis: int) -> bool:
        """Return whether an axis of the weight holds features (else outputs, or whole groups)."""
        entries = self._entries(axis)
        one_per_feature = bool((entries == entries[:, :1]).all())
        return one_per_feature and not bool((entries == entries[..., :1]).all())

    def kept_outputs(self, kept: Mapping[int, Array]) -> Array:
        """Return which outputs stay, (groups, out), from the entries that stay along axes."""
        stay = np.ones(self._entries(0).shape[:2], bool)
        for axis, entries in kept.items():
            if not self.is_read_along(axis):
                stay &= np.isin(self._entries(axis)[..., 0], entries)
        return stay

    def _entries(self, axis: int) -> Array:
        """Return the entry along ``axis`` of each place of the matrices."""
        shape = [1] * len(self.shape)
        shape[axis] = self.shape[axis]
        places = np.arange(self.shape[axis]).reshape(shape)
        return self.matrix(np.broadcast_to(places, self.shape))


def readers(model: ir.Model, wide: Collection[str] = ()) -> dict[str, Reader]:
    """Return every reader of a model by the name of its weight, in the order of the graph.

    Weights that several nodes read, or that are not float32, have none.

    Args:
        model: The model.
        wide: Weights whose kernel's places are taken one by one, however few features they have:
            those of a model that this one was cut out of.
    """
    found: dict[str, Reader] = {}
    for node in model.graph:
        row = row_of(node)
        linear = row.linear(node) if row is not None and row.linear is not None else None
        if linear is None:
            continue
        value = inputs(node)[linear.w]
        tensor = value.const_value
        if tensor is None or not value.is_initializer() or tensor.dtype != ir.DataType.FLOAT:
            continue
        if len(list(value.uses())) != 1:
            continue
        shape = tuple(tensor.shape.numpy())
        groups, _, features = linear.matrix(node, empty(shape)).shape
        name = value.name or ""
        is_wide = features > MOST_FEATURES or name in wide
        if is_wide and (groups > 1 or len(shape) < 3):
            continue
        found[name] = Reader(name, node, linear, shape, is_wide)
    return found


def rows_of_output(reader: Reader, y: Array, limit: int, rng: np.random.Generator) -> Array:
    """Return the output's values at the places of ``Reader.rows``, (groups, rows, out).

    Args:
        reader: The weight; it must not be wide.
        y: The node's output, or a tensor of its shape.
        limit: As for the rows.
        rng: In the state that it had for the rows.
    """
    groups, out, _ = reader.dims
    axis = 1 if reader.linear.x_axis == 1 else -1
    flat = np.moveaxis(y, axis, -1).reshape(-1, groups * out)
    picked = flat[drawn(len(flat), limit, rng)]
    return picked.reshape(len(picked), groups, out).swapaxes(0, 1)


@dataclass(frozen=True)
class Bias:
    """Where a constant is added to a reader's product: which input of which node holds it.

    ``is_own`` tells whether the node adds it itself, so that its output includes it.
    """

    node: ir.Node
    index: int
    is_own: bool

    @property
    def values(self) -> Array:
        """The constant, one value per output."""
        value = self.node.inputs[self.index]
        assert value is not None  # a bias is an initializer
        assert value.const_value is not None
        return value.const_value.numpy()


def bias(reader: Reader) -> Bias | None:
    """Return the bias of the node itself, or of an addition behind it; None where there is none.

    Only a float32 initializer with one value per output counts.
    """
    groups, out, _ = reader.dims
    outs = reader.shape[0] if reader.is_wide else groups * out
    own = None if reader.linear.bias is None else inputs(reader.node).get(reader.linear.bias)
    if own is not None:
        index = list(reader.node.inputs).index(own)
        return Bias(reader.node, index, is_own=True) if _is_vector(own, outs) else None
    behind = _addition(outputs(reader.node)[reader.linear.y])
    if behind is None:
        return None
    node, index = behind
    added = node.inputs[index]
    return Bias(node, index, is_own=False) if added and _is_vector(added, outs) else None


def residual(reader: Reader) -> str | None:
    """Return the name of the tensor that the output is added to, or None where it is to none.

    A tensor that is itself computed from the output does not count.
    """
    y = outputs(reader.node)[reader.linear.y]
    own = bias(reader)
    start = own.node.outputs[0] if own is not None and not own.is_own else y
    behind = _addition(start)
    if behind is None:
        return None
    node, index = behind
    other = node.inputs[index]
    if other is None or other.producer() is None or _comes_from(other, y):
        return None
    return other.name


def repair(model: ir.Model, reader: Reader, matrix: Array, constant: Array | None) -> None:
    """Give a reader's weight new values, and its bias too where it has one.

    Args:
        model: The model that owns the reader; it is changed.
        reader: The weight.
        matrix: New values, (groups, out, features).
        constant: The new bias, one value per output; None leaves it.
    """
    values = reader.tensor(matrix.astype(np.float32))
    edit.set_value(inputs(reader.node)[reader.linear.w], np.ascontiguousarray(values))
    place = bias(reader)
    if place is None or constant is None:
        return
    value = place.node.inputs[place.index]
    assert value is not None  # a bias is an initializer
    new = constant.reshape(place.values.shape).astype(np.float32)
    if len(list(value.uses())) == 1:
        edit.set_value(value, new)
    else:
        taken = walk.value_names(model)
        fresh = edit.add_initializer(model.graph, f"{reader.name}.bias", new, taken)
        place.node.replace_input_with(place.index, fresh)


def _addition(value: ir.Value) -> tuple[ir.Node, int] | None:
    """Return the addition that alone reads a value, and the position of its other input."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or not adds(uses[0].node):
        return None
    return uses[0].node, 1 - uses[0].idx


def _comes_from(value: ir.Value, source: ir.Value) -> bool:
    todo, seen = [value], set[ir.Value]()
    while todo:
        current = todo.pop()
        if current is source:
            return True
        node = current.producer()
        if current in seen or node is None:
            continue
        seen.add(current)
        inner = [one for graph in walk.subgraphs(node) for one in walk.captures(graph)]
        todo += [one for one in (*node.inputs, *inner) if one is not None]
    return False


def _is_vector(value: ir.Value, outs: int) -> bool:
    tensor = value.const_value
    if tensor is None or not value.is_initializer() or tensor.dtype != ir.DataType.FLOAT:
        return False
    shape = tensor.shape.numpy()
    return len(shape) > 0 and shape[-1] == outs == tensor.size


def reading(read: Mapping[str, Reader], units: Units) -> Iterator[tuple[Reader, Array]]:
    """Yield those that read a group, with the unit of each feature, shape (groups, features)."""
    for reader in read.values():
        own = reader.unit_of_feature(units)
        if own is not None:
            yield reader, own


def consumers(
    found: Iterable[tuple[Reader, Array]],
    known: Mapping[str, Sequence[tuple[Inputs, Inputs]]],
) -> list[Consumer]:
    """Return the matrices of readers with all of their rows' moments; unknown ones are left out.

    Args:
        found: What reads a group, see ``reading``.
        known: By weight, for each matrix, moments of the rows to fit to and to choose by.
    """
    return [
        Consumer(weight, (fit + held).gram, unit)
        for reader, own in found
        if reader.name in known
        for weight, unit, (fit, held) in zip(
            reader.matrix(reader.weight()), own, known[reader.name], strict=True
        )
    ]
