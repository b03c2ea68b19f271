"""Nodes without a weight that can stay among integers, and what links kernels to regions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxsqueeze.analysis.grids import Candidate, closing
from onnxsqueeze.graph import walk
from onnxsqueeze.ops import integer_role, row_of
from onnxsqueeze.ops.row import Grid, inputs


@dataclass(frozen=True)
class Joint:
    """One node without a weight, as an integer kernel would see it.

    Attributes:
        node: The node's name, or that of its output where it has none.
        op_type: The operator, for the reader.
        reads: Tensors that must come from a grid.
        y: The node's output.
        closes: Tensor whose grid closes the kernel: the output, or what an absorbed clamp makes of
            it.
        low: No value of ``closes`` is below this.
        high: No value of ``closes`` is above this.
        keeps_grid: Whether output and first input must share one grid.
        reason: Why the node cannot become an integer kernel; empty where it can.
    """

    node: str
    op_type: str
    reads: tuple[str, ...]
    y: str
    closes: str
    low: float
    high: float
    keeps_grid: bool
    reason: str


@dataclass(frozen=True)
class Link:
    """A tensor between kernels.

    Attributes:
        maker: Output ``y`` of the kernel that closes with it, or None if it is made in floats.
        readers: Outputs ``y`` of the kernels that read it from a grid.
        has_others: Whether it is read in floats, too, or is an output of the model.
    """

    maker: str | None
    readers: tuple[str, ...]
    has_others: bool


def joints(model: ir.Model, candidates: Iterable[Candidate]) -> tuple[Joint, ...]:
    """Return the nodes without a weight that could run on integers beside a candidate's kernel.

    They are those of the main graph that the operator table has a grid for and that are reached
    from what able candidates write, through each other. Each has what stands against it; what can
    only run on integers where a constant has a grid, too, is left alone.

    Args:
        model: The model.
        candidates: As ``integer_candidates`` returns them.
    """
    every = [one for one in candidates if _is_float32(model, one)]
    reached = {one.closes for one in every if not one.reason and one.closes is not None}
    floats = {name for one in every for name in (one.y, one.closes) if name is not None}
    found = []
    for node in model.graph:
        row = row_of(node)
        if row is None or row.grid is None or row.linear is not None or len(node.outputs) != 1:
            continue
        grid = row.grid(node)
        reads = () if grid is None else _reads(node, grid)
        if grid is None or not reached.intersection(str(value.name) for value in reads):
            continue
        one = _joint(node, grid, reads, floats)
        found.append(one)
        if not one.reason:
            reached.add(one.closes)
            floats |= {one.y, one.closes}
    return tuple(found)


def _is_float32(model: ir.Model, one: Candidate) -> bool:
    """Return whether a candidate computes in float32; others are widened by themselves."""
    weight = model.graph.initializers.get(one.weight)
    return weight is not None and weight.dtype == ir.DataType.FLOAT


def _reads(node: ir.Node, grid: Grid) -> tuple[ir.Value, ...]:
    ports = inputs(node)
    return tuple(value for name, value in ports.items() if name.partition("[")[0] in grid.reads)


def _joint(node: ir.Node, grid: Grid, reads: Sequence[ir.Value], floats: Collection[str]) -> Joint:
    y = node.outputs[0]
    closes, low, high = y, -math.inf, math.inf
    keeps_grid = grid.writes == "same"
    if not keeps_grid:
        closes, low, high = closing(y)
    one = Joint(
        node=node.name or str(y.name),
        op_type=node.op_type,
        reads=tuple(dict.fromkeys(str(value.name) for value in reads)),
        y=str(y.name),
        closes=str(closes.name),
        low=low,
        high=high,
        keeps_grid=keeps_grid,
        reason="",
    )
    return replace(one, reason=_obstacle(reads, closes, floats))


def _obstacle(reads: Sequence[ir.Value], closes: ir.Value, floats: Collection[str]) -> str:
    for value in reads:
        if value.is_initializer() or value.producer() is None:
            return f"its input {value.name!r} is a constant or an input of the model"
        if value.dtype != ir.DataType.FLOAT and value.name not in floats:
            return f"its input {value.name!r} is not known to be FLOAT"
        if (source := value.producer()) is not None and integer_role(source) == "leave":
            return f"its input {value.name!r} comes from integers that were decided elsewhere"
    if closes.is_graph_output():
        return f"output {closes.name!r} is an output of the model"
    return ""


def links(
    model: ir.Model, candidates: Iterable[Candidate], joined: Iterable[Joint]
) -> Mapping[str, Link]:
    """Return the tensors that able kernels read or close with, by name."""
    makers: dict[str, str] = {}
    readers: dict[str, dict[str, None]] = {}
    for one in candidates:
        if not one.reason:
            readers.setdefault(one.x, {})[one.y] = None
            if one.closes is not None:
                makers[one.closes] = one.y
    for joint in joined:
        if not joint.reason:
            makers[joint.closes] = joint.y
            for name in joint.reads:
                readers.setdefault(name, {})[joint.y] = None
    values = {value.name: value for value in _tensors(model.graph)}
    return {
        name: Link(
            makers.get(name),
            tuple(readers.get(name, ())),
            _has_others(values[name], readers.get(name, {})),
        )
        for name in dict.fromkeys((*readers, *makers))
    }


def _tensors(graph: ir.Graph) -> Iterable[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _has_others(value: ir.Value, readers: Mapping[str, None]) -> bool:
    if value.is_graph_output():
        return True
    return any(str(node.outputs[0].name) not in readers for node in walk.readers(value))
