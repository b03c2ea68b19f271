"""The smallest plan of stored weights within the budget: plan, apply, measure, repeat."""

from __future__ import annotations

import time

from onnxsqueeze.plan.choose import changes_file
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.trial import GIVEN_BACK, LEVELS, Search, Trial, at_level, deadline


def smallest(
    search: Search, progress: Progress | None = None, *, mildness: int = 0
) -> Trial | None:
    """Return the trial with the fewest bytes that is within the budget, or None if there is none.

    Levels under ``mildness`` are not tried.

    The damage limit of the plan is bisected: what is given up for fewer bytes goes to the weights
    where it costs least, and what must be given back goes to those that damage most. Some levels
    are given back at the end, since the samples that the search chose by flatter its choice.
    """
    tell = progress or silent
    end = deadline(search)
    good, low, high = None, mildness, LEVELS - 1  # high is the mildest
    steps = LEVELS.bit_length() + 1
    done = 0
    while low <= high and (good is None or time.monotonic() < end):
        level = (low + high) // 2
        plan = at_level(search, level)
        trial = search.trial(plan, level)
        done += 1
        tell("search within the budget", min(done, steps), steps)
        if trial.is_within(search.budget):
            good, high = trial, level - 1
        else:
            low = level + 1
    if good is not None and time.monotonic() < end:
        good = _milder(search, good)
    tell("search within the budget", steps, steps)
    if good is None:
        return None
    changes = bool(search.units) or any(map(changes_file, good.plan.weights.values()))
    return good if changes else None


def _milder(search: Search, found: Trial) -> Trial:
    """Return the trial that gives some levels back if it is within the budget, too, or ``found``.

    The samples that a plan was chosen on flatter it: of two that pass, the last to pass did so
    with some luck.
    """
    level = found.level + GIVEN_BACK
    if level >= LEVELS - 1:
        return found
    milder = search.trial(at_level(search, level), level)
    return milder if milder.is_within(search.budget) else found
