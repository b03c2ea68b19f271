"""The trials that are worth a file: the smallest, and the one with most integer kernels."""

from __future__ import annotations

from itertools import islice

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.plan.providers import grid_of
from onnxsqueeze.progress import Progress
from onnxsqueeze.search.engine_grids import most_on_grid
from onnxsqueeze.search.half import in_half
from onnxsqueeze.search.integers import with_integers
from onnxsqueeze.search.large import large_plans
from onnxsqueeze.search.polished import polished
from onnxsqueeze.search.refined import better, smaller
from onnxsqueeze.search.scalings import evened
from onnxsqueeze.search.sparse import affordable
from onnxsqueeze.search.stored import smallest
from onnxsqueeze.search.trial import Search, Trial


def trials(search: Search, progress: Progress | None = None, *, mildness: int = 0) -> list[Trial]:
    """Return the smallest trial within the budget, and behind it one with integer kernels.

    There is none where nothing smaller keeps to the budget, and no second where nothing was
    measured for integer kernels, or none pays.

    Args:
        search: The search.
        progress: Called with (stage, done, all).
        mildness: Levels under it are not tried.
    """
    if search.is_large:
        return [search.trial(plan, 0) for plan in islice(large_plans(search, progress), 1)]
    search = affordable(search, progress)
    stored = smallest(search, progress, mildness=mildness)
    if stored is None:
        return []
    smallest_of_all = smaller(search, stored, progress)
    if search.target.portable or search.limits.effort == "thorough":
        smallest_of_all = evened(search, smallest_of_all, progress)
    smallest_of_all = polished(search, smallest_of_all, progress)
    found = [in_half(search, smallest_of_all, progress)]
    grid = grid_of(search.target)
    if search.facts.ranges and grid in ("symmetric", "wide"):
        integer = most_on_grid(search, stored, grid, progress)
        if integer is not stored:  # an NPU has no use for what is only stored
            found = [integer] if grid == "wide" else [*found, integer]
        return found
    # Zeros in integers that a kernel reads save no bytes.
    if search.facts.ranges and (
        not search.limits.is_sparse or search.target.objective == "latency"
    ):
        integer = with_integers(search, stored, integer_candidates(search.model), progress)
        if integer is not stored:
            found.append(_better(search, integer, progress))
    return found


def _better(search: Search, integer: Trial, progress: Progress | None) -> Trial:
    """Return the trial rounded in the graph's order where that is better, and worth a try.

    With grids of each run it never was: on MiniLM it took minutes and lost 3 dB.
    """
    if any(one.form == "dynamic" for one in integer.plan.weights.values()):
        return integer
    return better(search, integer, progress)
