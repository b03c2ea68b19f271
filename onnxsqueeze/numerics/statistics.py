"""Confidence intervals: of a lost fraction over samples, and of a median over timings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

CONFIDENCE = 0.95
RESAMPLES = 2000
_TWO_SIDED_95 = 1.959964
_POWER_80 = 0.841621
"""Quantiles of the normal distribution at 97.5% and at 80%."""
_MOST_SAMPLES = 1e9
_DRAWN_AT_ONCE = 4_000_000
"""Sample numbers held at a time, 32 MB; the draws do not depend on it."""


class Estimate(NamedTuple):
    """A value with the ends of its 95% confidence interval."""

    value: float
    low: float
    high: float


def lost_fraction(lost: FloatArray, whole: FloatArray) -> FloatArray:
    """Return ``lost / |whole|``, at most 1: the part that was lost, negative for a gain.

    Where the whole is 0 there is no fraction to lose: 0 if nothing was lost, else 1 (-1 for a
    gain). An infinite loss is a loss of all.

    Example:
        >>> lost = np.array([1.0, -1.0, 0.0, 2.0, 9.0])
        >>> lost_fraction(lost, np.array([4.0, -4.0, 0.0, 0.0, 3.0])).tolist()
        [0.25, -0.25, 0.0, 1.0, 1.0]
    """
    whole = np.abs(whole)
    ratio = np.divide(lost, whole, out=np.asarray(np.sign(lost)), where=whole > 0)
    at_most_all: FloatArray = np.minimum(ratio, 1.0)
    return at_most_all


def paired_bootstrap(
    lost: FloatArray, whole: FloatArray, *, seed: int, resamples: int = RESAMPLES
) -> Estimate:
    """Return the largest lost fraction of the columns, with its percentile bootstrap interval.

    The statistic is ``max_k  sum_i lost[i, k] / |sum_i whole[i, k]|``: ratios of sums, not means
    of ratios, so that IoU and relative error energy are right. Original and result were run on the
    same sample, and a resample draws samples, so both are always drawn together. The same
    arguments give the same interval, whatever the machine's load.

    The interval is as good as the samples: a loss that none of ``N`` samples shows has interval
    [0, 0]; where decisions are counted, see ``no_less_than_shown``.

    Args:
        lost: Lost per sample and component, shape ``(N, K)``; infinite where an output is
            unusable, which makes the whole result a loss of all.
        whole: What there was to lose, shape ``(N, K)``.
        seed: Seed of the draws.
        resamples: Number of resamples.

    Raises:
        ValueError: If the shapes differ or there is no sample or no component.

    Source:
        Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapters 10 and 13.

    Example:
        >>> paired_bootstrap(np.zeros((5, 1)), np.ones((5, 1)), seed=0)
        Estimate(value=0.0, low=0.0, high=0.0)
        >>> paired_bootstrap(np.array([[0.0], [1.0]]), np.ones((2, 1)), seed=0)
        Estimate(value=0.5, low=0.0, high=1.0)
    """
    if lost.shape != whole.shape or lost.ndim != 2 or lost.size == 0:
        raise ValueError(
            f"lost {lost.shape} and whole {whole.shape} must be one shape (N, K), not empty"
        )
    if not np.isfinite(lost).all():
        return Estimate(1.0, 1.0, 1.0)
    value = float(lost_fraction(lost.sum(axis=0), whole.sum(axis=0)).max())
    if not lost.any():
        return Estimate(value, value, value)
    drawn = _resampled(lost, whole, seed, resamples)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def no_less_than_shown(estimate: Estimate, samples: int) -> Estimate:
    """Return an estimate whose upper end is at least what so many samples leave open.

    A loss that happens to a share p of all cases is missed by all of N samples with probability
    ``(1 − p)**N``, which is 5% for ``p ≈ 3 / N``: the rule of three. Without it, an interval over
    counted decisions ends at 0 where nothing was lost, however few were looked at.

    Args:
        estimate: A lost fraction.
        samples: Samples that could have shown a loss; with none, all may be lost.

    Source:
        Hanley & Lippman-Hand 1983, "If nothing goes wrong, is everything all right?".

    Example:
        >>> no_less_than_shown(Estimate(0.0, 0.0, 0.0), 300)
        Estimate(value=0.0, low=0.0, high=0.01)
    """
    shown = min(1.0, 3.0 / samples) if samples else 1.0
    return estimate._replace(high=max(estimate.high, shown))


def samples_needed(max_drop: float) -> int | None:
    """Return how many samples can show a lost fraction of counted decisions; None if none can.

    Example:
        >>> samples_needed(0.01), samples_needed(0.03), samples_needed(0.0)
        (300, 100, None)
    """
    # Rounded first, since 3 / 0.03 is more than 100 by a rounding.
    return math.ceil(round(3.0 / max_drop, 6)) if max_drop > 0 else None


def decided(drop: Estimate, max_drop: float) -> Literal["kept", "broken", "undecided"]:
    """Return whether a budget is kept, at its interval's pessimistic end, or surely is not.

    Example:
        >>> [decided(Estimate(0.01, 0.0, 0.02), budget) for budget in (0.03, 0.015, -0.01)]
        ['kept', 'undecided', 'broken']
    """
    if drop.high <= max_drop:
        return "kept"
    return "broken" if drop.low > max_drop else "undecided"


def samples_to_decide(drop: Estimate, samples: int, max_drop: float) -> int | None:
    """Return how many samples would tell whether a budget is kept; None if no number would.

    The interval of ``n`` samples has a standard error of ``s = (high - low) / (2 * 1.96)``, which
    falls as ``1 / sqrt(N)``. If the drop is what it seems to be, at a distance ``d`` from the
    budget, then N samples give an interval on one side of it with a probability of 80% for
    ``N = n * ((1.96 + 0.84) * s / d)**2``.

    Args:
        drop: The drop, from ``samples`` samples.
        samples: Their number.
        max_drop: The budget.

    Source:
        Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", section 2.4.

    Example:
        The interval is as wide as the distance to the budget on either side: that is half of what
        is needed for even chances, and more for 4 in 5.

        >>> samples_to_decide(Estimate(0.01, 0.0, 0.02), 100, 0.02)
        205
        >>> samples_to_decide(Estimate(0.01, 0.0, 0.02), 100, 0.01) is None
        True
    """
    distance = abs(max_drop - drop.value)
    if not distance:
        return None
    error = (drop.high - drop.low) / (2 * _TWO_SIDED_95)
    needed = samples * ((_TWO_SIDED_95 + _POWER_80) * error / distance) ** 2
    return max(samples + 1, math.ceil(needed)) if needed <= _MOST_SAMPLES else None


def _resampled(lost: FloatArray, whole: FloatArray, seed: int, resamples: int) -> FloatArray:
    """Return the statistic of each resample, shape ``(resamples,)``."""
    generator = np.random.default_rng(seed)
    samples, components = lost.shape
    rows = max(1, _DRAWN_AT_ONCE // samples)
    parts = []
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), samples)
        drawn = generator.integers(samples, size=shape)
        columns = [
            lost_fraction(lost[drawn, k].sum(axis=1), whole[drawn, k].sum(axis=1))
            for k in range(components)
        ]
        parts.append(np.max(columns, axis=0))
    return np.concatenate(parts)


def median_interval(values: Sequence[float] | FloatArray) -> Estimate:
    """Return the median with a distribution-free interval between two order statistics.

    For ``n`` sorted values the interval ``[x(k), x(n+1-k)]`` holds the median with probability
    ``1 - 2 P(B <= k-1)``, ``B ~ Binomial(n, 1/2)``, whatever the distribution; ``k`` is the
    largest rank for which that is at least 95%. Under 6 values no rank reaches it, and the
    interval is from the smallest to the largest, which holds the median with probability ``1 -
    2**(1-n)``.

    Raises:
        ValueError: If there is no value, or one that is not finite.

    Source:
        David & Nagaraja 2003, "Order Statistics", section 7.1.

    Example:
        15 values: the 4th smallest and the 4th largest.

        >>> median_interval([float(i) for i in range(1, 16)])
        Estimate(value=8.0, low=4.0, high=12.0)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size == 0 or not np.isfinite(ordered).all():
        raise ValueError(f"a median needs finite values, at least one; got {ordered.tolist()[:5]}")
    rank = _median_rank(ordered.size)
    return Estimate(
        float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[ordered.size - rank])
    )


def _median_rank(count: int) -> int:
    """Return the largest ``k`` with ``2 P(B <= k-1) <= 5%``, at least 1, in exact integers."""
    allowed = (1 - CONFIDENCE) / 2 * 2**count if count < 1000 else None
    if allowed is None:  # 2**count is no float any more; the normal limit is exact enough
        return max(1, math.floor((count - 1.959964 * math.sqrt(count)) / 2))
    rank, below = 1, 1  # below = 2**count * P(B <= rank - 1)
    while (more := below + math.comb(count, rank)) <= allowed:
        rank, below = rank + 1, more
    return rank
