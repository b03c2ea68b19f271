"""The trial with most integers on an engine's own kind of grid within the budget."""

from __future__ import annotations

import time

from onnxsqueeze.analysis.grids import Candidate, integer_candidates
from onnxsqueeze.plan.grids import all_grid_ends
from onnxsqueeze.plan.symmetric import able, on_grid, ranked
from onnxsqueeze.plan.types import Grid
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.trial import Search, Trial, deadline


def most_on_grid(
    search: Search, stored: Trial, grid: Grid, progress: Progress | None = None
) -> Trial:
    """Return the trial with most weights as int8 within the budget, by bisection, or ``stored``.

    Weights that damage most when rounded are given up first.

    Args:
        search: The search; its facts hold ranges.
        stored: A trial whose choices stay where a node stays float.
        grid: As in ``Plan``.
        progress: Called with (stage, done, all).
    """
    tell, end = progress or silent, deadline(search)
    ends = all_grid_ends(search.facts.ranges, search.target.calibration)
    ranges = {name: one.ends for name, one in ends.items()}
    candidates: tuple[Candidate, ...] = tuple(integer_candidates(search.model))
    chosen = able(candidates, ranges, search.limits)
    names = ranked(chosen, search.facts.weights)
    best, low, high = stored, 1, len(names)
    count = high  # all of them first: nothing is better
    while low <= high and time.monotonic() < end:
        plan = on_grid(stored.plan, grid, chosen, names[:count], ranges)
        trial = search.trial(plan, stored.level, progress)
        if trial.is_within(search.budget):
            best, low = trial, count + 1
        else:
            high = count - 1
        tell("integers within the budget", len(names) - (high - low + 1), len(names))
        count = (low + high + 1) // 2
    return best
