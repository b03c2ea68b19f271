"""Trials again, rounded in the order of the graph: kept where held-out samples are the better."""

from __future__ import annotations

import time

from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.search.trial import Search, Trial, at_level, deadline

STEPS = {"quick": 0, "standard": 4, "thorough": 8}
"""Levels that are tried with sequential rounding beyond the one that was found without."""


def smaller(search: Search, found: Trial, progress: Progress | None = None) -> Trial:
    """Return the smallest trial within the budget with weights rounded in the graph's order.

    What is saved by sequential rounding is spent on fewer bytes, level by level, until the budget
    is used up. ``found`` is returned where it gains nothing.

    Args:
        search: The search.
        found: The smallest trial with each weight rounded by itself.
        progress: Called with (stage, done, all).

    Source:
        Frantar and Alistarh 2022, "Optimal Brain Compression" (arXiv:2208.11580), section 6, on
        compressing layer by layer with the inputs of the compressed model.
    """
    steps, end = STEPS[search.limits.effort], deadline(search)
    best = better(search, found, progress)
    if best is found:
        return found
    for level in range(found.level - 1, max(found.level - 1 - steps, -1), -1):
        if time.monotonic() > end:
            break
        trial = search.trial(_sequential(at_level(search, level)), level, progress)
        if not trial.is_within(search.budget):
            break
        best = trial
    return best


def better(search: Search, found: Trial, progress: Progress | None = None) -> Trial:
    """Return ``found`` with its weights rounded in the graph's order, if less is lost by that."""
    is_fitted = any(one.rounding == "compensated" for one in found.plan.weights.values())
    if search.limits.effort == "quick" or not is_fitted:
        return found
    trial = search.trial(_sequential(found.plan), found.level, progress)
    gains = trial.fidelity.drop.value < found.fidelity.drop.value
    return trial if gains and trial.is_within(search.budget) else found


def _sequential(plan: Plan) -> Plan:
    note = (
        "weights rounded in the order of the graph, each to what it reads then; biases corrected"
    )
    return plan.model_copy(update={"order": "sequential", "notes": (*plan.notes, note)})
