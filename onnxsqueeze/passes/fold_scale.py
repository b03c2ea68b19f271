"""A constant Mul or Add taken into the linear node before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import walk
from onnxsqueeze.passes import affine
from onnxsqueeze.passes.change import done, left_alone

STEP = "fold scale and shift"
# What each operator does with a constant operand: its scale and its shift.
_FOLLOWERS = {
    "Mul": lambda v: (v, np.zeros_like(v)),
    "Add": lambda v: (np.ones_like(v), v),
}


def fold_scale(model: ir.Model) -> tuple[Change, ...]:
    """Fold ``y * c`` and ``y + c``, with one ``c`` per output channel or one for all.

    Left alone, each with its reason: what ``affine.obstacle`` names. An Add after a MatMul, which
    takes no bias, is no candidate, nor is a node that shares what it reads with others (as in a
    hard swish).
    """
    changes = []
    for node in list(walk.nodes(model)):
        follower = _FOLLOWERS.get(node.op_type)
        if follower is None or node.domain or len(node.inputs) != 2:
            continue
        for x, c in (node.inputs, node.inputs[::-1]):
            values, found = affine.constant(c), affine.producer(x)
            if values is None or found is None:
                continue
            if not affine.is_only_reader(node, found[0].outputs[0]):
                continue
            vector = affine.per_channel(*found, values)
            if vector is None:
                continue
            scale, shift = follower(vector)
            if shift.any() and not found[1].has_bias:
                continue
            name = str(node.name or node.outputs[0].name)
            reason = affine.obstacle(found[0], node, found[1], scale, shift)
            if reason:
                changes.append(left_alone(STEP, name, node.op_type, reason))
                continue
            affine.fold(found[0], node, found[1], scale, shift)
            changes.append(done(STEP, name, node.op_type, f"part of {found[0].op_type} before it"))
            break
    return tuple(changes)
