"""The trial with most integer kernels that pay within the budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.facts.op_latency import KERNEL_FORMS, KernelForm
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.cutting import affordable_stages
from onnxsqueeze.search.kernels import Base, base
from onnxsqueeze.search.refined import better, lowest, sequential
from onnxsqueeze.search.scalings import helpful
from onnxsqueeze.search.trial import LEVELS, Search, Trial, at_level, deadline, most_within

LEAST_MILD_BITS = 7
MILD_FORMS: tuple[KernelForm, ...] = ("qdq", "dynamic", "blockwise8")
"""Forms of kernels with so many bits or more."""
STAGE = "integer kernels within the budget"
MILDER = 8
"""Levels that weights give back for more integer kernels: about a fifth of the damage."""
TRIALS = {"quick": 2, "standard": 4, "thorough": 8}
"""Plans with the same kernels that are tried for fewer bytes."""


def with_integers(
    search: Search,
    stored: Trial,
    candidates: Sequence[Candidate],
    progress: Progress | None = None,
) -> Trial:
    """Return the trial with most integer kernels that pay within the budget, or ``stored``.

    Nodes are ranked by what they damage for the time that they save; the longest leading part of
    them that is within the budget beside milder choices than those of ``stored`` is found by
    bisection, so that what damages most stays float. Where rounding in the graph's order is
    better, more kernels are tried with that. What is then left of the budget is spent on fewer
    bytes, of weights that are only stored and of the kernels' codes alike. Where 4 bits
    are fastest and not all such weights keep to the budget, all is tried without 4 bits, too.

    Args:
        search: The search; its facts hold ranges and latencies of single nodes.
        stored: The best trial so far, whose choices stay where a node stays float.
        candidates: Nodes that can become integer kernels.
        progress: Called with (stage, done, all).
    """
    tell = progress or silent
    best, saved_ms = stored, 0.0
    for forms in (KERNEL_FORMS, MILD_FORMS):
        found = base(search, candidates, tell, forms)
        trial, count = _most_beside(search, stored, found, tell)
        if found.saved_ms(count) > saved_ms:
            best, saved_ms = trial, found.saved_ms(count)
        is_coarse = any(one.bits < LEAST_MILD_BITS for one in found.choices.weights.values())
        if not is_coarse or count == len(found.ranked):
            break
    return best


def _most_beside(search: Search, stored: Trial, found: Base, tell: Progress) -> tuple[Trial, int]:
    """Return the smallest trial with most of the kernels that some level has, and how many."""
    end = deadline(search)
    if not found.ranked or time.monotonic() >= end:
        return stored, 0
    whole = _merged(search, stored.level, found, len(found.ranked))
    even = helpful(search, whole, stored.level, tell)

    def plan_of(level: int, count: int) -> Plan:
        return even.on(_merged(search, level, found, count))

    level, every = min(stored.level + MILDER, LEVELS - 1), len(found.ranked)
    most = most_within(
        search, partial(plan_of, level), level, range(1, every + 1), tell, STAGE, first=every
    )
    if most is None:
        return stored, 0
    (trial, count), trials = most, TRIALS[search.limits.effort]
    again = _again(search, trial, tell)
    if again is trial:
        return lowest(search, trial, partial(plan_of, count=count), trials, tell), count

    def in_sequence(level: int, count: int) -> Plan:
        return sequential(plan_of(level, count))

    trial, trials = again, trials // 2  # each takes as long as many of the others
    more, plans = range(count + 1, every + 1), partial(in_sequence, level)
    most = most_within(search, plans, level, more, tell, STAGE, first=every, trials=trials)
    trial, count = most or (trial, count)
    return lowest(search, trial, partial(in_sequence, count=count), trials, tell), count


def _again(search: Search, found: Trial, tell: Progress) -> Trial:
    """Return the trial rounded in the graph's order where that is better, and worth a try.

    With grids of each run it never was: on MiniLM it lost 3 dB. Where a walk through the model
    with all samples takes minutes, it is not tried.
    """
    is_dynamic = any(one.form == "dynamic" for one in found.plan.weights.values())
    if is_dynamic or not affordable_stages(search):
        return found
    return better(search, found, tell)


def _merged(search: Search, level: int, found: Base, count: int) -> Plan:
    """Return the plan of a level with the first weights and the grids of their nodes in integers.

    The codes of kernels have as few bits as the level allows.
    """
    chosen = found.first(count)
    narrow = {name for name, one in chosen.weights.items() if one.form != "blockwise"}
    plan = at_level(search, level, narrow)
    weights, rows = dict(plan.weights), {w.name: w.rows for w in search.facts.weights}
    for name, choice in chosen.weights.items():
        rounding = "compensated" if rows.get(name) else "nearest"
        zeros = ("prune_below", "sparsity", "pattern", "shrink")
        update = {field: getattr(plan.weights[name], field) for field in zeros}
        update["rounding"] = rounding
        if name in narrow and plan.weights[name].bits < choice.bits:
            bits = plan.weights[name].bits  # two neighbours of 7 bits are never too large
            reason = f"{choice.reason}; codes of {bits} bits"
            update |= {"bits": bits, "paired": False, "reason": reason}
        weights[name] = choice.model_copy(update=update)
    return plan.model_copy(
        update={
            "weights": weights,
            "activations": chosen.activations,
            "joined": chosen.joined,
            "notes": (*plan.notes, *found.notes),
        }
    )
