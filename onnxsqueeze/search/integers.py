"""The trial with most integer kernels that pay within the budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.facts.op_latency import KERNEL_FORMS, KernelForm
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.kernels import Base, base
from onnxsqueeze.search.scalings import Evening, helpful
from onnxsqueeze.search.trial import LEVELS, Search, Trial, at_level, deadline, most_within

LEAST_MILD_BITS = 7
MILD_FORMS: tuple[KernelForm, ...] = ("qdq", "dynamic", "blockwise8")
"""Forms of kernels with so many bits or more."""
STAGE = "integer kernels within the budget"
MILDER = 8
"""Levels that stored weights give back for more integer kernels: about a fifth of the damage."""


def with_integers(
    search: Search,
    stored: Trial,
    candidates: Sequence[Candidate],
    progress: Progress | None = None,
) -> Trial:
    """Return the trial with most integer kernels that pay within the budget, or ``stored``.

    Nodes are ranked by what they damage for the time that they save; the longest leading part of
    them that is within the budget is found by bisection, so that what damages most stays float.
    What is left of the budget beside ``stored`` may be little,
    so more kernels are tried beside milder choices, too, which make a larger file. Where 4 bits
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
    """Return the trial with most of the kernels beside ``stored``, or milder, and how many."""
    best, count = stored, 0
    even, end = Evening(), deadline(search)
    if found.ranked and time.monotonic() < end:
        every = _merged(search, stored.plan, found, len(found.ranked))
        even = helpful(search, every, stored.level, tell)
    for level in (stored.level, min(stored.level + MILDER, LEVELS - 1)):
        plan = stored.plan if level == stored.level else at_level(search, level)
        with_first = partial(_evened, even, search, plan, found)
        counts = range(count + 1, len(found.ranked) + 1)
        most = most_within(search, with_first, level, counts, tell, STAGE)
        if most is not None:
            best, count = most
    return best, count


def _evened(even: Evening, search: Search, plan: Plan, found: Base, count: int) -> Plan:
    return even.on(_merged(search, plan, found, count))


def _merged(search: Search, plan: Plan, found: Base, count: int) -> Plan:
    """Return ``plan`` with the first weights, and the grids that their nodes need, in integers."""
    chosen = found.first(count)
    weights, rows = dict(plan.weights), {w.name: w.rows for w in search.facts.weights}
    for name, choice in chosen.weights.items():
        rounding = "compensated" if rows.get(name) else "nearest"
        zeros = ("prune_below", "sparsity", "pattern", "shrink")
        update = {field: getattr(plan.weights[name], field) for field in zeros}
        update["rounding"] = rounding
        weights[name] = choice.model_copy(update=update)
    return plan.model_copy(
        update={
            "weights": weights,
            "activations": chosen.activations,
            "joined": chosen.joined,
            "notes": (*plan.notes, *found.notes),
        }
    )
