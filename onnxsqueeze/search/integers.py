"""The trial with most integer kernels that pay within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.plan.grids import all_grid_ends, explained
from onnxsqueeze.plan.quantize import IntegerChoices, choose_integer
from onnxsqueeze.plan.types import INTEGER_FORMS, Plan
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.trial import LEVELS, Search, Trial, at_level, deadline

MILDER = 4
"""Levels that stored weights give back for more integer kernels: about a fifth of the damage."""


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
    best, end = None, deadline(search)
    low, high = counts.start, counts.stop - 1
    while low <= high and time.monotonic() < end:
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
