"""Which nodes become integer kernels, and of which form: as they were measured to be fastest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

import numpy as np

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.analysis.saturation import WeightType
from onnxsqueeze.config import Limits
from onnxsqueeze.facts.op_latency import IntegerLatency, OpLatency
from onnxsqueeze.plan.types import INTEGER_FORMS, ActivationChoice, IntegerForm, WeightChoice

LEAST_SPEEDUP = 1.05
"""Speedup of a node alone under which it stays float: activations lose accuracy for it."""

SAME_TIME = 1.03
"""Factor under which two times are no different; then ``dynamic`` is better: it fits any input."""

INTEGER_BITS = 8


@dataclass(frozen=True)
class IntegerChoices:
    """What becomes an integer kernel.

    Attributes:
        weights: Choices with form ``qdq`` or ``dynamic``, by initializer.
        activations: Grids, by tensor; ``dynamic`` needs none.
        reasons: Why each other node stays float, by candidate output ``y``.
        forms: The form of each of ``weights``.
        joined: Why each node without a weight runs on integers, too, by output.
    """

    weights: dict[str, WeightChoice]
    activations: dict[str, ActivationChoice]
    reasons: dict[str, str]
    forms: dict[str, IntegerForm] = field(default_factory=dict)
    joined: dict[str, str] = field(default_factory=dict)


def choose_integer(
    candidates: Sequence[Candidate],
    latencies: Mapping[str, OpLatency],
    ranges: Mapping[str, tuple[float, float]],
    limits: Limits,
    objective: Literal["size", "latency", "balanced"],
    forms: Sequence[IntegerForm] = INTEGER_FORMS,
    types: Mapping[str, WeightType] | None = None,
) -> IntegerChoices:
    """Return the nodes that pay in integers, in their fastest form, with the grids they need.

    A form of a node pays if it alone, with what makes its activations integers, was measured to
    run at least 1.05 times as fast as in floats. A weight that several nodes read changes only if
    one form pays for all of them. Nothing changes for ``size``: weights that are stored in 8 bits
    are as small.

    Args:
        candidates: As ``integer_candidates`` returns them.
        latencies: Measured, by candidate output ``y``.
        ranges: Ends of the tensors' grids, by tensor.
        limits: What must stay as it is, and which bit widths are allowed.
        objective: What the result should be best at.
        forms: Forms that may be used.
        types: Types of the weights' codes, by initializer; without, all are unsigned.
    """
    reasons: dict[str, str] = {}
    paying: dict[str, frozenset[IntegerForm]] = {}
    for one in candidates:
        reason = one.reason or refused(limits, objective, one)
        against = {} if reason else _against(one, latencies.get(one.y), ranges, forms)
        paying[one.y] = frozenset(form for form, why in against.items() if not why)
        if not paying[one.y]:
            reasons[one.y] = reason or _joined(against)
    reasons |= _shared(candidates, reasons, paying)
    chosen = [one for one in candidates if one.y not in reasons]
    fastest = {
        name: _fastest([one for one in chosen if one.weight == name], latencies, paying)
        for name in dict.fromkeys(one.weight for one in chosen)
    }
    on_grids = [one for one in chosen if fastest[one.weight] == "qdq"]
    return IntegerChoices(
        _weights(chosen, latencies, fastest, types or {}),
        activations_of(on_grids, ranges),
        reasons,
        fastest,
    )


def _against(
    one: Candidate,
    latency: OpLatency | None,
    ranges: Mapping[str, tuple[float, float]],
    forms: Sequence[IntegerForm],
) -> dict[IntegerForm, str]:
    """Return what stands against each form that was measured; empty where nothing does."""
    if latency is None:
        return {"qdq": _missing(one, ranges) or "its latency in integers was not measured"}
    found: dict[IntegerForm, str] = {}
    for form in forms:
        if form in latency.integers:
            missing = _missing(one, ranges) if form == "qdq" else ""
            found[form] = missing or _slow(latency.integers[form])
    return found or {forms[0]: "its latency in integers was not measured"}


def _joined(against: Mapping[IntegerForm, str]) -> str:
    words = {"qdq": "on measured grids", "dynamic": "on grids of each run"}
    if len(set(against.values())) == 1:
        return next(iter(against.values()))
    return "; ".join(f"{words[form]}: {why}" for form, why in against.items())


def _fastest(
    readers: Sequence[Candidate],
    latencies: Mapping[str, OpLatency],
    paying: Mapping[str, frozenset[IntegerForm]],
) -> IntegerForm:
    """Return the form in which all readers of a weight together take least time."""
    able = frozenset.intersection(*(paying[one.y] for one in readers))
    times = {
        form: sum(median(latencies[one.y].integers[form].ms) for one in readers) for form in able
    }
    if times.get("dynamic", np.inf) <= SAME_TIME * times.get("qdq", np.inf):
        return "dynamic"
    return "qdq"


def refused(limits: Limits, objective: str, one: Candidate) -> str:
    """Return what the user's wishes have against a node in integers; empty if nothing."""
    if objective == "size":
        return "made for size, and weights stored in 8 bits are as small as integer kernels"
    widths = limits.bits_of(one.op_type)
    if INTEGER_BITS not in widths:
        return f"integer kernels need 8 bits, and {list(widths)} are allowed"
    names = (one.node, one.weight, one.bias or one.weight)
    return "named by --keep" if limits.is_kept(*names) else ""


