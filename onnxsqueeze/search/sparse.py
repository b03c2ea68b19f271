"""As much of the sparsity asked for as keeps to the budget."""

from __future__ import annotations

import time
from dataclasses import replace

from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.trial import LEVELS, Search, at_level, deadline

STEPS = 10
"""Parts of the sparsity asked for that are told apart."""


def affordable(search: Search, progress: Progress | None = None) -> Search:
    """Return the search with the largest share of its sparsity that is within the budget.

    All of it is tried first, in floats, so that nothing is lost by rounding: with each weight
    fitted by itself, then in the order of the graph, which all trials of the search then keep to
    if only that is within the budget. Then less, by halving. A search that asks for no sparsity is
    returned as it is.

    Args:
        search: The search.
        progress: Called with (stage, done, all).
    """
    if not search.limits.is_sparse:
        return search
    for wider in _orders(search):
        if _is_within(wider, progress):
            return wider
    tell, end = progress or silent, deadline(search)
    search = _orders(search)[-1]
    low, high = 0, STEPS - 1
    while low < high and time.monotonic() < end:
        middle = (low + high + 1) // 2
        tell("sparsity within the budget", STEPS - 1 - (high - low), STEPS)
        if _is_within(replace(search, share=middle / STEPS), progress):
            low = middle
        else:
            high = middle - 1
    tell("sparsity within the budget", STEPS, STEPS)
    return replace(search, share=low / STEPS)


def _orders(search: Search) -> tuple[Search, ...]:
    """Return the search with weights fitted each by itself, and in the order of the graph."""
    if search.limits.effort == "quick" or not any(one.rows for one in search.facts.weights):
        return (search,)
    return search, replace(search, order="sequential")


def _is_within(search: Search, progress: Progress | None) -> bool:
    plan = at_level(search, LEVELS - 1)
    trial = search.trial(plan, LEVELS - 1, progress)
    return trial.is_within(search.budget)
