"""Which weights a kernel reads in few bits with a scale per block, and what stands against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxsqueeze.analysis.grids import FLOATS, Candidate, follower_obstacle
from onnxsqueeze.numerics.blocks import SIZES
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import inputs, opset

BLOCK_OPSET = 21
"""DequantizeLinear has blocks, and knows 4-bit integers, from this opset on."""
SWAPPED = (1, 0)


@dataclass(frozen=True)
class BlockReader:
    """One node that reads a weight.

    Attributes:
        node: The node.
        place: Which of its inputs the weight is.
        through: The Transpose between weight and node, or None.
        is_lookup: Whether it looks rows up; otherwise it multiplies.
    """

    node: ir.Node
    place: int
    through: ir.Node | None
    is_lookup: bool


@dataclass(frozen=True)
class BlockWeight:
    """A matrix that may be kept in blocks, one copy for all that read it.

    Attributes:
        value: The initializer.
        axis: Axis of its channels: what is looked up by, and what products do not sum over.
        channels: Length of that axis.
        features: Length of the other axis, along which blocks lie.
        readers: All that read it, in the order of its uses.
        reason: What stands against it; empty if nothing does.
    """

    value: ir.Value
    axis: int
    channels: int
    features: int
    readers: tuple[BlockReader, ...]
    reason: str

    @property
    def products(self) -> tuple[BlockReader, ...]:
        """Readers that multiply by it."""
        return tuple(one for one in self.readers if not one.is_lookup)

    @property
    def lookups(self) -> tuple[BlockReader, ...]:
        """Readers that look rows up in it."""
        return tuple(one for one in self.readers if one.is_lookup)


def block_weight(graph: ir.Graph, value: ir.Value) -> BlockWeight:
    """Return an initializer of the main graph as a weight of blocks, with what stands against it.

    Its readers must multiply by it or look rows up in it, directly or through a Transpose, in the
    main graph, and agree on which axis is that of the channels. A product whose result is added to
    another matrix, or clamped, is no such weight; see ``follower_obstacle``.

    Args:
        graph: The main graph.
        value: The initializer.

    Source:
        The selectors of ONNX Runtime 1.32 (DQMatMulToMatMulNBits), read back from its optimized
        graphs.
    """
    tensor = value.const_value
    shape = () if tensor is None else tuple(tensor.shape.numpy())
    blank = BlockWeight(value, 0, 0, 0, (), "")
    if tensor is None or tensor.dtype not in FLOATS or len(shape) != 2:
        return replace(blank, reason="it is no matrix of floats")
    if value.is_graph_input() or value.is_graph_output():
        return replace(blank, reason="it is an input or output of the model")
    readers: list[BlockReader] = []
    axes: set[int] = set()
    for node, place, through in _uses(value):
        found = _reader(graph, node, place, through)
        if isinstance(found, str):
            return replace(blank, reason=found)
        reader, axis = found
        readers.append(reader)
        axes.add(axis if through is None else 1 - axis)
    if len(axes) != 1:
        why = "its readers take different axes as channels" if axes else "no node reads it"
        return replace(blank, reason=why)
    axis = axes.pop()
    made = BlockWeight(value, axis, shape[axis], shape[1 - axis], tuple(readers), "")
    return replace(made, reason=_obstacle(made))


def _uses(value: ir.Value) -> Iterable[tuple[ir.Node, int, ir.Node | None]]:
    """Yield the nodes that read a value, at which place, and the Transpose between, if any."""
    for use in value.uses():
        row = row_of(use.node)
        turned = use.node.outputs[0]
        is_turn = row is not None and row.turns is not None and row.turns(use.node) == SWAPPED
        if is_turn and not turned.is_graph_output():
            yield from ((inner.node, inner.idx, use.node) for inner in turned.uses())
        else:
            yield use.node, use.idx, None


def _reader(
    graph: ir.Graph, node: ir.Node, place: int, through: ir.Node | None
) -> tuple[BlockReader, int] | str:
    """Return a reader with the axis of channels as it sees them, or why it is none."""
    name, row = node.name or str(node.outputs[0].name), row_of(node)
    if node.graph is not graph:
        return f"{name!r} reads it in a subgraph"
    port = next((port for port, value in inputs(node).items() if value is node.inputs[place]), "")
    once = sum(value is node.inputs[place] for value in node.inputs) == 1
    lookup = None if row is None or row.lookup is None else row.lookup(node)
    if lookup is not None and once and port == lookup.table and through is None:
        return BlockReader(node, place, through, is_lookup=True), 0
    if row is None or row.blocks is None or row.grid is None:
        return f"{name!r} ({node.op_type}) has no kernel that reads blocks"
    blocks, grid = row.blocks(node), row.grid(node)
    if blocks is None or grid is None or port != blocks.w or not once:
        return f"{name!r} ({node.op_type}) has no kernel that reads blocks with its attributes"
    matrix = node.inputs[place]
    if inputs(node)[blocks.x].is_initializer() or matrix is None:
        return f"the input of {name!r} is a constant"
    reason = follower_obstacle(node, grid, _width(matrix, through, blocks.axis))
    return reason or (BlockReader(node, place, through, is_lookup=False), blocks.axis)


def _width(matrix: ir.Value, through: ir.Node | None, axis: int) -> int:
    source = matrix if through is None else through.inputs[0]
    assert source is not None  # ONNX: a Transpose has an input
    assert source.const_value is not None  # an initializer, by the caller
    dims = tuple(source.const_value.shape.numpy())
    return int(dims[axis] if through is None else dims[1 - axis])


def _obstacle(made: BlockWeight) -> str:
    version = opset(made.readers[0].node)
    if version < BLOCK_OPSET:
        return f"opset {version} has no blocks, opset {BLOCK_OPSET} has"
    if made.features % SIZES[0] or not made.channels:
        return f"its {made.features} features are no multiple of {SIZES[0]}"
    return ""


def in_blocks(model: ir.Model, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates as kernels of blocks would see them; their own reasons stay.

    Args:
        model: The model that the candidates are of.
        candidates: As ``integer_candidates`` returns them.
    """
    found: dict[str, str] = {}
    result = []
    for one in candidates:
        if not one.reason and one.weight not in found:
            value = model.graph.initializers[one.weight]
            found[one.weight] = block_weight(model.graph, value).reason
        result.append(one if one.reason else replace(one, reason=found[one.weight]))
    return result
