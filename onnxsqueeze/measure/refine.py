"""One weight fitted to what it reads in a model that is compressed up to it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.analysis.weights import Weight
from onnxsqueeze.graph import walk
from onnxsqueeze.measure.grams import Job
from onnxsqueeze.measure.streams import Read, Streams
from onnxsqueeze.numerics.rounding import shifted
from onnxsqueeze.passes.insert_qdq import activation_grid
from onnxsqueeze.passes.round_weights import Codes, codes, pruned
from onnxsqueeze.plan.types import Plan, WeightChoice

Array = npt.NDArray[Any]


def refined(
    weight: Weight,
    choice: WeightChoice,
    seen: Streams,
    *,
    shift: bool = True,
    scores: Array | None = None,
) -> Codes:
    """Return the codes of the weight that gives the original's outputs from what is read now.

    Args:
        weight: A linear weight.
        choice: How it is kept.
        seen: Moments of its input in the original and in the model as it is now.
        shift: Whether the target makes up for the change of the input; without, it is the weight.
        scores: What each of its values is worth; None for its price after repair.
    """
    assert weight.linear is not None  # asked for linear weights only
    values = floats(weight)
    zeros = None
    if choice.prune_below is not None:
        zeros = pruned(values, choice.prune_below) == 0
    if shift:
        matrices = weight.linear.matrix(weight.node, values)
        moved = shifted(matrices, seen.gram.matrix, seen.drift, seen.gram.rows)
        values = weight.linear.tensor(weight.node, moved, weight.shape)
    return codes(values, choice, seen.gram, zeros=zeros, scores=scores)


def missing(weight: Weight, now: Array, seen: Streams) -> Array:
    """Return what the mean of each channel lacks, ``E[W x] − E[Ŵ z]``, shape (channels,).

    Args:
        weight: A linear weight, W.
        now: Ŵ, in the weight's shape.
        seen: Moments of x and z.
    """
    assert weight.linear is not None  # asked for linear weights only
    means = []
    for values, mean in ((floats(weight), seen.mean), (now, seen.mean_now)):
        matrices = weight.linear.matrix(weight.node, values)
        means.append(np.einsum("gok,gk->go", matrices, mean).reshape(-1))
    result: Array = means[0] - means[1]
    return result


def floats(weight: Weight) -> Array:
    """Return the weight's own values as float32."""
    assert weight.value.const_value is not None  # ONNX: an initializer has a value
    values: Array = weight.value.const_value.numpy().astype(np.float32)
    return values


def correctable(model: ir.Model) -> dict[str, str]:
    """Return, by weight, the initializer that its product alone adds, a value per channel."""
    values = {value.name: value for _, value in walk.initializers(model)}
    found = {}
    for one in integer_candidates(model):
        if one.bias is not None:
            bias, weight = values[one.bias], values[one.weight]
            assert bias.const_value is not None  # a candidate's bias is a constant
            is_own = len(list(bias.uses())) == len(list(weight.uses())) == 1
            if is_own and bias.const_value.size == one.channels:
                found[one.weight] = one.bias
    return found


def read_in(changed: ir.Model, plan: Plan, job: Job) -> Read:
    """Return what a job's nodes read in a changed model, where they have their outputs' names.

    Args:
        changed: The model, with neither of the job's weights compressed.
        plan: Tells what an integer kernel makes of the input.
        job: Weights of one form.
    """
    weight = job.weights[0]
    output = weight.node.outputs[0].name
    node = next(node for node in changed.graph for out in node.outputs if out.name == output)
    names = [value.name if value is not None else "" for value in weight.node.inputs]
    tensor = node.inputs[names.index(weight.input_name)]
    assert tensor is not None  # the original reads one there
    form = plan.weights[weight.name].form
    if form == "qdq":
        grid = plan.activations[weight.input_name]
        return Read(job, str(tensor.name), partial(_on_grid, low=grid.low, high=grid.high))
    return Read(job, str(tensor.name), _on_own_grid if form == "dynamic" else np.asarray)


def _on_grid(x: Array, low: float, high: float) -> Array:
    """Return ``x`` as an 8-bit grid holds it."""
    scale, zero = activation_grid(low, high)
    codes = np.clip(np.rint(x / scale) + zero, 0, 255)
    result: Array = ((codes - zero) * scale).astype(np.float32)
    return result


def _on_own_grid(x: Array) -> Array:
    """Return ``x`` as DynamicQuantizeLinear holds it: on a grid from its least to its largest."""
    if not x.size or not np.isfinite(x).all():
        return x
    return _on_grid(x, float(x.min()), float(x.max()))
