"""Operators that sum, search or normalize along axes: ReduceMean, Softmax, ArgMax, TopK, CumSum.

The axes that they go along have no tie; each other axis goes with the output's.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsqueeze.ops.axes import constant, count, known, passing, setting, varies
from onnxsqueeze.ops.row import (
    Grid,
    Port,
    Row,
    Shapes,
    Tie,
    attribute,
    homogeneous,
    outputs,
    same,
)


def _kept_ties(shapes: Shapes, reduced: set[int], *, keepdims: bool) -> list[Tie]:
    kept = [axis for axis in range(len(shapes["data"])) if axis not in reduced]
    places = kept if keepdims else range(len(kept))
    return [
        same(Port("data", axis), Port("reduced", place), shapes["data"][axis])
        for axis, place in zip(kept, places, strict=True)
    ]


def _reduced(node: ir.Node, ndim: int) -> set[int]:
    """Return the axes that a ReduceX sums over; all of them if it names none."""
    axes = setting(node, "axes")
    if axes:
        return {axis % ndim for axis in axes}
    return set() if attribute(node, "noop_with_empty_axes") else set(range(ndim))


def _reduce_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    if varies(node, "axes") or not known(shapes, "data", "reduced"):
        return []
    reduced = _reduced(node, len(shapes["data"]))
    return _kept_ties(shapes, reduced, keepdims=bool(attribute(node, "keepdims")))


def _reduce_macs(_: ir.Node, shapes: Shapes) -> int:
    return count(shapes["data"]) if "data" in shapes else 0


def _search_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    if not known(shapes, "data", "reduced"):
        return []
    axis = attribute(node, "axis") % len(shapes["data"])
    return _kept_ties(shapes, {axis}, keepdims=bool(attribute(node, "keepdims")))


def _axis_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """Softmax and its kin along one axis."""
    return passing(shapes, "input", "output", but=[attribute(node, "axis")])


def _rows_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """Softmax and its kin before opset 13: along ``axis`` and all that follow, taken as one."""
    if "input" not in shapes:
        return []
    ndim = len(shapes["input"])
    return passing(shapes, "input", "output", but=range(attribute(node, "axis") % ndim, ndim))


def _top_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    if not known(shapes, *outputs(node)):
        return []
    axis = [attribute(node, "axis")]
    return [tie for name in outputs(node) for tie in passing(shapes, "X", name, but=axis)]


def _running_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    axis = constant(node, "axis")
    return [] if axis is None else passing(shapes, "x", "y", but=[int(axis.reshape(-1)[0])])


_SUMS = ("ReduceL1", "ReduceL2", "ReduceSumSquare")
_LINEAR = ("ReduceMean", "ReduceSum")
_OTHERS = ("ReduceLogSum", "ReduceLogSumExp", "ReduceMin", "ReduceProd")

ROWS = (
    Row("Softmax", ties=_rows_ties),
    Row("Softmax", since=13, ties=_axis_ties, grid=lambda _: Grid(("input",), "own")),
    Row("LogSoftmax", ties=_rows_ties),
    Row("LogSoftmax", since=13, ties=_axis_ties),
    Row("Hardmax", ties=_rows_ties),
    Row("Hardmax", since=13, ties=_axis_ties),
    *(Row(op_type, ties=_reduce_ties, macs=_reduce_macs) for op_type in _SUMS),
    *(
        Row(op_type, ties=_reduce_ties, macs=_reduce_macs, scaling=homogeneous("data"))
        for op_type in _LINEAR
    ),
    *(Row(op_type, ties=_reduce_ties) for op_type in _OTHERS),
    Row(
        "ReduceMax",
        ties=_reduce_ties,
        grid=lambda _: Grid(("data",), "same"),
        scaling=homogeneous("data"),
    ),
    Row("ArgMax", ties=_search_ties),
    Row("ArgMin", ties=_search_ties),
    Row("TopK", since=10, ties=_top_ties),
    Row("CumSum", since=11, ties=_running_ties),
)
