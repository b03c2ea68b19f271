"""Which entries of which tensors live or die together: channels, neurons and attention heads.

Every entry of every axis of every tensor is a point; a tie of the operator table joins two of
them. The connected components are what can be removed as a whole. Those that touch what must stay
(inputs and outputs of the model, an axis that an operator normalises or sums over, an operator
that the table does not know, what a subgraph reads, an axis whose length varies) are frozen, with
the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.graph import walk
from onnxsqueeze.ops import integer_role, row_of
from onnxsqueeze.ops.row import Row, Tie, inputs, outputs, ports

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Place = tuple[str, int]
"""A tensor by name, and one of its axes."""


@dataclass(frozen=True)
class Units:
    """What is removed together: channels, neurons or heads with all that belongs to them.

    Attributes:
        name: What it is called in plans and reports.
        count: Number of units.
        entries: Unit of each entry of an axis, by (tensor, axis); -1 for entries of no unit.
    """

    name: str
    count: int
    entries: Mapping[Place, Array]


def staying(unit: Array, kept: Array) -> Array:
    """Return which entries stay, by their units: those of no unit, and those of kept units.

    Example:
        >>> staying(np.array([0, 1, -1, 2]), np.array([1])).tolist()
        [False, True, True, False]
    """
    stays: Array = (unit < 0) | np.isin(unit, kept)
    return stays


@dataclass(frozen=True)
class Frozen:
    """An axis of a weight that cannot be cut, and why."""

    weight: str
    axis: int
    reason: str


@dataclass(frozen=True)
class Dependencies:
    """What can be cut out of a model, and what cannot."""

    units: tuple[Units, ...]
    frozen: tuple[Frozen, ...]


class Points:
    """Numbers every entry of every axis, and finds which of them are joined.

    Attributes:
        start: Number of the first entry of each axis.
        dim: Length of each axis.
        total: Number of all entries.
        reasons: Why an axis stays as it is.
        made: Axes of weight matrices along which the rows of an output are made.
        read: Axes of weight matrices that are summed over with those of another input.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.start: dict[Place, int] = {}
        self.dim: dict[Place, int] = {}
        total = 0
        for name, shape in shapes.items():
            for axis, dim in enumerate(shape):
                self.start[name, axis], self.dim[name, axis] = total, dim
                total += dim
        self.total = total
        self._pairs: list[tuple[Array, Array]] = []
        self.reasons: dict[Place, str] = {}
        self.made: set[Place] = set()
        self.read: set[Place] = set()

    def join(self, a: Place, a_index: Array, b: Place, b_index: Array) -> None:
        """Let entry ``a_index[k]`` of one axis go with entry ``b_index[k]`` of the other."""
        self._pairs.append((self.start[a] + a_index, self.start[b] + b_index))

    def freeze(self, place: Place, reason: str) -> None:
        """Keep an axis as it is, for the reason given first."""
        if place in self.start:
            self.reasons.setdefault(place, reason)

    def components(self) -> Array:
        """Return for every point the least point that it is joined with.

        Source:
            Label propagation with pointer jumping, as in Shiloach and Vishkin 1982.
        """
        label = np.arange(self.total)
        if not self._pairs:
            return label
        a, b = (np.concatenate(side) for side in zip(*self._pairs, strict=True))
        while True:
            least = np.minimum(label[a], label[b])
            before = label.copy()
            for end in (a, b):
                np.minimum.at(label, before[end], least)
                np.minimum.at(label, end, least)
            label = label[label]
            if np.array_equal(label, before):
                return label

    def of(self, place: Place) -> slice:
        """Return where the points of an axis are."""
        return slice(self.start[place], self.start[place] + self.dim[place])


def dependencies(model: ir.Model, shapes: Sequence[Mapping[str, Shape]]) -> Dependencies:
    """Return what can be removed as a whole, and which axes of weights are frozen, with reasons.

    Args:
        model: A normalised model.
        shapes: Measured shapes by tensor, of one run or several; an axis that differs is frozen.
    """
    first = shapes[0]
    points = joined(model, first)
    for other in shapes[1:]:
        for name, shape in first.items():
            for axis in range(len(shape)):
                if other.get(name, shape)[axis : axis + 1] != shape[axis : axis + 1]:
                    points.freeze((name, axis), "its length varies between samples")
    for value in model.graph.inputs:
        _freeze_all(points, value, first, "it is an input of the model")
    for value in model.graph.outputs:
        _freeze_all(points, value, first, "it is an output of the model")
    label = points.components()
    reasons = _spread(points, label)
    found = tuple(_grouped(points, label, reasons, model))
    return Dependencies(found, tuple(_frozen(points, label, reasons, model)))


def joined(model: ir.Model, shapes: Mapping[str, Shape]) -> Points:
    """Return the points of all tensors, joined by what the operator table ties."""
    points = Points(shapes)
    for node in model.graph:
        _tie(points, node, shapes)
    return points


def _freeze_all(points: Points, value: ir.Value, shapes: Mapping[str, Shape], reason: str) -> None:
    name = str(value.name)
    for axis in range(len(shapes.get(name, ()))):
        points.freeze((name, axis), reason)


def _freeze_node(points: Points, node: ir.Node, shapes: Mapping[str, Shape], reason: str) -> None:
    for value in (*node.inputs, *node.outputs):
        if value is not None:
            _freeze_all(points, value, shapes, reason)


