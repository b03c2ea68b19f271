"""A plan that is carried out and measured, and what all trials of one search share."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data.samples import Samples
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.records import Fidelity
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph.mapped import DataFile
from onnxsqueeze.measure.fidelity import Reference, fidelity_against
from onnxsqueeze.measure.sequential import sequential
from onnxsqueeze.measure.worth import worth
from onnxsqueeze.passes.apply import Applied, apply
from onnxsqueeze.passes.apply_large import apply_large
from onnxsqueeze.passes.pads_apart import pads_apart
from onnxsqueeze.passes.scale_axes import scale_axes
from onnxsqueeze.plan.make import make_plan
from onnxsqueeze.plan.types import Order, Plan, UnitsChoice
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.runtime.shapes import Shape

LEVELS = 98
"""Damage limits that are tried: level k is ``10 ** (-k / 12)``, from 1 to 1e-8; the last is 0."""
LEVELS_PER_DECADE = 12
LARGE_FILE = "large.data"
"""Where new weights of a large model lie, in the store, until its file is written."""
GIVEN_BACK = 2
"""Levels (1.7 dB) that a search gives back, since the samples that it chose by flatter it."""


@dataclass(frozen=True)
class Trial:
    """A plan that was carried out and measured; ``level`` is how mild it is, see ``LEVELS``."""

    plan: Plan
    fidelity: Fidelity
    level: int

    def is_within(self, budget: Budget) -> bool:
        """Return whether the drop, at its interval's pessimistic end, is within the budget."""
        return self.fidelity.drop.high <= budget.max_drop


@dataclass(frozen=True)
class Search:
    """What stays the same over all trials of one search.

    Attributes:
        model: The cleaned model.
        facts: What was measured of it.
        reference: The original's outputs on held-out samples.
        budget: How much may be lost.
        target: Where the result will run.
        limits: What must not be done.
        store: Where trials and rounded weights are kept.
        samples: Calibration samples, which sequential rounding runs on.
        units: What ``model`` was narrowed to before; part of every plan.
        refit: How what reads these units was fitted; see ``Plan``.
        order: How weights are rounded in every plan; see ``Plan``.
        share: Part of the sparsity asked for that is carried out.
        is_large: Whether the weights lie on disk, and are compressed one at a time.
    """

    model: ir.Model
    facts: Facts
    reference: Reference
    budget: Budget
    target: Target
    limits: Limits
    store: Store
    samples: Samples
    units: Mapping[str, UnitsChoice] = field(default_factory=dict)
    refit: Order = "each"
    order: Order = "each"
    share: float = 1.0
    is_large: bool = False

    def applied(self, plan: Plan, progress: Progress | None = None) -> Applied:
        """Return the model with the plan carried out; see the function."""
        return applied(
            plan,
            self.model,
            self.facts,
            self.samples,
            self.store,
            seed=self.budget.seed,
            is_large=self.is_large,
            progress=progress,
        )

    def trial(self, plan: Plan, level: int, progress: Progress | None = None) -> Trial:
        """Return the plan with its measured fidelity; a plan measured before is not run again."""
        decisions = plan.model_dump_json(exclude={"notes"})
        key = {
            "model": self.facts.model_sha256,
            "data": self.reference.samples.fingerprint,
            "fitted to": self.facts.data_sha256,
            "metric": self.reference.metric.name,
            "seed": self.budget.seed,
            "provider": self.target.providers[0].model_dump(mode="json"),
            "plan": hashlib.sha256(decisions.encode()).hexdigest(),
        }
        saved = self.store.get("trial", key)
        if saved is None:
            measured = fidelity_against(self.reference, self.applied(plan, progress).model)
            saved = self.store.put("trial", key, measured.model_dump(mode="json"))
        return Trial(plan, Fidelity.model_validate_json(json.dumps(saved.values)), level)


def gained(search: Search, found: Trial, plan: Plan, progress: Progress | None = None) -> Trial:
    """Return a plan's trial if it is within the budget and loses less than ``found``, or that."""
    trial = search.trial(plan, found.level, progress)
    gains = loses_less(trial.fidelity, found.fidelity)
    return trial if gains and trial.is_within(search.budget) else found


def loses_less(one: Fidelity, other: Fidelity) -> bool:
    """Return whether the one keeps more: by the drop where the intervals lie apart.

    Where they do not, what decides is the noise of the noisiest output: few samples count few
    decisions, and two plans with as many differ by luck.
    """
    if one.drop.high < other.drop.low or other.drop.high < one.drop.low:
        return one.drop.high < other.drop.low
    noise = [min(each.sqnr_db.values(), default=0.0) for each in (one, other)]
    return noise[0] > noise[1] or (noise[0] == noise[1] and one.drop.value < other.drop.value)


