"""Normalizations: BatchNormalization, LayerNormalization, InstanceNormalization.

An axis whose entries are averaged over has no tie: without one entry, the others would change.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsqueeze.ops.axes import broadcast, known, passing
from onnxsqueeze.ops.row import (
    Port,
    Row,
    Scaling,
    Shapes,
    Tie,
    attribute,
    inputs,
    outputs,
    same,
)


def _channel_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (N, C, ...), then vectors (C,) -> Y (N, C, ...)."""
    x, *vectors = inputs(node)
    y, *statistics = outputs(node)
    if not known(shapes, x, y) or statistics:
        return []
    channels = [same(Port(name, 0), Port(y, 1), shapes[y][1]) for name in vectors]
    return passing(shapes, x, y) + channels


def _batch_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    return [] if attribute(node, "training_mode") else _channel_ties(node, shapes)


def _instance_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    ties = _channel_ties(node, shapes)
    return [tie for tie in ties if tie.b.axis < 2]


def _layer_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (..., normalized), Scale and B broadcast to X -> Y as X."""
    if not known(shapes, "X", "Y") or len(outputs(node)) > 1:
        return []
    first = attribute(node, "axis") % len(shapes["X"])
    vectors = list(inputs(node))[1:]
    if not known(shapes, *vectors):
        return []
    ties = passing(shapes, "X", "Y") + broadcast(shapes, vectors, "Y")
    return [tie for tie in ties if tie.b.axis < first]


def _group_ties(_: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (N, C, ...) -> Y; the channels of a group and their places are normalized together."""
    if "X" not in shapes:
        return []
    return passing(shapes, "X", "Y", but=range(1, len(shapes["X"])))


def _local_ties(_: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (N, C, ...) -> Y; neighbouring channels divide each other."""
    return passing(shapes, "X", "Y", but=[1])


def _variance_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    return passing(shapes, "X", "Y", but=attribute(node, "axes"))


def _norm_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    return passing(shapes, "input", "output", but=[attribute(node, "axis")])


def _channel_scaling(node: ir.Node) -> Scaling | None:
    """The gain and the shift of a channel; statistics are no results that may be scaled."""
    if len(outputs(node)) > 1:
        return None
    return Scaling(gains=tuple(name for name in inputs(node) if name in _CHANNEL), gain_axis=1)


def _layer_scaling(node: ir.Node) -> Scaling | None:
    if len(outputs(node)) > 1 or attribute(node, "axis") != -1:
        return None
    return Scaling(gains=tuple(list(inputs(node))[1:]))


_CHANNEL = ("scale", "B")

ROWS = (
    Row("BatchNormalization", since=9, ties=_batch_ties, scaling=_channel_scaling),
    Row("InstanceNormalization", since=6, ties=_instance_ties, scaling=_channel_scaling),
    Row("LayerNormalization", since=17, ties=_layer_ties, scaling=_layer_scaling),
    Row("RMSNormalization", since=23, ties=_layer_ties, scaling=_layer_scaling),
    Row("GroupNormalization", since=21, ties=_group_ties),
    Row("LRN", ties=_local_ties),
    Row("MeanVarianceNormalization", since=9, ties=_variance_ties),
    Row("LpNormalization", ties=_norm_ties),
)
