"""Find the smallest plan within the budget: plan, apply, measure, repeat."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import onnx_ir as ir

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.records import Fidelity
from onnxsqueeze.facts.store import Store
from onnxsqueeze.measure.fidelity import Reference, fidelity_against
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.plan.choose import changes_file
from onnxsqueeze.plan.grids import all_grid_ends, explained
from onnxsqueeze.plan.make import make_plan
from onnxsqueeze.plan.quantize import IntegerChoices, choose_integer
from onnxsqueeze.plan.types import INTEGER_FORMS, Plan
from onnxsqueeze.progress import Progress, silent

LEVELS = 50
"""Damage limits that are tried: level k is ``10 ** (-k / 6)``, from 1 to 1e-8; the last is 0."""

MILDER = 4
"""Levels that stored weights give back for more integer kernels: about a fifth of the damage."""


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
    """What stays the same over all trials of one search."""

    model: ir.Model
    facts: Facts
    reference: Reference
    budget: Budget
    target: Target
    limits: Limits
    store: Store

    def trial(self, plan: Plan, level: int) -> Trial:
        """Return the plan with its measured fidelity; a plan measured before is not run again."""
        decisions = plan.model_dump_json(exclude={"notes"})
        key = {
            "model": self.facts.model_sha256,
            "data": self.reference.samples.fingerprint,
            "fitted to": self.facts.data_sha256,
            "metric": self.reference.metric.name,
            "seed": self.budget.seed,
            "provider": self.target.provider,
            "plan": hashlib.sha256(decisions.encode()).hexdigest(),
        }
        saved = self.store.get("trial", key)
        if saved is None:
            made = apply(plan, self.model, self.facts.grams, store=self.store)
            measured = fidelity_against(self.reference, made.model)
            saved = self.store.put("trial", key, measured.model_dump(mode="json"))
        return Trial(plan, Fidelity.model_validate_json(json.dumps(saved.values)), level)


def smallest(
    search: Search, progress: Progress | None = None, *, mildness: int = 0
) -> Trial | None:
    """Return the trial with the fewest bytes that is within the budget, or None if there is none.

    Levels under ``mildness`` are not tried.

    The damage limit of the plan is bisected: what is given up for fewer bytes goes to the weights
    where it costs least, and what must be given back goes to those that damage most. One level is
    then given back, since the samples that the search chose by flatter its choice.
    """
    tell = progress or silent
    deadline = _deadline(search)
    good, low, high = None, mildness, LEVELS - 1  # high is the mildest
    steps = LEVELS.bit_length() + 1
    done = 0
    while low <= high and (good is None or time.monotonic() < deadline):
        level = (low + high) // 2
        plan = at_level(search, level)
        trial = search.trial(plan, level)
        done += 1
        tell("search within the budget", min(done, steps), steps)
        if trial.is_within(search.budget):
            good, high = trial, level - 1
        else:
            low = level + 1
    if good is not None and time.monotonic() < deadline:
        good = _one_milder(search, good)
    tell("search within the budget", steps, steps)
    if good is None or not any(changes_file(choice) for choice in good.plan.weights.values()):
        return None
    return good


def _one_milder(search: Search, found: Trial) -> Trial:
    """Return the trial of the next level if it is within the budget, too, or ``found``.

    The samples that a plan was chosen on flatter it: of two that pass, the last to pass did so
    with some luck. One level is 1.7 dB.
    """
    level = found.level + 1
    if level >= LEVELS - 1:
        return found
    milder = search.trial(at_level(search, level), level)
    return milder if milder.is_within(search.budget) else found


def _deadline(search: Search) -> float:
    return time.monotonic() + (search.limits.time_limit_s or float("inf"))


def at_level(search: Search, level: int) -> Plan:
    """Return the plan whose expected damage is at most that of a level."""
    damage_limit = 10 ** (-level / 6) if level < LEVELS - 1 else 0.0
    return make_plan(search.facts, search.target, search.limits, damage_limit=damage_limit)


def with_integers(
    search: Search,
    stored: Trial,
    candidates: Sequence[Candidate],
    progress: Progress | None = None,
) -> Trial:
    """Return the trial with most integer kernels that pay within the budget, or ``stored``.

    Nodes are ranked by the time that each saves; the longest leading part of them that is within
    the budget is found by bisection. What is left of the budget beside ``stored`` may be little,
    so more kernels are tried beside milder choices, too, which make a larger file.

    Args:
        search: The search; its facts hold ranges and latencies of single nodes.
        stored: The best trial so far, whose choices stay where a node stays float.
        candidates: Nodes that can become integer kernels.
        progress: Called with (stage, done, all).
    """
    facts = search.facts
    grids = all_grid_ends(facts.ranges, search.target.calibration)
    choices = choose_integer(
        candidates,
        facts.latencies,
        {name: grid.ends for name, grid in grids.items()},
        search.limits,
        search.target.objective,
        ("qdq",) if search.target.portable else INTEGER_FORMS,
    )
    choices = replace(choices, activations=explained(choices.activations, grids))
    ranked = _ranked(choices, candidates, facts)
    tell = progress or silent
    best, count = stored, 0
    for level in (stored.level, min(stored.level + MILDER, LEVELS - 1)):
        plan = stored.plan if level == stored.level else at_level(search, level)
        with_first = partial(_merged, search, plan, choices, candidates, ranked)
        found = _most_within(search, with_first, level, range(count + 1, len(ranked) + 1), tell)
        if found is not None:
            best, count = found
    return best


def _most_within(
    search: Search, with_first: Callable[[int], Plan], level: int, counts: range, tell: Progress
) -> tuple[Trial, int] | None:
    """Return the trial with most kernels within the budget, and how many, by bisection."""
    best, deadline = None, _deadline(search)
    low, high = counts.start, counts.stop - 1
    while low <= high and time.monotonic() < deadline:
        count = (low + high + 1) // 2
        trial = search.trial(with_first(count), level)
        if trial.is_within(search.budget):
            best, low = (trial, count), count + 1
        else:
            high = count - 1
        tell("integer kernels within the budget", len(counts) - (high - low + 1), len(counts))
    return best


def _ranked(choices: IntegerChoices, candidates: Sequence[Candidate], facts: Facts) -> list[str]:
    """Return the chosen weights, those first whose nodes save most time."""
    saved: dict[str, float] = {}
    for one in candidates:
        latency = facts.latencies.get(one.y)
        if one.weight in choices.weights and latency is not None:
            integers = latency.integers[choices.forms[one.weight]]
            gain = median(latency.float_ms) - median(integers.ms)
            saved[one.weight] = saved.get(one.weight, 0.0) + gain
    return sorted(saved, key=lambda weight: (-saved[weight], weight))


def _merged(
    search: Search,
    plan: Plan,
    choices: IntegerChoices,
    candidates: Sequence[Candidate],
    ranked: Sequence[str],
    count: int,
) -> Plan:
    """Return ``plan`` with the first weights, and the grids that their nodes need, in integers."""
    taken = ranked[:count]
    weights, rows = dict(plan.weights), {w.name: w.rows for w in search.facts.weights}
    for name in taken:
        rounding = "compensated" if rows.get(name) else "nearest"
        pruned = plan.weights[name].prune_below
        update = {"rounding": rounding, "prune_below": pruned}
        weights[name] = choices.weights[name].model_copy(update=update)
    on_grids = {name for name in taken if choices.forms[name] == "qdq"}
    used = {t for one in candidates if one.weight in on_grids for t in (one.x, one.closes)}
    activations = {name: grid for name, grid in choices.activations.items() if name in used}
    return plan.model_copy(update={"weights": weights, "activations": activations})
