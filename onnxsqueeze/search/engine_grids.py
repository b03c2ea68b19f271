"""The trial with most integers on an engine's own kind of grid within the budget."""

from __future__ import annotations

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.plan.engine_grids import able, on_grid, ranked
from onnxsqueeze.plan.grids import all_grid_ends
from onnxsqueeze.plan.types import Grid, Plan
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.trial import Search, Trial, most_within


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
    ends = all_grid_ends(search.facts.ranges, search.target.calibration)
    ranges = {name: one.ends for name, one in ends.items()}
    chosen = able(integer_candidates(search.model), ranges, search.limits)
    names = ranked(chosen, search.facts.weights)

    def plan_of(count: int) -> Plan:
        return on_grid(stored.plan, grid, chosen, names[:count], ranges)

    most = most_within(
        search,
        plan_of,
        stored.level,
        range(1, len(names) + 1),
        progress or silent,
        "integers within the budget",
        first=len(names),  # nothing is better than all of them
    )
    return stored if most is None else most[0]