def _missing(one: Candidate, ranges: Mapping[str, tuple[float, float]]) -> str:
    return missing_ranges(one.x, one.closes, one.low, ranges)


def missing_ranges(
    x: str, closes: str | None, least: float, ranges: Mapping[str, tuple[float, float]]
) -> str:
    """Return why a node's tensors cannot have grids; empty if they can.

    Args:
        x: What it reads.
        closes: What its grid closes, or None.
        least: No value of that is below this.
        ranges: Ends of the tensors' grids, by tensor.
    """
    for name in (x, closes):
        if name is None:
            continue
        if name not in ranges:
            return f"the range of {name!r} was not measured"
        low, high = ranges[name]
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            return f"{name!r} has no finite range: [{low:.6g}, {high:.6g}]"
    if closes is not None and ranges[closes][0] < least:
        return f"{closes!r} reaches {ranges[closes][0]:.6g}, below its clamp at {least:.6g}"
    return ""


def _slow(latency: IntegerLatency) -> str:
    if not latency.fused:
        return "ONNX Runtime makes no integer kernel of it here"
    if latency.speedup.value < LEAST_SPEEDUP:
        return (
            f"integers run at {latency.speedup.value:.2f} of its float speed here, "
            f"and less than {LEAST_SPEEDUP} does not pay"
        )
    return ""


def shared_with_floats(
    candidates: Sequence[Candidate], staying: Collection[str]
) -> dict[str, str]:
    """Return reasons for the nodes whose weight another node needs in floats, by output.

    Args:
        candidates: All nodes.
        staying: Outputs of those that stay float.
    """
    floats = {one.weight: one.node for one in candidates if one.y in staying and one.weight}
    return {
        one.y: f"weight {one.weight!r} is shared with {floats[one.weight]!r}, which stays float"
        for one in candidates
        if one.y not in staying and one.weight in floats
    }


def _shared(
    candidates: Sequence[Candidate],
    reasons: Mapping[str, str],
    paying: Mapping[str, frozenset[IntegerForm]],
) -> dict[str, str]:
    """Return reasons for the nodes whose weight another node needs in floats, or in one form."""
    found = shared_with_floats(candidates, reasons)
    for one in candidates:
        if one.y in reasons or one.y in found:
            continue
        readers = [other for other in candidates if other.weight == one.weight]
        if not frozenset.intersection(*(paying[other.y] for other in readers)):
            names = sorted(other.node for other in readers)
            found[one.y] = f"no form of integers pays for all readers of {one.weight!r}: {names}"
    return found


def _weights(
    chosen: Sequence[Candidate],
    latencies: Mapping[str, OpLatency],
    fastest: Mapping[str, IntegerForm],
    types: Mapping[str, WeightType],
) -> dict[str, WeightChoice]:
    choices = {}
    for one in chosen:
        form = fastest[one.weight]
        speedup = latencies[one.y].integers[form].speedup.value
        reason = f"its node runs {speedup:.2f} times as fast in integers"
        choices[one.weight] = typed_choice(one, form, types.get(one.weight), reason)
    return choices


def typed_choice(
    one: Candidate, form: IntegerForm, kind: WeightType | None, reason: str
) -> WeightChoice:
    """Return the choice that makes integers of a candidate's weight, in codes of a type."""
    choice = WeightChoice(form=form, bits=INTEGER_BITS, axis=one.axis, reason=reason)
    if kind is None or kind.dtype == "uint8":
        return choice
    signed = {"codes": kind.dtype, "paired": kind.paired, "reason": f"{reason}; {kind.reason}"}
    return choice.model_copy(update=signed)


def activations_of(
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
