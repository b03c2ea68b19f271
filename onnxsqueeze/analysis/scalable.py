"""Which axes can be scaled between what makes them and what reads them, with the same results.

For the entries of a tensor's axis that linear nodes sum over, ``x' = x / s`` and ``W' = s · W``
give the same products. The division is taken into what is there already: the rows of the weight
and bias that make the tensor, or the gain and shift of a normalization. It goes through operators
that are positively homogeneous, and to all tensors that they join; all that reads one of these
must take the factor back. Where that is not possible, one product before the readers does it.

Source:
    Nagel et al. 2019 (arXiv:1906.04721), section 4.1, for pairs of layers; Xiao et al. 2022,
    SmoothQuant (arXiv:2211.10438), section 4, for normalizations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxsqueeze.analysis.axis_ties import AxisTies, Place, axis_ties
from onnxsqueeze.graph import walk
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import Linear, Scaling, has_schema, inputs, outputs

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """A constant that takes a factor along an axis: divided by it, or multiplied with it."""

    name: str
    axis: int
    is_divided: bool


@dataclass(frozen=True)
class Scalable:
    """Entries that can be scaled.

    Attributes:
        name: The first tensor that a linear node sums over.
        dim: Number of entries, each with its own factor.
        parts: All constants that take the factors.
        readers: Weights, by name, that are multiplied with them: what sums over the entries.
        tensors: All values that become smaller by the factors.
        obstacle: Why the division needs a node of its own before the readers; empty if it is
            taken into what is there.
    """

    name: str
    dim: int
    parts: tuple[Part, ...]
    readers: tuple[str, ...]
    tensors: tuple[str, ...]
    obstacle: str = ""


@dataclass(frozen=True)
class NotScalable:
    """A tensor that linear nodes read, and why it stays as it is."""

    name: str
    reason: str


class _Obstacle(Exception):  # noqa: N818 - it never leaves this module
    """Why a walk cannot go on."""


def scalable(
    model: ir.Model, shapes: Mapping[str, Shape]
) -> tuple[tuple[Scalable, ...], tuple[NotScalable, ...]]:
    """Return what can be scaled, in the order of the graph, and what cannot.

    A tensor is in one group at most. Weights of subgraphs and functions are not looked at.

    Args:
        model: A normalised model.
        shapes: Measured shape of every tensor.
    """
    found: list[Scalable] = []
    others: list[NotScalable] = []
    seen: set[str] = set()
    for node in model.graph:
        linear = _linear(node)
        x = None if linear is None else inputs(node)[linear.x]
        if linear is None or x is None or str(x.name) in seen or str(x.name) not in shapes:
            continue
        axis = linear.x_axis % len(shapes[str(x.name)])
        outcome = _from(model, shapes, x, axis)
        if isinstance(outcome, Scalable):
            found.append(outcome)
            seen.update(outcome.tensors)
        else:
            others.append(outcome)
        seen.add(str(x.name))
    return tuple(found), tuple(others)


def _from(
    model: ir.Model, shapes: Mapping[str, Shape], x: ir.Value, axis: int
) -> Scalable | NotScalable:
    """Return what is scaled with a tensor's axis; alone before its readers, if need be."""
    name, dim = str(x.name), shapes[str(x.name)][axis]
    try:
        walked = _Walk(model.graph, shapes)
        walked.visit(x, axis)
        obstacle, tensors = "", tuple(name for name, _ in walked.places)
    except _Obstacle as found:
        obstacle, tensors = str(found), (name,)
        walked = _Walk(model.graph, shapes)
        try:
            for node in walk.readers(x):
                linear = _linear(node) if node.graph is model.graph else None
                if linear is not None and inputs(node)[linear.x] is x:
                    walked.read(node, linear, x, axis)
        except _Obstacle as reason:
            return NotScalable(name, str(reason))
    readers = tuple(
        dict.fromkeys(part.name for part in walked.parts if part.name in walked.read_by)
    )
    return Scalable(name, dim, tuple(walked.parts), readers, tensors, obstacle)


def _linear(node: ir.Node) -> Linear | None:
    """Return the node as a product with a constant matrix, if it is one."""
    row = row_of(node)
    linear = None if row is None or row.linear is None else row.linear(node)
    if linear is None:
        return None
    named = inputs(node)
    is_product = named[linear.w].const_value is not None and not _is_constant(named[linear.x])
    return linear if is_product else None