def most_within(
    search: Search,
    plan_of: Callable[[int], Plan],
    level: int,
    counts: range,
    tell: Progress,
    stage: str,
    first: int | None = None,
    trials: int | None = None,
) -> tuple[Trial, int] | None:
    """Return the trial with the largest count within the budget, and that count, by bisection.

    Args:
        search: The search.
        plan_of: The plan with so many of something; with more of them more is lost.
        level: How mild the plans are.
        counts: What is tried.
        tell: Called with (stage, done, all).
        stage: What is told.
        first: The count to begin with; None for the middle.
        trials: How many are tried at most; None for as many as it takes.
    """
    best, end, done = None, deadline(search), 0
    low, high = counts.start, counts.stop - 1
    count = (low + high + 1) // 2 if first is None else first
    while low <= high and time.monotonic() < end and (trials is None or done < trials):
        trial, done = search.trial(plan_of(count), level), done + 1
        if trial.is_within(search.budget):
            best, low = (trial, count), count + 1
        else:
            high = count - 1
        tell(stage, len(counts) - (high - low + 1), len(counts))
        count = (low + high + 1) // 2
    return best


def applied(
    plan: Plan,
    model: ir.Model,
    facts: Facts,
    samples: Samples,
    store: Store,
    *,
    seed: int = 0,
    is_large: bool = False,
    progress: Progress | None = None,
) -> Applied:
    """Return the model with the plan carried out, its weights rounded in the plan's order.

    Args:
        plan: Decisions for this very model.
        model: The cleaned model; it stays as it is.
        facts: What was measured of it.
        samples: Calibration samples, for sequential rounding.
        store: Where rounded weights are kept and found again.
        seed: Seed of the choice of rows.
        is_large: Whether the weights lie on disk; new ones then go to a file of the store, which
            the next plan overwrites.
        progress: Called with (stage, done, all).

    Raises:
        PlanError: If the plan does not fit the model.
    """
    tell = progress or silent
    if is_large:
        return apply_large(
            plan,
            model,
            facts.grams,
            DataFile(store.folder / LARGE_FILE),
            store=store,
            progress=lambda done, total: tell("rounding of weights", done, total),
        )
    scaled = scale_axes(plan, model, facts.shapes, facts.grams)
    scores = worth(
        plan,
        scaled.model,
        scaled.grams,
        samples,
        store=store,
        seed=seed,
        progress=lambda done, total: tell("importance of weights", done, total),
    )
    if plan.order == "each":
        made = apply(plan, scaled.model, scaled.grams, scores=scores, store=store)
        return spelled(made, facts.shapes)
    refined = sequential(
        plan,
        scaled.model,
        scaled.grams,
        samples,
        scaled.shapes,
        store=store,
        key={"model": facts.model_sha256, "data": samples.fingerprint},
        seed=seed,
        scores=scores,
        progress=lambda done, total: tell("rounding in the order of the graph", done, total),
    )
    made = apply(
        plan,
        scaled.model,
        scaled.grams,
        made=refined.codes,
        biases=refined.biases,
        store=store,
    )
    return spelled(made, facts.shapes)


def spelled(made: Applied, shapes: Mapping[str, Shape]) -> Applied:
    """Return a made model, changed in place to the spelling of its nodes that runs fastest.

    Args:
        made: The model.
        shapes: Measured shapes by tensor.
    """
    return replace(made, changes=(*made.changes, *pads_apart(made.model, shapes)))


def deadline(search: Search) -> float:
    """Return the time, by ``time.monotonic``, at which the search should end."""
    return time.monotonic() + (search.limits.time_limit_s or float("inf"))


def at_level(search: Search, level: int, kernels: Collection[str] = ()) -> Plan:
    """Return the plan whose expected damage is at most that of a level.

    Args:
        search: The search.
        level: See ``LEVELS``.
        kernels: Weights that integer kernels will read.
    """
    damage_limit = 10 ** (-level / LEVELS_PER_DECADE) if level < LEVELS - 1 else 0.0
    plan = make_plan(
        search.facts,
        search.target,
        search.limits,
        damage_limit=damage_limit,
        share=search.share,
        kernels=kernels,
    )
    if search.order != "each":
        said = "weights are fitted in the order of the graph, each to what it reads then"
        plan = plan.model_copy(update={"order": search.order, "notes": (*plan.notes, said)})
    if not search.units:
        return plan
    return plan.model_copy(update={"units": dict(search.units), "refit": search.refit})
