"""A trial again with learned rounding, kept where held-out samples are the better for it."""

from __future__ import annotations

from collections.abc import Iterable

from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.learned.rounding import is_available
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.search.trial import Search, Trial, gained

MOST_BITS = 6
"""With more, what is lost by rounding is no more what a budget is spent on."""
MOST_WORK = 10**8
"""Multiply-adds of one step, channels · features²; with more, a weight takes minutes."""


def polished(search: Search, found: Trial, progress: Progress | None = None) -> Trial:
    """Return ``found`` with its codes learned, if less is lost by that.

    It takes seconds to minutes for a weight, so only effort ``thorough`` tries it, and where
    torch is not installed nothing does.

    Args:
        search: The search.
        found: A trial with stored weights.
        progress: Called with (stage, done, all).
    """
    if search.limits.effort != "thorough" or not is_available():
        return found
    plan = learning(found.plan, search.facts.weights)
    if plan is found.plan:
        return found
    return gained(search, found, plan, progress)


def learning(plan: Plan, facts: Iterable[WeightFacts]) -> Plan:
    """Return the plan with learned rounding for its few-bit weights; itself, if it has none.

    Args:
        plan: A plan.
        facts: What is known of the weights; too large ones stay as they are.
    """
    small = {one.name for one in facts if one.channels * one.features**2 <= MOST_WORK}
    weights = {
        name: choice.model_copy(update={"polish": "learned"})
        for name, choice in plan.weights.items()
        if name in small
        and choice.form == "stored"
        and choice.rounding == "compensated"
        and choice.bits <= MOST_BITS
        and not choice.prunes
    }
    if not weights:
        return plan
    note = f"codes of {len(weights)} weights learned together, from those found one by one"
    update = {"weights": {**plan.weights, **weights}, "notes": (*plan.notes, note)}
    return plan.model_copy(update=update)
