"""Rank correlation with true damage, and quality at equal sparsity."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.measure.prune_widths import removals
from study.case import Case
from study.criteria import CRITERIA, Scores

Array = npt.NDArray[Any]
Say = Callable[[str], None]
SEQUENCE = "obs, one after another"
"""What pruning does by default: scores are taken again after each removal."""


@dataclass(frozen=True)
class Line:
    """What is found of one criterion on one case.

    Attributes:
        criterion: Its name.
        seconds: Time that it took.
        correlation: Spearman's, with the damage of removing one unit: bare, and refitted; mean
            over groups. None where it gives no scores of single units.
        sqnr_db: At each part of all units gone, bare and refitted.
        agreement: The same, of classes; None where the output holds none.
    """

    criterion: str
    seconds: float
    correlation: tuple[float, float] | None
    sqnr_db: tuple[tuple[float, float], ...]
    agreement: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Truth:
    """Damage of removing one unit: places and values, by group."""

    places: Mapping[str, Array]
    bare: Mapping[str, Array]
    refitted: Mapping[str, Array]


def ranks(values: Array) -> Array:
    """Return the mean rank of each value, equal ones sharing theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse])


def spearman(a: Array, b: Array) -> float:
    """Return the correlation of ranks, 0 where one side is constant."""
    x, y = ranks(a), ranks(b)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def truth(case: Case, most: int, samples: int, say: Say) -> Truth:
    """Return the damage of removing single units, at most ``most`` of each group."""
    rng = np.random.default_rng(0)
    places, damage = {}, {False: {}, True: {}}
    for one in case.units:
        chosen = np.sort(rng.choice(one.count, min(most, one.count), replace=False))
        places[one.name] = chosen
        for refit in (False, True):
            damage[refit][one.name] = np.array(
                [
                    case.damage(
                        case.without({one.name: _all_but(one.count, unit)}, refit=refit), samples
                    )
                    for unit in chosen
                ]
            )
        say(f"{case.name}: {len(chosen)} of {one.count} units of {one.name} removed one by one")
    return Truth(places, damage[False], damage[True])


def _all_but(count: int, unit: int) -> Array:
    return np.delete(np.arange(count), unit)


def orders(scores: Scores) -> dict[str, Array]:
    return {name: np.argsort(one, kind="stable") for name, one in scores.items()}


def compared(case: Case, true: Truth, parts: Sequence[float], say: Say) -> list[Line]:
    """Return a line for each criterion, and one for removal one after another."""
    lines = []
    for name, criterion in CRITERIA.items():
        start = time.perf_counter()
        scores = criterion(case)
        seconds = time.perf_counter() - start
        pairs = [
            [spearman(scores[group][places], side[group]) for group, places in true.places.items()]
            for side in (true.bare, true.refitted)
        ]
        correlation = (float(np.mean(pairs[0])), float(np.mean(pairs[1])))
        lines.append(_line(case, name, seconds, correlation, orders(scores), parts))
        say(f"{case.name}: {name}")
    start = time.perf_counter()
    found = removals(case.model, case.units, case.known)
    order = {name: options[-1].order for name, options in found.items()}
    seconds = time.perf_counter() - start
    return [*lines, _line(case, SEQUENCE, seconds, None, order, parts)]


def _line(
    case: Case,
    name: str,
    seconds: float,
    correlation: tuple[float, float] | None,
    order: Mapping[str, Array],
    parts: Sequence[float],
) -> Line:
    sqnr, agreement = [], []
    for part in parts:
        kept = {group: np.sort(one[round(part * len(one)) :]) for group, one in order.items()}
        changed = [case.without(kept, refit=refit) for refit in (False, True)]
        sqnr.append(tuple(-10 * np.log10(max(case.damage(one), 1e-12)) for one in changed))
        agreement.append(tuple(case.agreement(one) for one in changed))
    return Line(name, seconds, correlation, tuple(sqnr), tuple(agreement))
