"""The trials that are worth a file: the smallest, and the one with most integer kernels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.plan.providers import grid_of
from onnxsqueeze.progress import Progress
from onnxsqueeze.search.engine_grids import most_on_grid
from onnxsqueeze.search.half import in_half
from onnxsqueeze.search.integers import with_integers
from onnxsqueeze.search.large import large_plans
from onnxsqueeze.search.polished import polished
from onnxsqueeze.search.refined import smaller
from onnxsqueeze.search.scalings import evened
from onnxsqueeze.search.sparse import affordable
from onnxsqueeze.search.stored import smallest
from onnxsqueeze.search.trial import Search, Trial


def trials(
    search: Search, progress: Progress | None = None, *, mildness: int = 0
) -> Iterator[Trial]:
    """Yield a trial with integer kernels, and behind it the smallest of stored weights alone.

    Each is within the budget, and is searched for when it is asked for. There is none where
    nothing smaller keeps to the budget, and none with integer kernels where nothing was measured
    for them, or none pays.

    Args:
        search: The search.
        progress: Called with (stage, done, all).
        mildness: Levels under it are not tried.
    """
    if search.is_large:
        yield from (search.trial(plan, 0) for plan in islice(large_plans(search, progress), 1))
        return
    search = affordable(search, progress)
    stored = smallest(search, progress, mildness=mildness)
    if stored is None:
        return
    integer = _with_kernels(search, stored, progress)
    if integer is not stored:
        yield integer
        if grid_of(search.target) == "wide":
            return  # an NPU has no use for what is only stored
    smallest_of_all = smaller(search, stored, progress)
    if search.target.portable or search.limits.effort == "thorough":
        smallest_of_all = evened(search, smallest_of_all, progress)
    smallest_of_all = polished(search, smallest_of_all, progress)
    yield in_half(search, smallest_of_all, progress)


def _with_kernels(search: Search, stored: Trial, progress: Progress | None) -> Trial:
    grid = grid_of(search.target)
    if not search.facts.ranges:
        return stored
    if grid in ("symmetric", "wide"):
        return most_on_grid(search, stored, grid, progress)
    if search.limits.is_sparse and search.target.objective != "latency":
        return stored  # zeros in integers that a kernel reads save no bytes
    return with_integers(search, stored, integer_candidates(search.model), progress)
