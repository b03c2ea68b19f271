"""Which nodes may become integer kernels, and in which order they are given up.

Nodes pay as regions, and what a region costs is estimated from its nodes. So the choices that the
estimates speak for are carried out and timed as whole models, and the fastest is gone on with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.analysis.regions import joints, links
from onnxsqueeze.analysis.weight_types import weight_types
from onnxsqueeze.data.samples import evenly
from onnxsqueeze.facts.kernels import Kernels
from onnxsqueeze.facts.op_latency import KERNEL_FORMS, KernelForm
from onnxsqueeze.measure.integer_damage import integer_damage
from onnxsqueeze.measure.latency import latency
from onnxsqueeze.passes.apply import carried_out, rounded
from onnxsqueeze.passes.coverage import fallen_back
from onnxsqueeze.plan.elsewhere import elsewhere
from onnxsqueeze.plan.grids import GridEnds, all_grid_ends, explained
from onnxsqueeze.plan.in_regions import Region, apart, choose_regions, saved_ms
from onnxsqueeze.plan.quantize import IntegerChoices, choose_integer
from onnxsqueeze.plan.types import Plan, WeightChoice
from onnxsqueeze.progress import Progress
from onnxsqueeze.search.trial import Search, deadline

PAIRS = 9
"""Interleaved runs of each whole model: choices that differ by less than 3% are alike."""
SECONDS = 15.0
DAMAGE_SAMPLES = 4
"""Samples that each kernel is tried on; the same few for all, so that they compare."""
PORTABLE_FORMS: tuple[KernelForm, ...] = ("qdq", "blockwise4", "blockwise8")
"""Forms that are spelled in QuantizeLinear and DequantizeLinear."""
LEAST_SAVED_MS = 1e-4
"""What a kernel counts as saving that saves less, but holds its region together."""


@dataclass(frozen=True)
class Base:
    """The integer kernels that a search begins with.

    Attributes:
        region: What they were chosen from.
        choices: All of them.
        ranked: Their weights; those that are given up last come first.
        notes: What was found on the way.
    """

    region: Region
    choices: IntegerChoices
    ranked: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def saved_ms(self, count: int) -> float:
        """Return the time that the kernels of the first weights are estimated to save."""
        saved = _saved(self.region, self.choices)
        return sum(saved[name] for name in self.ranked[:count])

    def first(self, count: int) -> IntegerChoices:
        """Return the choices with the first weights only, and the grids that they need."""
        taken = frozenset(self.ranked[:count])
        on_grids = {name for name in taken if self.choices.forms[name] == "qdq"}
        chosen = {one.y for one in self.region.candidates if one.weight in on_grids}
        kept = apart(self.region, chosen | self.choices.joined.keys())
        left = {one.weight for one in self.region.candidates if one.y in kept}
        weights = {
            name: choice
            for name, choice in self.choices.weights.items()
            if name in left or name in taken - on_grids
        }
        joined = {y: why for y, why in self.choices.joined.items() if y in kept}
        used = {
            name
            for one in self.region.candidates
            if one.weight in left
            for name in (one.x, one.closes)
        }
        for joint in self.region.joints:
            if joint.y in joined:
                used |= {*joint.reads, joint.closes}
        grids = {name: one for name, one in self.choices.activations.items() if name in used}
        return replace(self.choices, weights=weights, activations=grids, joined=joined)


def base(
    search: Search,
    candidates: Sequence[Candidate],
    tell: Progress,
    forms: Sequence[KernelForm] = KERNEL_FORMS,
) -> Base:
    """Return the integer kernels to begin with, fastest as a whole, and their order.

    Without measurements of nodes among their like, those that pay alone are taken, and ordered by
    the time that they save.

    Args:
        search: The search; its facts hold ranges and latencies.
        candidates: Nodes that can become integer kernels.
        tell: Called with (stage, done, all).
        forms: Forms that may be used; of a portable plan those that it can spell.
    """
    grids = all_grid_ends(search.facts.ranges, search.target.calibration)
    region = _region(search, candidates, grids)
    is_measured = any(one.inside is not None for one in region.latencies.values())
    alone = choose_integer(
        candidates,
        region.latencies,
        region.ranges,
        search.limits,
        search.target.objective,
        [one for one in forms if one in PORTABLE_FORMS or not search.target.portable],
        region.types,
    )
    if not is_measured:
        return _explained(grids, Base(region, alone, _by_time(region, alone)))
    found = [alone, *_in_regions(search, region, alone)]
    fastest, notes = _fastest(search, region, found, tell)
    if not fastest.weights:
        return Base(region, fastest, (), notes)
    ranked = _by_damage(search, region, fastest, tell)
    return _explained(grids, Base(region, fastest, ranked, notes))


def _region(
    search: Search, candidates: Sequence[Candidate], grids: Mapping[str, GridEnds]
) -> Region:
    facts, target, model = search.facts, search.target, search.model
    joined = joints(model, candidates)
    kernels, latencies = facts.kernels, facts.latencies
    if target.kernels_file is not None:
        kernels = Kernels.load(Path(target.kernels_file))
        latencies = elsewhere(model, candidates, latencies, kernels)
    return Region(
        candidates,
        joined,
        links(model, candidates, joined),
        latencies,
        {name: grid.ends for name, grid in grids.items()},
        weight_types(model, candidates, kernels, latencies, portable=target.portable),
    )


def _in_regions(search: Search, region: Region, alone: IntegerChoices) -> list[IntegerChoices]:
    """Return the choices by region: with nodes without a weight, and without them.

    What pays alone without measured grids is added where its region does not.
    """
    without = replace(region, joints=(), links=links(search.model, region.candidates, ()))
    return [
        _with_dynamic(choose_regions(one, search.limits, search.target.objective), alone)
        for one in (region, without)
    ]


def _with_dynamic(made: IntegerChoices, alone: IntegerChoices) -> IntegerChoices:
    added = [
        name for name, form in alone.forms.items() if form != "qdq" and name not in made.weights
    ]
    return replace(
        made,
        weights=made.weights | {name: alone.weights[name] for name in added},
        forms=made.forms | {name: alone.forms[name] for name in added},
    )


def _fastest(
    search: Search, region: Region, found: Sequence[IntegerChoices], tell: Progress
) -> tuple[IntegerChoices, tuple[str, ...]]:
    """Return the choices whose whole model is fastest, without what fell back to floats."""
    nothing = replace(found[0], weights={}, activations={}, forms={}, joined={})
    best, speedup, notes = nothing, 1.0, list[str]()
    tried: list[IntegerChoices] = []
    for number, choices in enumerate(found):
        if choices.weights and choices not in tried:
            tried.append(choices)
            kept, ratio, missing = _timed(search, region, choices)
            notes += [f"{name}: {why}" for name, why in missing.items()]
            if ratio > speedup:
                best, speedup = kept, ratio
        tell("integer kernels as a whole", number + 1, len(found))
    if tried:
        notes.append(
            f"of {len(tried)} choice(s) of integer kernels the fastest ran the whole model "
            f"{speedup:.2f} times as fast"
            if best.weights
            else "no choice of integer kernels was faster as a whole"
        )
    return best, tuple(dict.fromkeys(notes))


def _timed(
    search: Search, region: Region, choices: IntegerChoices
) -> tuple[IntegerChoices, float, dict[str, str]]:
    """Return the choices without what fell back, their speedup as a whole, and what fell back."""
    plan = _plan(search, choices)
    made = carried_out(plan, search.model, rounded(plan, search.model, {}))
    missing = fallen_back(plan, made)
    found = latency(
        search.model,
        made,
        search.samples,
        provider=search.target.providers[0],
        pairs=PAIRS,
        seconds=SECONDS,
    )
    if missing:
        left = [name for name in choices.weights if name not in missing]
        choices = Base(region, choices, tuple(left)).first(len(left))
    return choices, found.speedup.value, missing


def _plan(search: Search, choices: IntegerChoices) -> Plan:
    return Plan(
        model_sha256=search.facts.model_sha256,
        portable=search.target.portable,
        operators=search.target.operators,
        weights=dict[str, WeightChoice](choices.weights),
        activations=choices.activations,
        joined=choices.joined,
    )


def _explained(grids: Mapping[str, GridEnds], found: Base) -> Base:
    """Return the kernels with the reasons of their grids' ends behind their own."""
    activations = explained(found.choices.activations, grids)
    return replace(found, choices=replace(found.choices, activations=activations))


