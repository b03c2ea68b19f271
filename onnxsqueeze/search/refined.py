"""Trials again, rounded in the order of the graph: kept where held-out samples are the better."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from onnxsqueeze.config import Budget
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.search.trial import (
    LEVELS_PER_DECADE,
    Search,
    Trial,
    at_level,
    deadline,
    gained,
)

TRIALS = {"quick": 0, "standard": 4, "thorough": 8}
"""Plans that are tried with sequential rounding beyond the one that was found without."""
REACH = LEVELS_PER_DECADE
"""Most levels that they may go beyond it: 10 dB."""


def smaller(search: Search, found: Trial, progress: Progress | None = None) -> Trial:
    """Return the smallest trial within the budget with weights rounded in the graph's order.

    What is saved by sequential rounding is spent on fewer bytes, until the budget is used up or no
    trial is left. ``found`` is returned where it gains nothing.

    Args:
        search: The search.
        found: The smallest trial with each weight rounded by itself.
        progress: Called with (stage, done, all).

    Source:
        Frantar and Alistarh 2022, "Optimal Brain Compression" (arXiv:2208.11580), section 6, on
        compressing layer by layer with the inputs of the compressed model.
    """
    best = better(search, found, progress)
    if best is found:
        return found

    def plan_of(level: int) -> Plan:
        return sequential(at_level(search, level))

    return lowest(search, best, plan_of, TRIALS[search.limits.effort], progress)


def lowest(
    search: Search,
    found: Trial,
    plan_of: Callable[[int], Plan],
    count: int,
    progress: Progress | None = None,
) -> Trial:
    """Return the trial on the lowest level within the budget that few trials find, or ``found``.

    The next level is the one that would use up the budget if the drop were in proportion to the
    damage, and halfway back when that was too much.

    Args:
        search: The search.
        found: A trial within the budget.
        plan_of: The plan of a level.
        count: Most trials.
        progress: Called with (stage, done, all).
    """
    end, best = deadline(search), found
    floor = failed = max(found.level - REACH, 0) - 1
    for _ in range(count):
        if best.level - failed <= 1 or time.monotonic() > end:
            break
        guess = best.level - levels_left(best, search.budget)
        level = max(guess, failed + 1) if failed == floor else (best.level + failed) // 2
        trial = search.trial(plan_of(level), level, progress)
        if trial.is_within(search.budget):
            best = trial
        else:
            failed = level
    return best


def levels_left(trial: Trial, budget: Budget) -> int:
    """Return how many levels a trial may go down, at least 1, if its drop goes with the damage."""
    drop = max(trial.fidelity.drop.high, 1e-12)
    decades = math.log10(budget.max_drop / drop) if budget.max_drop > drop else 0.0
    return max(int(decades * LEVELS_PER_DECADE), 1)


def better(search: Search, found: Trial, progress: Progress | None = None) -> Trial:
    """Return ``found`` with its weights rounded in the graph's order, if less is lost by that."""
    is_fitted = any(one.rounding == "compensated" for one in found.plan.weights.values())
    if search.limits.effort == "quick" or not is_fitted:
        return found
    return gained(search, found, sequential(found.plan), progress)


def sequential(plan: Plan) -> Plan:
    """Return the plan with weights rounded in the order of the graph."""
    note = (
        "weights rounded in the order of the graph, each to what it reads then; biases corrected"
    )
    return plan.model_copy(update={"order": "sequential", "notes": (*plan.notes, note)})
