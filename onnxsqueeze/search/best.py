"""The trials that are worth a file: the smallest, and the one with most integer kernels."""

from __future__ import annotations

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.progress import Progress
from onnxsqueeze.search.integers import with_integers
from onnxsqueeze.search.refined import better, smaller
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
    stored = smallest(search, progress, mildness=mildness)
    if stored is None:
        return []
    found = [smaller(search, stored, progress)]
    if search.facts.ranges:
        integer = with_integers(search, stored, integer_candidates(search.model), progress)
        if integer is not stored:
            found.append(better(search, integer, progress))
    return found
