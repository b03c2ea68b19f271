"""The steps that clean a model, in order; for a large one those that leave its weights on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import walk
from onnxsqueeze.passes.change import left_alone
from onnxsqueeze.passes.clean_by_runtime import clean_by_runtime
from onnxsqueeze.passes.fold_batch_norm import fold_batch_norm
from onnxsqueeze.passes.fold_constants import fold_constants
from onnxsqueeze.passes.fold_scale import fold_scale
from onnxsqueeze.passes.make_constants import fix_defaults, inline_functions, lift_constants
from onnxsqueeze.passes.merge_duplicates import merge_duplicates
from onnxsqueeze.passes.remove_dead import remove_dead, trim_opsets
from onnxsqueeze.passes.remove_no_ops import remove_no_ops
from onnxsqueeze.passes.unique_names import unique_names
from onnxsqueeze.passes.upgrade_opset import upgrade_opset

Step = Callable[[ir.Model], tuple[Change, ...]]

STEPS: tuple[Step, ...] = (
    inline_functions,
    fix_defaults,
    lift_constants,
    remove_dead,
    unique_names,
    merge_duplicates,
    upgrade_opset,
    clean_by_runtime,
    lift_constants,
    remove_no_ops,
    fold_constants,
    fold_scale,  # a bias before a normalization would hide it
    fold_batch_norm,
    fold_scale,  # a scale after one
    remove_dead,
    merge_duplicates,
    trim_opsets,
    unique_names,
)

FOLDED_BYTES = 2**20
"""Most that a node may read that is folded in a model that is larger than memory likes."""

REWRITING: frozenset[Step] = frozenset({clean_by_runtime, fold_scale, fold_batch_norm})
"""Steps that write weights anew, so that they come to lie in memory."""


def step_name(step: Step) -> str:
    """Return what a step is called in the list of changes.

    Example:
        >>> step_name(partial(fold_constants, most_bytes=0))
        'fold constants'
    """
    made = step.func if isinstance(step, partial) else step
    return made.__name__.replace("_", " ")


def _not_rewritten(step: Step) -> Step:
    """Return a step that only says that another is left out."""

    def left_out(model: ir.Model) -> tuple[Change, ...]:
        reason = "the model is large, and its weights stay on disk as they are"
        return (left_alone(step_name(step), "model", f"{walk.node_count(model)} nodes", reason),)

    return left_out


LARGE_STEPS: tuple[Step, ...] = tuple(
    _not_rewritten(step)
    if step in REWRITING
    else partial(fold_constants, most_bytes=FOLDED_BYTES)
    if step is fold_constants
    else step
    for step in STEPS
)
"""Those of a large model: what would write weights anew is left out, and said to be."""
