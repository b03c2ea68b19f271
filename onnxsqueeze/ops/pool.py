"""Operators on places of (N, C, *spatial): pooling, Resize, Pad, GridSample, DepthToSpace."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.ops.axes import constant, count, known, passing, setting, varies
from onnxsqueeze.ops.row import (
    Grid,
    Port,
    Refit,
    Row,
    Shapes,
    Tie,
    attribute,
    homogeneous,
    inputs,
    outputs,
    same,
)


def _pool_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (N, C, ...) -> Y (N, C, ...); places that were taken from count through all channels."""
    x, y = next(iter(inputs(node))), next(iter(outputs(node)))
    if not known(shapes, x, y) or len(outputs(node)) > 1:
        return []
    return [same(Port(x, axis), Port(y, axis), shapes[x][axis]) for axis in (0, 1)]


def _pool_macs(node: ir.Node, shapes: Shapes) -> int:
    return count(shapes["Y"]) * count(attribute(node, "kernel_shape")) if "Y" in shapes else 0


def _global_macs(_: ir.Node, shapes: Shapes) -> int:
    return count(shapes["X"]) if "X" in shapes else 0


def _max_pool_grid(node: ir.Node) -> Grid | None:
    return Grid(("X",), "same") if len(outputs(node)) == 1 else None


def _resize_axes(node: ir.Node, ndim: int) -> list[int]:
    """Return the axes that scales and sizes speak of."""
    axes = attribute(node, "axes")
    return list(range(ndim)) if axes is None else [axis % ndim for axis in axes]


def _resize_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """Axes that keep their dim; a crop by ``roi`` may move entries even then."""
    if not known(shapes, "X", "Y") or varies(node, "scales") or varies(node, "sizes"):
        return []
    if attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return []
    scales = constant(node, "scales")
    if scales is None or scales.size == 0:
        if attribute(node, "keep_aspect_ratio_policy") not in (None, "stretch"):
            return []
        return passing(shapes, "X", "Y")
    axes = _resize_axes(node, len(shapes["X"]))
    return passing(shapes, "X", "Y", but=[a for a, s in zip(axes, scales, strict=True) if s != 1])


def _resize_refit(node: ir.Node, shapes: Shapes) -> Refit:
    sizes = constant(node, "sizes")
    if sizes is None or sizes.size == 0:
        return Refit()
    axes = _resize_axes(node, len(shapes["X"]))
    new = np.asarray([shapes["Y"][axis] for axis in axes], sizes.dtype)
    return Refit() if np.array_equal(new, sizes) else Refit(inputs={"sizes": new})


def _resize_grid(node: ir.Node) -> Grid | None:
    return Grid(("X",), "same") if attribute(node, "mode") == "nearest" else None


def _upsample_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    scales = setting(node, "scales")
    if scales is None:
        return []
    return passing(shapes, "X", "Y", but=[axis for axis, scale in enumerate(scales) if scale != 1])


def _pad_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """Axes that nothing is added to."""
    pads = setting(node, "pads")
    if pads is None or varies(node, "axes") or not known(shapes, "data", "output"):
        return []
    ndim = len(shapes["data"])
    axes = constant(node, "axes") if "axes" in inputs(node) else None
    spoken = list(range(ndim)) if axes is None else [int(axis) for axis in axes]
    padded = [a for k, a in enumerate(spoken) if pads[k] != 0 or pads[k + len(spoken)] != 0]
    return passing(shapes, "data", "output", but=padded)


def _depth_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """(N, C, H, W) -> (N, C/b², b·H, b·W); all b² channels that one output channel is made of."""
    if not known(shapes, "input", "output"):
        return []
    c, c_out = shapes["input"][1], shapes["output"][1]
    every = np.arange(c)
    made = every % c_out if attribute(node, "mode") != "CRD" else every // (c // c_out)
    return [
        same(Port("input", 0), Port("output", 0), shapes["input"][0]),
        Tie(Port("input", 1), Port("output", 1), every, made),
    ]


def _space_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """(N, C, b·H, b·W) -> (N, b²·C, H, W); all b² channels that are made of one input channel."""
    if not known(shapes, "input", "output"):
        return []
    c, c_out = shapes["input"][1], shapes["output"][1]
    every = np.arange(c_out)
    source = every % c if attribute(node, "mode") != "CRD" else every // (c_out // c)
    return [
        same(Port("input", 0), Port("output", 0), shapes["input"][0]),
        Tie(Port("output", 1), Port("input", 1), every, source),
    ]


def _sample_ties(_: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (N, C, ...), grid (N, ...) -> Y (N, C, ...)."""
    if not known(shapes, "X", "Y"):
        return []
    return [same(Port("X", 1), Port("Y", 1), shapes["X"][1])]


ROWS = (
    Row("MaxPool", ties=_pool_ties, grid=_max_pool_grid, scaling=homogeneous("X")),
    Row(
        "AveragePool",
        ties=_pool_ties,
        grid=lambda _: Grid(("X",), "own"),
        macs=_pool_macs,
        scaling=homogeneous("X"),
    ),
    Row("LpPool", since=2, ties=_pool_ties),
    Row(
        "GlobalAveragePool",
        ties=_pool_ties,
        grid=lambda _: Grid(("X",), "own"),
        macs=_global_macs,
        scaling=homogeneous("X"),
    ),
    Row("GlobalMaxPool", ties=_pool_ties, scaling=homogeneous("X")),
    Row("GlobalLpPool", since=2, ties=_pool_ties),
    Row("Resize", since=11, ties=_resize_ties, grid=_resize_grid, refit=_resize_refit),
    Row("Upsample", since=7, ties=_upsample_ties),
    Row("Pad", since=2, ties=_pad_ties),
    Row("DepthToSpace", ties=_depth_ties, grid=lambda _: Grid(("input",), "same")),
    Row("SpaceToDepth", ties=_space_ties),
    Row("GridSample", since=16, ties=_sample_ties),
)