def _by_time(region: Region, choices: IntegerChoices) -> tuple[str, ...]:
    """Return the chosen weights, those first whose nodes save most time."""
    saved = _saved(region, choices)
    return tuple(sorted(saved, key=lambda weight: (-saved[weight], weight)))


def _saved(region: Region, choices: IntegerChoices) -> dict[str, float]:
    saved = dict.fromkeys(choices.weights, 0.0)
    for one in region.candidates:
        if one.weight in saved:
            saved[one.weight] += saved_ms(region, one.y, choices.forms[one.weight])
    return saved


def _by_damage(
    search: Search, region: Region, choices: IntegerChoices, tell: Progress
) -> tuple[str, ...]:
    """Return the chosen weights, those first that damage least for the time that they save."""
    every = Base(region, choices, tuple(choices.weights))
    plans = {}
    for name in choices.weights:
        alone = replace(every, ranked=(name,), choices=replace(choices, joined={}))
        plans[name] = _plan(search, alone.first(1))
    count = min(DAMAGE_SAMPLES, len(search.samples))
    chosen = [search.samples[k] for k in evenly(len(search.samples), count)]
    damage = integer_damage(
        search.model,
        plans,
        chosen,
        end=deadline(search),
        progress=lambda done, total: tell("damage of single kernels", done, total),
    )
    saved = _saved(region, choices)
    price = {
        name: damage.get(name, float("inf")) / max(saved[name], LEAST_SAVED_MS)
        for name in choices.weights
    }
    return tuple(sorted(price, key=lambda weight: (price[weight], weight)))