def _tie(points: Points, node: ir.Node, shapes: Mapping[str, Shape]) -> None:
    """Join what the node's row ties; freeze each axis that it does not mention."""
    for graph in walk.subgraphs(node):
        for captured in walk.captures(graph):
            _freeze_all(points, captured, shapes, f"a subgraph of {node.op_type} reads it")
    row = row_of(node)
    if integer_role(node) is not None:
        reason = f"{node.op_type} holds integers, which stay as they are"
        _freeze_node(points, node, shapes, reason)
        return
    if row is None or row.ties is None:
        _freeze_node(points, node, shapes, f"the table does not say what {node.op_type} ties")
        return
    there = ports(node)
    known = {n: shapes[str(v.name)] for n, v in there.items() if str(v.name) in shapes}
    for value in there.values():
        if str(value.name) not in shapes:  # that port might need the same cut
            for other in there.values():
                _freeze_all(points, other, shapes, f"the shape of {value.name!r} is unknown")
    used: set[tuple[str, int]] = set()
    ties = row.ties(node, known)
    for tie in ties:
        used |= {(tie.a.name, tie.a.axis), (tie.b.name, tie.b.axis)}
        _join(points, there, tie)
    _note_weights(points, node, row, ties)
    for port, value in there.items():
        for axis, dim in enumerate(known.get(port, ())):
            if (port, axis) not in used and dim > 1:
                reason = f"{node.op_type} ties axis {axis} to nothing"
                points.freeze((str(value.name), axis), reason)


def _note_weights(points: Points, node: ir.Node, row: Row, ties: Sequence[Tie]) -> None:
    """Note which axes of the node's weights make an output's entries, and which read an input's.

    The ties tell: an axis that goes with one of the output makes it, one that goes with another
    input's is summed over with it.
    """
    reads, makes = inputs(node), outputs(node)
    weights = {w.name for w in row.weights(node)} if row.weights is not None else set()
    for tie in ties:
        for here, there in ((tie.a, tie.b), (tie.b, tie.a)):
            value = reads.get(here.name)
            if here.name not in weights or value is None or not value.is_initializer():
                continue
            place = (str(value.name), here.axis)
            if there.name in makes:
                points.made.add(place)
            elif there.name in reads and there.name != here.name:
                points.read.add(place)


def _join(points: Points, there: Mapping[str, ir.Value], tie: Tie) -> None:
    if tie.a.name not in there or tie.b.name not in there:  # an optional one that is absent
        return
    a, b = ((str(there[port.name].name), port.axis) for port in (tie.a, tie.b))
    if a in points.start and b in points.start:
        points.join(a, tie.a_index, b, tie.b_index)


def _spread(points: Points, label: Array) -> dict[int, str]:
    """Return the reason of each component that touches something frozen."""
    found: dict[int, str] = {}
    for place, reason in points.reasons.items():
        for one in np.unique(label[points.of(place)]).tolist():
            found.setdefault(one, f"{place[0]!r}, axis {place[1]}: {reason}")
    return found


def _grouped(
    points: Points, label: Array, reasons: Mapping[int, str], model: ir.Model
) -> Iterator[Units]:
    """Yield the components that may go, those that touch the same axes alike as one group.

    A weight matrix must make them and another must read them, or there is nothing to fit after
    they are gone.
    """
    weights = _matrices(model)
    made, read = ({p for p in side if p[0] in weights} for side in (points.made, points.read))
    touched: dict[int, list[Place]] = {}
    for place in points.start:
        # Axes of dim 1 count too: a unit that is all of an axis shares its places with no other.
        for one in np.unique(label[points.of(place)]).tolist():
            if one not in reasons:
                touched.setdefault(one, []).append(place)
    same: dict[tuple[tuple[Place, int], ...], list[int]] = {}
    for one, places in sorted(touched.items()):
        if not made.isdisjoint(places) and not read.isdisjoint(places):
            counts = (int((label[points.of(place)] == one).sum()) for place in places)
            same.setdefault(tuple(zip(places, counts, strict=True)), []).append(one)
    names: set[str] = set()
    for key, ones in same.items():
        if len(ones) > 1:
            places = [place for place, _ in key]
            first = next(name for name, _ in places if name not in model.graph.initializers)
            yield _units(points, label, walk.unused_name(first, names), places, ones)


def _matrices(model: ir.Model) -> set[str]:
    """Return the float initializers of two axes or more: what it pays to cut."""
    return {
        name
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
        and len(value.const_value.shape) > 1
        and value.const_value.dtype.is_floating_point()
    }


def _units(
    points: Points, label: Array, name: str, places: Sequence[Place], ones: Sequence[int]
) -> Units:
    number = np.full(points.total, -1)
    number[list(ones)] = np.arange(len(ones))
    return Units(name, len(ones), {place: number[label[points.of(place)]] for place in places})


def _frozen(
    points: Points, label: Array, reasons: Mapping[int, str], model: ir.Model
) -> Iterator[Frozen]:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or len(tensor.shape) < 2:
            continue
        for axis in range(len(tensor.shape)):
            place = (name, axis)
            if points.dim.get(place, 1) < 2:
                continue
            ones = np.unique(label[points.of(place)]).tolist()
            why = [reasons[one] for one in ones if one in reasons]
            if why:
                yield Frozen(name, axis, why[0])