def _is_constant(value: ir.Value) -> bool:
    return value.const_value is not None and value.is_initializer()


@dataclass
class _Walk:
    """From one axis to all that must be scaled with it."""

    graph: ir.Graph
    shapes: Mapping[str, Shape]
    places: dict[Place, None] = field(default_factory=dict)
    parts: dict[Part, None] = field(default_factory=dict)
    read_by: set[str] = field(default_factory=set)
    chosen: dict[ir.Node, str] = field(default_factory=dict)

    def visit(self, value: ir.Value, axis: int) -> None:
        """Scale an axis of a tensor with all that makes and reads it."""
        waiting = [(value, axis)]
        while waiting:
            value, axis = waiting.pop()
            if (str(value.name), axis) in self.places:
                continue
            self.places[str(value.name), axis] = None
            self._check(value)
            waiting += self._made(value, axis)
            for node in walk.readers(value):
                waiting += self._read(node, value, axis)

    def _check(self, value: ir.Value) -> None:
        if value.is_graph_input() or value.is_graph_output():
            raise _Obstacle(f"{value.name!r} is an input or output of the model")
        if len({axis for name, axis in self.places if name == value.name}) > 1:
            raise _Obstacle(f"{value.name!r} would be scaled along two axes")

    def _made(self, value: ir.Value, axis: int) -> Iterator[tuple[ir.Value, int]]:
        """Divide what makes the tensor; yield other tensors that must be divided for it."""
        node = value.producer()
        if node is None:
            raise _Obstacle(f"{value.name!r} is made by no node")
        if node in self.chosen:
            return
        _check_known(node)
        ties, named, output = self._ties(node), inputs(node), _port(node, value)
        linear = _linear(node)
        if linear is not None:
            others = [name for name in named if name != linear.x]
            for own, its_axis in self._joined(node, others, ties[output, axis]):
                self._divide(own, its_axis)  # refused where it is computed
            return
        scaling = _scaling(node)
        if scaling.gains:
            if axis != scaling.gain_axis % len(self.shapes[str(value.name)]):
                raise _Obstacle(f"{node.op_type} has its gains along another axis")
            for name in scaling.gains:
                self._divide(named[name], 0)
        elif scaling.one_of:
            yield from self._factor(node, scaling, ties[output, axis])
        else:
            yield from self._joined(node, scaling.together, ties[output, axis])

    def _joined(
        self, node: ir.Node, together: Sequence[str], tied: set[Place]
    ) -> Iterator[tuple[ir.Value, int]]:
        """Yield the inputs that the output grows with; constants among them are divided."""
        named = inputs(node)
        for name in together:
            value, axes = named[name], [axis for port, axis in tied if port == name]
            if _is_constant(value) and not np.any(value.const_value.numpy()):  # type: ignore[union-attr]
                continue
            if len(axes) != 1:
                raise _Obstacle(f"input {name} of {node.op_type} is broadcast, or mixes entries")
            if _is_constant(value):
                self._divide(value, axes[0])
            else:
                yield value, axes[0]

    def _factor(
        self, node: ir.Node, scaling: Scaling, tied: set[Place]
    ) -> Iterator[tuple[ir.Value, int]]:
        """Divide one factor of a product: a constant one, or else the largest."""
        named = inputs(node)
        axes = {port: axis for port, axis in tied if port in scaling.one_of}
        for port, axis in axes.items():
            if _is_constant(named[port]):
                self._divide(named[port], axis)
                return
        variable = [port for port in axes if not _is_constant(named[port])]
        if not variable:
            raise _Obstacle(f"{node.op_type} has no factor along that axis")
        port = max(variable, key=lambda one: self._size(named[one]))
        self.chosen[node] = port
        yield named[port], axes[port]

    def _size(self, value: ir.Value) -> int:
        return int(np.prod(self.shapes.get(str(value.name), ())))

    def _read(self, node: ir.Node, value: ir.Value, axis: int) -> Iterator[tuple[ir.Value, int]]:
        """Let a reader take the factor back, or yield what becomes smaller with its input."""
        if node.graph is not self.graph:
            raise _Obstacle(f"a subgraph reads {value.name!r}")
        _check_known(node)
        named = inputs(node)
        own = [port for port, one in named.items() if one is value]
        linear = _linear(node)
        if linear is not None and own == [linear.x]:
            self.read(node, linear, value, axis)
            return
        scaling, ties = _scaling(node), self._ties(node)
        if len(own) > 1:
            raise _Obstacle(f"{node.op_type} reads {value.name!r} twice")
        port = own[0]
        if port in scaling.ignored:
            return
        if port in scaling.one_of:
            rest = [p for p in scaling.one_of if p != port and _is_constant(named[p])]
            for other in rest:
                for name, there in ties[_only(node), self._output_axis(node, port, axis)]:
                    if name == other:
                        self._multiply(named[other], there)
                        return
            if self.chosen.setdefault(node, port) != port:
                raise _Obstacle(f"both factors of {node.op_type} would be scaled")
        elif port not in scaling.together:
            raise _Obstacle(f"{node.op_type} does not go with its input {port}")
        yield from self._outputs(node, port, axis)

    def _outputs(self, node: ir.Node, port: str, axis: int) -> Iterator[tuple[ir.Value, int]]:
        there = outputs(node)
        tied = [(name, a) for name, a in self._ties(node)[port, axis] if name in there]
        if len(tied) != len(there):
            raise _Obstacle(f"{node.op_type} mixes the entries")
        for name, its_axis in tied:
            yield there[name], its_axis

    def _output_axis(self, node: ir.Node, port: str, axis: int) -> int:
        name = _only(node)
        axes = [a for other, a in self._ties(node)[port, axis] if other == name]
        if len(axes) != 1:
            raise _Obstacle(f"{node.op_type} mixes the entries")
        return axes[0]

    def read(self, node: ir.Node, linear: Linear, x: ir.Value, axis: int) -> None:
        """Multiply the axis of a linear node's weight that is summed over with an axis of x."""
        if sum(one is x for one in node.inputs) > 1:
            raise _Obstacle(f"{node.op_type} reads {x.name!r} twice")
        ties, weight = self._ties(node), inputs(node)[linear.w]
        tied = ties[linear.x, axis]
        axes = [a for port, a in tied if port == linear.w]
        if not axes:  # depthwise: entry k of x makes entry k of the output, by entry k of W
            made = [place for place in tied if place[0] == linear.y]
            axes = [a for place in made for port, a in ties[place] if port == linear.w]
        if len(axes) != 1:
            raise _Obstacle(f"{node.op_type} mixes the entries of {x.name!r} in groups")
        self._multiply(weight, axes[0])
        self.read_by.add(str(weight.name))

    def _divide(self, value: ir.Value, axis: int) -> None:
        self._take(value, Part(str(value.name), axis, is_divided=True))

    def _multiply(self, value: ir.Value, axis: int) -> None:
        self._take(value, Part(str(value.name), axis, is_divided=False))

    def _take(self, value: ir.Value, part: Part) -> None:
        tensor = value.const_value
        if tensor is None or not _is_constant(value) or value.is_graph_input():
            raise _Obstacle(f"{value.name!r} is computed")
        if tensor.dtype != ir.DataType.FLOAT:
            raise _Obstacle(f"{value.name!r} is {tensor.dtype}, no float32")
        if len(value.uses()) > 1 or value.is_graph_output() or value.graph is not self.graph:
            raise _Obstacle(f"{value.name!r} is read elsewhere too")
        self.parts[part] = None

    def _ties(self, node: ir.Node) -> AxisTies:
        return axis_ties(node, self.shapes)


def _scaling(node: ir.Node) -> Scaling:
    row = row_of(node)
    found = None if row is None or row.scaling is None else row.scaling(node)
    if found is None:
        raise _Obstacle(f"{node.op_type} does not go with every scale")
    return found


def _check_known(node: ir.Node) -> None:
    if not has_schema(node):
        raise _Obstacle(f"{node.op_type} of {node.domain} is not known here")


def _port(node: ir.Node, value: ir.Value) -> str:
    return next(name for name, one in outputs(node).items() if one is value)


def _only(node: ir.Node) -> str:
    return next(iter(outputs(node)))
