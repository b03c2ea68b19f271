"""Which nodes become integer kernels, and of which form: as they were measured to be fastest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

import numpy as np

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.analysis.saturation import WeightType
from onnxsqueeze.config import Limits
from onnxsqueeze.facts.op_latency import (
    KERNEL_FORMS,
    IntegerLatency,
    KernelForm,
    OpLatency,
)
from onnxsqueeze.plan.types import ActivationChoice, WeightChoice

LEAST_SPEEDUP = 1.05
"""Speedup of a node alone under which it stays float: activations lose accuracy for it."""

SAME_TIME = 1.03
"""Factor under which two times are no different; then the first of ``MILDEST`` is better."""

MILDEST: tuple[KernelForm, ...] = ("blockwise8", "dynamic", "qdq", "blockwise4")
"""From least to most damaging: blocks have scales of their own, on both sides of the product, and
grids of each run fit any input."""

INTEGER_BITS = 8
FORM_BITS: Mapping[KernelForm, int] = {
    "qdq": INTEGER_BITS,
    "dynamic": INTEGER_BITS,
    "blockwise4": 4,
    "blockwise8": 8,
}
OFFSET_BITS = 4
"""Blocks of so many bits have zero points: they cost 1.5% of the bytes and save 0.3 to 1.4 dB."""


@dataclass(frozen=True)
class IntegerChoices:
    """What becomes an integer kernel.

    Attributes:
        weights: Choices with form ``qdq``, ``dynamic`` or ``blockwise``, by initializer.
        activations: Grids, by tensor; only ``qdq`` needs them.
        reasons: Why each other node stays float, by candidate output ``y``.
        forms: The form of each of ``weights``.
        joined: Why each node without a weight runs on integers, too, by output.
    """

    weights: dict[str, WeightChoice]
    activations: dict[str, ActivationChoice]
    reasons: dict[str, str]
    forms: dict[str, KernelForm] = field(default_factory=dict)
    joined: dict[str, str] = field(default_factory=dict)


def choose_integer(
    candidates: Sequence[Candidate],
    latencies: Mapping[str, OpLatency],
    ranges: Mapping[str, tuple[float, float]],
    limits: Limits,
    objective: Literal["size", "latency", "balanced"],
    forms: Sequence[KernelForm] = KERNEL_FORMS,
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
    paying: dict[str, frozenset[KernelForm]] = {}
    for one in candidates:
        reason = one.reason or refused(limits, objective, one, forms)
        widths = limits.bits_of(one.op_type)
        against = {} if reason else _against(one, latencies.get(one.y), ranges, forms, widths)
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
    forms: Sequence[KernelForm],
    widths: Collection[int],
) -> dict[KernelForm, str]:
    """Return what stands against each form that was measured; empty where nothing does."""
    if latency is None:
        return {"qdq": _missing(one, ranges) or "its latency in integers was not measured"}
    found: dict[KernelForm, str] = {}
    for form in forms:
        if form in latency.integers:
            missing = _missing(one, ranges) if form == "qdq" else ""
            too_wide = _not_allowed((form,), widths)
            found[form] = too_wide or missing or _slow(latency.integers[form])
    return found or {forms[0]: "its latency in integers was not measured"}


def _joined(against: Mapping[KernelForm, str]) -> str:
    words = {
        "qdq": "on measured grids",
        "dynamic": "on grids of each run",
        "blockwise4": "4 bits in blocks",
        "blockwise8": "8 bits in blocks",
    }
    if len(set(against.values())) == 1:
        return next(iter(against.values()))
    return "; ".join(f"{words[form]}: {why}" for form, why in against.items())


def _fastest(
    readers: Sequence[Candidate],
    latencies: Mapping[str, OpLatency],
    paying: Mapping[str, frozenset[KernelForm]],
) -> KernelForm:
    """Return the form in which all readers of a weight together take least time, or as little."""
    able = frozenset.intersection(*(paying[one.y] for one in readers))
    times = {
        form: sum(median(latencies[one.y].integers[form].ms) for one in readers) for form in able
    }
    least = min(times.values())
    return next(form for form in MILDEST if times.get(form, np.inf) <= SAME_TIME * least)


def refused(
    limits: Limits, objective: str, one: Candidate, forms: Iterable[KernelForm] = ("qdq",)
) -> str:
    """Return what the user's wishes have against a node in any of some forms; empty if nothing."""
    if objective == "size":
        return "made for size, and weights stored in 8 bits are as small as integer kernels"
    if against := _not_allowed(forms, limits.bits_of(one.op_type)):
        return against
    names = (one.node, one.weight, one.bias or one.weight)
    return "named by --keep" if limits.is_kept(*names) else ""


def _not_allowed(forms: Iterable[KernelForm], widths: Collection[int]) -> str:
    needed = {FORM_BITS[form] for form in forms}
    if needed & set(widths):
        return ""
    words = " or ".join(str(bits) for bits in sorted(needed, reverse=True))
    return f"integer kernels need {words} bits, and {list(widths)} are allowed"


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
    paying: Mapping[str, frozenset[KernelForm]],
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
    fastest: Mapping[str, KernelForm],
    types: Mapping[str, WeightType],
) -> dict[str, WeightChoice]:
    choices = {}
    for one in chosen:
        form = fastest[one.weight]
        latency = latencies[one.y].integers[form]
        reason = f"its node runs {latency.speedup.value:.2f} times as fast in integers"
        if form == "qdq" or form == "dynamic":
            choices[one.weight] = typed_choice(one, form, types.get(one.weight), reason)
            continue
        choices[one.weight] = WeightChoice(
            form="blockwise",
            bits=4 if form == "blockwise4" else 8,
            axis=one.axis,
            block=latency.block,
            offset=FORM_BITS[form] == OFFSET_BITS,
            reason=f"{reason}, with a scale per {latency.block} values",
        )
    return choices


def typed_choice(
    one: Candidate, form: Literal["qdq", "dynamic"], kind: WeightType | None, reason: str
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
