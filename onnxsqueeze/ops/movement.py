"""Operators that only move values: Reshape, Transpose, Concat, Split, Slice, Gather, Expand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from onnxsqueeze.ops.axes import (
    broadcast,
    constant,
    factored,
    known,
    numbered,
    passing,
    rank,
    setting,
    varies,
)
from onnxsqueeze.ops.dims import of_concat, of_first, of_gather, of_slice
from onnxsqueeze.ops.row import (
    Array,
    Grid,
    Lookup,
    Port,
    Refit,
    Row,
    Shapes,
    Tie,
    WeightPort,
    attribute,
    homogeneous,
    inputs,
    same,
)


def _shared(name: str) -> Grid:
    return Grid((name,), "same")


def _reshape_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """A shape that is computed in the run may not follow a cut, so nothing is tied then."""
    if varies(node, "shape") or attribute(node, "allowzero"):
        return []
    return factored(shapes, "data", "reshaped")


def _reshape_refit(node: ir.Node, shapes: Shapes) -> Refit:
    """A 0 copies the dim of the input, a -1 is whatever is left: these follow by themselves."""
    shape = constant(node, "shape")
    if shape is None:
        return Refit()
    source, new = shapes["data"], np.asarray(shapes["reshaped"], shape.dtype)
    copied = np.zeros(len(new), shape.dtype)
    copied[: len(source)] = source[: len(new)]
    follows = (shape == -1) | ((shape == 0) & (copied == new))
    refitted = np.where(follows, shape, new)
    return Refit() if np.array_equal(refitted, shape) else Refit(inputs={"shape": refitted})


def _flatten_ties(_: ir.Node, shapes: Shapes) -> list[Tie]:
    return factored(shapes, "input", "output")


def _squeeze_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """Without axes every axis of dim 1 goes, and a cut could make one more of them."""
    if varies(node, "axes") or setting(node, "axes") is None:
        return []
    return factored(shapes, "data", "squeezed")


def _unsqueeze_ties(_: ir.Node, shapes: Shapes) -> list[Tie]:
    return factored(shapes, "data", "expanded")


def _transpose_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    if not known(shapes, "data", "transposed"):
        return []
    ndim = len(shapes["data"])
    perm = attribute(node, "perm")
    perm = range(ndim)[::-1] if perm is None else perm
    return [
        same(Port("data", axis), Port("transposed", place), shapes["data"][axis])
        for place, axis in enumerate(perm)
    ]


def _stretches(
    shapes: Shapes, whole: str, parts: list[str], axis: int
) -> Iterator[tuple[Tie, Array]]:
    """Yield a tie per part to its stretch of the whole, and the entries of that stretch."""
    start = 0
    for part in parts:
        dim = shapes[part][axis]
        entries = np.arange(start, start + dim)
        yield Tie(Port(part, axis), Port(whole, axis), np.arange(dim), entries), entries
        start += dim


def _concat_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    whole, parts = "concat_result", list(inputs(node))
    if not known(shapes, whole, *parts):
        return []
    axis = attribute(node, "axis") % len(shapes[whole])
    along = [tie for tie, _ in _stretches(shapes, whole, parts, axis)]
    return along + [t for part in parts for t in passing(shapes, part, whole, but=[axis])]


def _split_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """Parts without stated sizes must stay equal, so entry k of every part goes together."""
    parts = numbered(shapes, "outputs")
    if not known(shapes, "input") or len(parts) != len(node.outputs) or varies(node, "split"):
        return []
    axis = attribute(node, "axis") % len(shapes["input"])
    dims = [shapes[part][axis] for part in parts]
    ties = [t for part in parts for t in passing(shapes, part, "input", but=[axis])]
    if sum(dims) != shapes["input"][axis]:
        return []
    along = [tie for tie, _ in _stretches(shapes, "input", parts, axis)]
    if setting(node, "split") is None:
        if len(set(dims)) > 1:
            return ties
        first = Port(parts[0], axis)
        along += [same(first, Port(part, axis), dims[0]) for part in parts[1:]]
    return ties + along


def _split_refit(node: ir.Node, shapes: Shapes) -> Refit:
    split = setting(node, "split")
    if split is None:
        return Refit()
    axis = attribute(node, "axis") % len(shapes["input"])
    new = [shapes[part][axis] for part in numbered(shapes, "outputs")]
    if new == list(split):
        return Refit()
    if "split" in node.attributes:
        return Refit({"split": new})
    return Refit(inputs={"split": np.asarray(new, np.int64)})


def _slices(node: ir.Node, ndim: int) -> dict[int, tuple[int, int, int]] | None:
    """Return (start, end, step) by axis, or None where they vary."""
    starts, ends = constant(node, "starts"), constant(node, "ends")
    if starts is None or ends is None or varies(node, "axes") or varies(node, "steps"):
        return None
    axes, steps = constant(node, "axes"), constant(node, "steps")
    axes = np.arange(len(starts)) if axes is None else axes % ndim
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    table = zip(axes.tolist(), starts.tolist(), ends.tolist(), steps.tolist(), strict=True)
    return {axis: (start, end, step) for axis, start, end, step in table}


def _slice_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """An axis that is cut short at one end only can be refitted from its new dims; others stay."""
    if not known(shapes, "data", "output"):
        return []
    slices = _slices(node, len(shapes["data"]))
    if slices is None:
        return []
    ties = passing(shapes, "data", "output", but=slices)
    for axis, place in slices.items():
        dim = shapes["data"][axis]
        taken = np.arange(dim)[slice(*place)]
        if place[2] == 1 and len(taken) and (place[0] == 0 or taken[-1] == dim - 1):
            data, output = Port("data", axis), Port("output", axis)
            ties.append(Tie(data, output, taken, np.arange(len(taken))))
    return ties


def _slice_refit(node: ir.Node, shapes: Shapes) -> Refit:
    slices = _slices(node, len(shapes["data"]))
    if slices is None:
        return Refit()
    places = []
    for axis, (start, end, step) in slices.items():
        dim, kept = shapes["data"][axis], shapes["output"][axis]
        follows = len(range(*slice(start, end, step).indices(dim))) == kept
        if not follows and start == 0:
            end = kept
        elif not follows:
            start = -kept if start < 0 else dim - kept
        places.append((start, end, step))
    if places == list(slices.values()):
        return Refit()
    starts, ends, _ = np.asarray(places, np.int64).T
    old = constant(node, "starts")
    dtype = np.int64 if old is None else old.dtype
    return Refit(inputs={"starts": starts.astype(dtype), "ends": ends.astype(dtype)})


def _gather_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """Entries that are named by number stay; every other axis passes."""
    if not known(shapes, "data", "indices", "output"):
        return []
    data, indices = shapes["data"], shapes["indices"]
    axis = attribute(node, "axis") % len(data)
    ties = [
        same(Port("data", k), Port("output", k + (len(indices) - 1) * (k > axis)), dim)
        for k, dim in enumerate(data)
        if k != axis
    ]
    named = [same(Port("indices", k), Port("output", axis + k), d) for k, d in enumerate(indices)]
    return ties + named


def _gather_lookup(node: ir.Node) -> Lookup | None:
    is_rows = rank(node, "data") == 2 and attribute(node, "axis") == 0
    return Lookup("data", "indices") if is_rows else None


def _turns(node: ir.Node) -> tuple[int, ...] | None:
    ndim, perm = rank(node, "data"), attribute(node, "perm")
    if perm is not None:
        return tuple(perm)
    return None if ndim is None else tuple(reversed(range(ndim)))


def _gather_weights(node: ir.Node) -> tuple[WeightPort, ...]:
    """Each entry of the axis that is gathered along keeps its own scale: the rows of a table."""
    ndim = rank(node, "data")
    if ndim is None or ndim < 2:
        return ()
    return (WeightPort("data", attribute(node, "axis") % ndim, "lookup"),)


def _expand_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    return [] if varies(node, "shape") else broadcast(shapes, ["input"], "output")


def _expand_refit(node: ir.Node, shapes: Shapes) -> Refit:
    """A 1 keeps the dim of the input, so it follows by itself."""
    shape = constant(node, "shape")
    if shape is None:
        return Refit()
    new = np.asarray(shapes["output"][len(shapes["output"]) - len(shape) :], shape.dtype)
    refitted = np.where(shape == 1, shape, new)
    return Refit() if np.array_equal(refitted, shape) else Refit(inputs={"shape": refitted})


def _tile_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """Entry k of every copy goes together."""
    if varies(node, "repeats") or not known(shapes, "input", "output"):
        return []
    dims = zip(shapes["input"], shapes["output"], strict=True)
    return [
        Tie(Port("output", axis), Port("input", axis), np.arange(long), np.arange(long) % dim)
        for axis, (dim, long) in enumerate(dims)
    ]


def _triangle_ties(_: ir.Node, shapes: Shapes) -> list[Tie]:
    return passing(shapes, "input", "output", but=[-1, -2])


ROWS = (
    Row(
        "Reshape",
        since=5,
        ties=_reshape_ties,
        grid=lambda _: _shared("data"),
        refit=_reshape_refit,
        scaling=homogeneous("data"),
    ),
    Row(
        "Flatten",
        ties=_flatten_ties,
        grid=lambda _: _shared("input"),
        scaling=homogeneous("input"),
    ),
    Row(
        "Squeeze",
        ties=_squeeze_ties,
        grid=lambda _: _shared("data"),
        sources=of_first,
        scaling=homogeneous("data"),
    ),
    Row(
        "Unsqueeze",
        ties=_unsqueeze_ties,
        grid=lambda _: _shared("data"),
        sources=of_first,
        scaling=homogeneous("data"),
    ),
    Row(
        "Transpose",
        ties=_transpose_ties,
        turns=_turns,
        grid=lambda _: _shared("data"),
        scaling=homogeneous("data"),
    ),
    Row(
        "Concat",
        since=4,
        ties=_concat_ties,
        grid=lambda _: Grid(("inputs",), "own"),
        sources=of_concat,
    ),
    Row("Split", since=2, ties=_split_ties, grid=lambda _: _shared("input"), refit=_split_refit),
    Row(
        "Slice",
        since=10,
        ties=_slice_ties,
        grid=lambda _: _shared("data"),
        refit=_slice_refit,
        sources=of_slice,
    ),
    Row(
        "Gather",
        weights=_gather_weights,
        lookup=_gather_lookup,
        ties=_gather_ties,
        grid=lambda _: _shared("data"),
        sources=of_gather,
    ),
    Row(
        "Expand", since=8, ties=_expand_ties, grid=lambda _: _shared("input"), refit=_expand_refit
    ),
    Row("Tile", since=6, ties=_tile_ties, grid=lambda _: _shared("input")),
    Row("Trilu", since=14, ties=_triangle_ties),
    *(
        Row(op_type, since=since)
        for op_type, since in (
            ("GatherElements", 11),
            ("GatherND", 11),
            ("ScatterElements", 11),
            ("ScatterND", 11),
            ("Compress", 9),
            ("ReverseSequence", 10),
        )
    ),
)
