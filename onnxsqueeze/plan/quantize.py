"""Which nodes become integer kernels: those that were measured to run faster so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.config import Limits
from onnxsqueeze.facts.op_latency import OpLatency
from onnxsqueeze.plan.types import ActivationChoice, WeightChoice

LEAST_SPEEDUP = 1.05
"""Speedup of a node alone under which it stays float: activations lose accuracy for it."""

INTEGER_BITS = 8


@dataclass(frozen=True)
class IntegerChoices:
    """What becomes an integer kernel.

    Attributes:
        weights: Choices with form ``qdq``, by initializer.
        activations: Grids, by tensor.
        reasons: Why each other node stays float, by candidate output ``y``.
    """

    weights: dict[str, WeightChoice]
    activations: dict[str, ActivationChoice]
    reasons: dict[str, str]


def choose_integer(
    candidates: Sequence[Candidate],
    latencies: Mapping[str, OpLatency],
    ranges: Mapping[str, tuple[float, float]],
    limits: Limits,
    objective: Literal["size", "latency", "balanced"],
) -> IntegerChoices:
    """Return the nodes that pay in integers, with the grids that they need.

    A node pays if it alone, with its QuantizeLinear and DequantizeLinear, was measured to run at
    least 1.05 times as fast as in floats. A weight that several nodes read changes only if all of
    them pay. Nothing changes for ``size``: weights that are stored in 8 bits are as small.

    Args:
        candidates: As ``integer_candidates`` returns them.
        latencies: Measured, by candidate output ``y``.
        ranges: Ends of the tensors' grids, by tensor.
        limits: What must stay as it is, and which bit widths are allowed.
        objective: What the result should be best at.
    """
    reasons = {}
    for one in candidates:
        reason = one.reason or _refused(limits, objective, one) or _missing(one, ranges)
        reason = reason or _slow(latencies.get(one.y))
        if reason:
            reasons[one.y] = reason
    reasons |= _shared(candidates, reasons)
    chosen = [one for one in candidates if one.y not in reasons]
    return IntegerChoices(_weights(chosen, latencies), _activations(chosen, ranges), reasons)


def _refused(limits: Limits, objective: str, one: Candidate) -> str:
    if objective == "size":
        return "made for size, and weights stored in 8 bits are as small as integer kernels"
    if INTEGER_BITS not in limits.bits:
        return f"integer kernels need 8 bits, and {list(limits.bits)} are allowed"
    names = (one.node, one.weight, one.bias or one.weight)
    return "named by --keep" if limits.is_kept(*names) else ""


def _missing(one: Candidate, ranges: Mapping[str, tuple[float, float]]) -> str:
    for name in (one.x, one.closes):
        if name is None:
            continue
        if name not in ranges:
            return f"the range of {name!r} was not measured"
        low, high = ranges[name]
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            return f"{name!r} has no finite range: [{low:.6g}, {high:.6g}]"
    if one.closes is not None and ranges[one.closes][0] < one.low:
        return (
            f"{one.closes!r} reaches {ranges[one.closes][0]:.6g}, below its clamp at {one.low:.6g}"
        )
    return ""


def _slow(latency: OpLatency | None) -> str:
    if latency is None:
        return "its latency in integers was not measured"
    if not latency.fused:
        return "ONNX Runtime makes no integer kernel of it here"
    if latency.speedup.value < LEAST_SPEEDUP:
        return (
            f"integers run at {latency.speedup.value:.2f} of its float speed here, "
            f"and less than {LEAST_SPEEDUP} does not pay"
        )
    return ""


def _shared(candidates: Sequence[Candidate], reasons: Mapping[str, str]) -> dict[str, str]:
    """Return reasons for the nodes whose weight another node needs in floats."""
    staying = {one.weight: one.node for one in candidates if one.y in reasons and one.weight}
    return {
        one.y: f"weight {one.weight!r} is shared with {staying[one.weight]!r}, which stays float"
        for one in candidates
        if one.y not in reasons and one.weight in staying
    }


def _weights(
    chosen: Sequence[Candidate], latencies: Mapping[str, OpLatency]
) -> dict[str, WeightChoice]:
    return {
        one.weight: WeightChoice(
            form="qdq",
            bits=INTEGER_BITS,
            axis=one.axis,
            reason=f"its node runs {latencies[one.y].speedup.value:.2f} times as fast in integers",
        )
        for one in chosen
    }


def _activations(
    chosen: Sequence[Candidate], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, ActivationChoice]:
    """Return the grids; those that close a clamp end where the clamp does."""
    grids: dict[str, ActivationChoice] = {}
    for one in chosen:
        low, high = ranges[one.x]
        grids.setdefault(one.x, ActivationChoice(low=low, high=high, reason=f"read by {one.node}"))
    for one in chosen:
        if one.closes is not None:
            low, high = ranges[one.closes]
            grids[one.closes] = ActivationChoice(
                low=low, high=min(high, one.high), reason=f"made by {one.node}"
            )
    return grids
