"""Integers for engines that choose kernels by themselves: which nodes, and in which order.

TensorRT takes symmetric grids, NPUs wide ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.config import Limits
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.plan.quantize import (
    activations_of,
    missing_ranges,
    refused,
    shared_with_floats,
)
from onnxsqueeze.plan.types import Grid, Plan, WeightChoice

REASONS: Mapping[Grid, str] = {
    "symmetric": "on a symmetric grid, as TensorRT takes it",
    "wide": "beside activations of 16 bits, as NPUs take it",
    "affine": "on a grid with a zero point",
}


def able(
    candidates: Sequence[Candidate],
    ranges: Mapping[str, tuple[float, float]],
    limits: Limits,
) -> tuple[Candidate, ...]:
    """Return the nodes that can run on integers; a weight's readers all do, or none.

    Which of them pay is not asked: the engine chooses the faster of int8 and float16 by itself.

    Args:
        candidates: As ``integer_candidates`` returns them.
        ranges: Ends of the tensors' values, by tensor.
        limits: What must stay as it is.
    """
    staying = {
        one.y
        for one in candidates
        if one.reason
        or refused(limits, "latency", one)
        or missing_ranges(one.x, one.closes, one.low, ranges)
    }
    shared = shared_with_floats(candidates, staying)
    return tuple(one for one in candidates if one.y not in staying and one.y not in shared)


def ranked(chosen: Sequence[Candidate], weights: Sequence[WeightFacts]) -> tuple[str, ...]:
    """Return the nodes' weights; those that damage least when rounded come first."""
    damage = {one.name: one.damage for one in weights}
    names = dict.fromkeys(one.weight for one in chosen)
    return tuple(sorted(names, key=lambda name: damage.get(name) or 0.0))


def on_grid(
    plan: Plan,
    grid: Grid,
    chosen: Sequence[Candidate],
    names: Sequence[str],
    ranges: Mapping[str, tuple[float, float]],
) -> Plan:
    """Return a plan that makes integers of the weights called ``names``, and of what they meet.

    Weights have 8 bits and a scale per channel, activations one per tensor; see ``Plan.grid``. On
    symmetric grids weights are signed, on wide ones unsigned.

    Source:
        NVIDIA TensorRT Developer Guide, "Working with Quantized Types": symmetric quantization,
        per-channel weights and per-tensor activations; Q/DQ on both inputs of a convolution.
        ONNX Runtime, QNN Execution Provider, on models for its NPU.
    """
    wanted = set(names)
    nodes = [one for one in chosen if one.weight in wanted]
    weights = dict(plan.weights)
    for one in nodes:
        weights[one.weight] = WeightChoice(
            form="qdq",
            bits=8,
            codes="int8" if grid == "symmetric" else "uint8",
            axis=one.axis,
            prune_below=plan.weights[one.weight].prune_below,
            reason=REASONS[grid],
        )
    bits = 16 if grid == "wide" else 8
    grids = {
        name: choice.model_copy(update={"bits": bits})
        for name, choice in activations_of(nodes, ranges).items()
    }
    return plan.model_copy(update={"weights": weights, "activations": grids, "grid": grid})
