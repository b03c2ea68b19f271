"""Which initializers are weights, how they are read, and why the others are left alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.analysis.integers import between_integers
from onnxsqueeze.graph import walk
from onnxsqueeze.ops import integer_role, row_of
from onnxsqueeze.ops.row import Linear, inputs

SMALLEST_BYTES = 1024
"""Below this, the nodes that restore a stored weight cost about as much as is saved."""


@dataclass(frozen=True)
class Weight:
    """One initializer that is a weight for every node that reads it.

    Attributes:
        name: The initializer's name, unique in the model.
        value: Its value in the graph that owns it.
        node: The first node that reads it.
        axis: The axis whose entries have their own scales.
        role: As in ``WeightPort``.
        linear: The first reader as a matrix product, where it is one in the main graph; else None.
        shape: The weight's shape.
        size_bytes: Its bytes in the file.
    """

    name: str
    value: ir.Value
    node: ir.Node
    axis: int
    role: str
    linear: Linear | None
    shape: tuple[int, ...]
    size_bytes: int

    @property
    def input_name(self) -> str:
        """Name of the tensor that the weight is multiplied with."""
        assert self.linear is not None  # asked for linear weights only
        return inputs(self.node)[self.linear.x].name or ""


@dataclass(frozen=True)
class NotAWeight:
    """A floating-point initializer that is left alone, and why."""

    name: str
    size_bytes: int
    reason: str


def weights(model: ir.Model) -> tuple[tuple[Weight, ...], tuple[NotAWeight, ...]]:
    """Return the weights of a normalised model, and the floating-point initializers that are none.

    Small initializers (under ``SMALLEST_BYTES``) are in neither: nothing can be gained on them.
    """
    found: list[Weight] = []
    others: list[NotAWeight] = []
    for _, value in walk.initializers(model):
        tensor = value.const_value
        if tensor is None or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            continue
        if tensor.nbytes < SMALLEST_BYTES:
            continue
        outcome = _weight(value, tensor, model.graph)
        if isinstance(outcome, Weight):
            found.append(outcome)
        else:
            others.append(NotAWeight(value.name or "", tensor.nbytes, outcome))
    return tuple(found), tuple(others)


def _weight(value: ir.Value, tensor: ir.TensorProtocol, main: ir.Graph) -> Weight | str:
    readers = walk.readers(value)
    if not readers or value.is_graph_output():
        return "it is an output of the graph" if value.is_graph_output() else "no node reads it"
    axes: set[int] = set()
    roles: list[str] = []
    named: list[ir.Node] = []
    for node in readers:
        through = _through(node)
        if isinstance(through, str):
            return through
        if through:
            axes.update(1 - axis for _, axis in through)
            continue
        if integer_role(node) is not None:
            return f"{node.op_type} reads it for integers that were decided elsewhere"
        if between_integers(node):
            return "ONNX Runtime quantizes a float weight between integers by itself"
        row = row_of(node)
        if row is None:
            return f"{node.op_type} has no row in the operator table"
        ports = {port.name: port for port in (row.weights(node) if row.weights else ())}
        for name in _ports_of(node, value):
            if name not in ports:
                return f"{node.op_type} does not read it as a weight (input {name})"
            axes.add(ports[name].axis % len(tensor.shape))
            roles.append(ports[name].role)
            named.append(node)
    if len(axes) > 1:
        return "its readers take different axes as channels"
    node = named[0] if named else walk.readers(readers[0].outputs[0])[0]
    row = row_of(node)
    assert row is not None  # asked for above
    linear = row.linear(node) if row.linear and node.graph is main else None
    if linear is not None and inputs(node).get(linear.w) is not value:
        linear = None
    return Weight(
        name=value.name or "",
        value=value,
        node=node,
        axis=axes.pop(),
        role=roles[0] if roles else "linear",
        linear=linear,
        shape=tuple(tensor.shape.numpy()),
        size_bytes=tensor.nbytes,
    )


def _through(node: ir.Node) -> list[tuple[ir.Node, int]] | str:
    """Return the products that read a matrix through a Transpose, each with its channels' axis.

    Empty where the node is no such Transpose; the reason where others read what it makes.
    """
    row = row_of(node)
    if row is None or row.turns is None or row.turns(node) != (1, 0):
        return []
    turned = node.outputs[0]
    found = []
    for inner in walk.readers(turned):
        row = row_of(inner)
        blocks = None if row is None or row.blocks is None else row.blocks(inner)
        if blocks is None or inputs(inner).get(blocks.w) is not turned:
            return f"{inner.op_type} does not read it as a weight behind {node.op_type}"
        found.append((inner, blocks.axis))
    return [] if turned.is_graph_output() else found


def _ports_of(node: ir.Node, value: ir.Value) -> Iterable[str]:
    return [name for name, read in inputs(node).items() if read is value]
