"""Nodes that run on integers together: what pays as a region, where no node pays alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.analysis.regions import Joint, Link
from onnxsqueeze.analysis.saturation import WeightType
from onnxsqueeze.config import Limits
from onnxsqueeze.facts.op_latency import KernelForm, OpLatency
from onnxsqueeze.plan.quantize import (
    IntegerChoices,
    activations_of,
    missing_ranges,
    refused,
    shared_with_floats,
    typed_choice,
)
from onnxsqueeze.plan.regions import Kernel, cheapest
from onnxsqueeze.plan.types import ActivationChoice, CodeType

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Region:
    """What a choice of regions is made from.

    Attributes:
        candidates: As ``integer_candidates`` returns them.
        joints: As ``analysis.regions.joints`` returns them.
        links: As ``analysis.regions.links`` returns them, of the two.
        latencies: Measured, by output ``y``.
        ranges: Ends of the tensors' grids, by tensor.
        types: Types of the weights' codes, by initializer.
    """

    candidates: Sequence[Candidate]
    joints: Sequence[Joint]
    links: Mapping[str, Link]
    latencies: Mapping[str, OpLatency]
    ranges: Ranges
    types: Mapping[str, WeightType]

    @property
    def nodes(self) -> tuple[Candidate | Joint, ...]:
        """All of them: those with a weight, then those without."""
        return (*self.candidates, *self.joints)

    def codes(self, weight: str) -> CodeType:
        """Return the type of a weight's codes."""
        return self.types[weight].dtype if weight in self.types else "uint8"


def choose_regions(
    region: Region, limits: Limits, objective: Literal["size", "latency", "balanced"]
) -> IntegerChoices:
    """Return the nodes that pay in integers together, borders included, with their grids.

    Args:
        region: What to choose from.
        limits: What must stay as it is, and which bit widths are allowed.
        objective: What the result should be best at.
    """
    against = _against(region, limits, objective)
    kernels = [
        kernel
        for one in region.nodes
        if not against[one.y] and (kernel := _kernel(region, one)) is not None
    ]
    chosen = cheapest(kernels, region.links)
    reasons = {
        one.y: against[one.y] or "its region, borders included, is no faster in integers"
        for one in region.candidates
        if one.y not in chosen
    }
    return choices_of(region, chosen, reasons)


def choices_of(
    region: Region, chosen: frozenset[str], reasons: Mapping[str, str] | None = None
) -> IntegerChoices:
    """Return the choices that make integer kernels of some nodes, by output ``y``.

    What ONNX Runtime would quantize by itself, a float weight between two of them, is prevented:
    the kernels behind it stay float.
    """
    chosen = apart(region, chosen)
    taken = [one for one in region.candidates if one.y in chosen]
    joined = [one for one in region.joints if one.y in chosen]
    forms: dict[str, KernelForm] = {one.weight: "qdq" for one in taken}
    weights = {
        one.weight: typed_choice(one, "qdq", region.types.get(one.weight), _reason(region, one))
        for one in taken
    }
    return IntegerChoices(
        weights=weights,
        activations=joined_grids(activations_of(taken, region.ranges), joined, region.ranges),
        reasons=dict(reasons or {}),
        forms=forms,
        joined={one.y: "between integer kernels" for one in joined},
    )


def apart(region: Region, chosen: Iterable[str]) -> frozenset[str]:
    """Return the chosen nodes without those behind a float weight that reads an integer kernel.

    Joints that no longer have a chosen kernel on both sides are left out, too.

    Source:
        ONNX Runtime 1.32, WeightBiasQuantization, read back from its optimized graphs: a float
        weight between DequantizeLinear and QuantizeLinear gets a grid of the engine's own.
    """
    left = set(chosen)
    while True:
        makers = {one.closes for one in region.nodes if one.y in left} - {None}
        bad = {
            y
            for one in region.candidates
            if one.y not in left and one.x in makers
            for y in _readers(region, one.closes or one.y)
            if y in left
        }
        for joint in region.joints:
            if joint.y in left:
                read = any(y in left for y in _readers(region, joint.closes))
                made = any(name in makers for name in joint.reads)
                if not (read and made):
                    bad.add(joint.y)
        if not bad:
            return frozenset(left)
        left -= bad
        left -= {
            one.y
            for one in region.candidates
            if one.weight in {other.weight for other in region.candidates if other.y in bad}
        }


def _readers(region: Region, name: str) -> tuple[str, ...]:
    link = region.links.get(name)
    return () if link is None else link.readers


def _against(region: Region, limits: Limits, objective: str) -> dict[str, str]:
    """Return what stands against each node; a weight changes with all its readers."""
    found: dict[str, str] = {}
    for one in region.candidates:
        found[one.y] = (
            one.reason
            or refused(limits, objective, one)
            or missing_ranges(one.x, one.closes, one.low, region.ranges)
        )
    staying = {one.y for one in region.candidates if found[one.y]}
    found |= shared_with_floats(region.candidates, staying)
    for joint in region.joints:
        missing = [
            missing_ranges(name, joint.closes, joint.low, region.ranges) for name in joint.reads
        ]
        found[joint.y] = joint.reason or next((why for why in missing if why), "")
        if limits.is_kept(joint.node):
            found[joint.y] = "named by --keep"
    return found


def _kernel(region: Region, one: Candidate | Joint) -> Kernel | None:
    latency = region.latencies.get(one.y)
    inside = None if latency is None else latency.inside
    if inside is None:
        return None
    weight = one.weight if isinstance(one, Candidate) else ""
    kind = region.codes(weight)
    if kind not in inside.integer_ms:
        return None
    return Kernel(
        y=one.y,
        together=f"weight {weight}" if weight else f"node {one.y}",
        float_ms=inside.float_ms,
        integer_ms=inside.integer_ms[kind],
        enter_ms=inside.enter_ms,
        leave_ms=inside.leave_ms,
    )


def _reason(region: Region, one: Candidate) -> str:
    inside = region.latencies[one.y].inside
    kind = region.codes(one.weight)
    if inside is None or inside.integer_ms.get(kind, 0.0) <= 0:
        return "its region is faster in integers"
    gain = inside.float_ms / inside.integer_ms[kind]
    return f"its kernel runs {gain:.2f} times as fast in integers, and its region pays"


def joined_grids(
    grids: Mapping[str, ActivationChoice], joined: Iterable[Joint], ranges: Ranges
) -> dict[str, ActivationChoice]:
    """Return the grids with those that nodes without a weight need, in the order of the graph."""
    found = dict(grids)
    for one in joined:
        for name in one.reads:
            low, high = ranges[name]
            found.setdefault(
                name, ActivationChoice(low=low, high=high, reason=f"read by {one.node}")
            )
        low, high = ranges[one.closes]
        grid = ActivationChoice(low=low, high=min(high, one.high), reason=f"made by {one.node}")
        if one.keeps_grid:
            before = found[one.reads[0]]
            grid = before.model_copy(update={"reason": f"moved by {one.node}"})
        found[one.closes] = grid
    return found


def saved_ms(region: Region, y: str, form: KernelForm = "qdq") -> float:
    """Return how much less time a node takes in integers, borders not counted where that is known.

    Args:
        region: What was measured.
        y: The node's output.
        form: Its form.
    """
    latency = region.latencies.get(y)
    if latency is None:
        return 0.0
    if form != "qdq" or latency.inside is None:
        times = latency.integers.get(form)
        return 0.0 if times is None else median(latency.float_ms) - median(times.ms)
    kernel = _kernel(region, next(one for one in region.nodes if one.y == y))
    return 0.0 if kernel is None else kernel.float_ms - kernel.integer_ms
