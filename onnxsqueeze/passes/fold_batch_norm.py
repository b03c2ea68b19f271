"""BatchNormalization taken into the linear node before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import walk
from onnxsqueeze.passes import affine
from onnxsqueeze.passes.change import done, left_alone

STEP = "fold batch normalization"
# The operator this pass is about, with its default epsilon (ONNX schema).
_EPSILON = {"BatchNormalization": 1e-5}


def fold_batch_norm(model: ir.Model) -> tuple[Change, ...]:
    """Fold ``gamma · (y - mean) / sqrt(var + epsilon) + beta`` into Conv, ConvTranspose and Gemm.

    Left alone, each with its reason: training mode, computed statistics, a node before it that is
    not linear, and what ``affine.obstacle`` names.
    """
    changes = []
    for node in list(walk.nodes(model)):
        epsilon = _EPSILON.get(node.op_type)
        if epsilon is None or node.domain:
            continue
        name = str(node.name or node.outputs[0].name)
        reason = _fold(node, node.attributes.get_float("epsilon", epsilon))
        if reason:
            changes.append(left_alone(STEP, name, node.op_type, reason))
        else:
            changes.append(done(STEP, name, node.op_type, "part of the node before it"))
    return tuple(changes)


def _fold(node: ir.Node, epsilon: float) -> str:
    """Fold one node; return why not, or an empty string."""
    trains = node.attributes.get_int("training_mode", 0) or not node.attributes.get_int(
        "spatial", 1
    )
    if trains or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return "it is in training mode"
    found = affine.producer(node.inputs[0])
    if found is None or not found[1].has_bias:
        return f"{node.inputs[0].name!r} is made by no Conv or Gemm with a constant weight"  # type: ignore[union-attr]
    statistics = [affine.constant(value) for value in node.inputs[1:5]]
    gamma, beta, mean, var = (None if v is None else v.astype(np.float64) for v in statistics)
    if gamma is None or beta is None or mean is None or var is None:
        return "its statistics are computed"
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(var + epsilon)
        shift = beta - mean * scale
    reason = affine.obstacle(found[0], node, found[1], scale, shift)
    if not reason:
        affine.fold(found[0], node, found[1], scale, shift)
    return reason
