"""Where the grid of an activation should end: six ways to tell from what was seen of it.

Every way works on one streamed record: an even sample of the values, the extremes of blocks of
them, and their number. Rounding loses ``step²/12`` per value, so a shorter range rounds finer,
and what lies outside of it is cut off.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.histogram import Histogram, coarsened

Array = npt.NDArray[Any]
Ends = tuple[float, float]
Method = Literal["density", "mse", "minmax", "average", "percentile", "entropy"]
DEFAULT: Method = "density"
METHODS: tuple[Method, ...] = ("density", "mse", "minmax", "average", "percentile", "entropy")

LEVELS = 255
"""Steps between the ends of an 8-bit grid."""
KEPT = 0.9999
"""Fraction of the values that ``percentile`` keeps."""
SAME = 0.02
"""Ends that differ by no more than this fraction of the range are the same."""
SETTLED = 1.5
"""A range that loses up to so many times the least is as good."""
_ENTROPY_BINS = 2048
_ENTROPY_TRIES = 48
_LEAST_PROBABILITY = 1e-4


class Seen(Protocol):
    """What the methods read of a record; see ``facts.ranges.TensorRange``."""

    @property
    def count(self) -> float:
        """Number of elements seen."""

    @property
    def low(self) -> float:
        """Smallest element."""

    @property
    def high(self) -> float:
        """Largest element."""

    @property
    def average_low(self) -> float:
        """Mean of the smallest elements of the samples."""

    @property
    def average_high(self) -> float:
        """Mean of the largest elements of the samples."""

    @property
    def sample(self) -> Histogram:
        """Histogram of an even sample of the elements."""

    @property
    def extremes(self) -> Histogram:
        """Histogram of minima and maxima of blocks."""


def ends(seen: Seen, method: Method) -> Ends:
    """Return the ends of the grid by one method: ``low ≤ 0 ≤ high``, within what was seen.

    ``mse`` and ``density`` lose least in squares, over the values seen and over their density
    estimated by a kernel; ``minmax`` keeps all; ``average`` keeps what an average sample spans;
    ``percentile`` keeps 99.99% of the values; ``entropy`` keeps most information.

    Source:
        One function each: ``mse_range``, ``average_range``, ``percentile_range``,
        ``entropy_range``, ``density_range``.

    Example:
        >>> from types import SimpleNamespace
        >>> from onnxsqueeze.numerics.histogram import histogram
        >>> h = histogram(np.linspace(-1, 3, 1000))
        >>> seen = SimpleNamespace(count=1000.0, low=-1.0, high=3.0, sample=h, extremes=h)
        >>> ends(seen, "minmax"), ends(seen, "mse")
        ((-1.0, 3.0), (-1.0, 3.0))
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if method == "minmax" or seen.sample.total == 0 or low == high:
        return low, high
    if method == "mse":
        return mse_range(seen.sample, seen.extremes, seen.count, low, high)
    if method == "average":
        return average_range(seen)
    if method == "percentile":
        return percentile_range(seen)
    return entropy_range(seen) if method == "entropy" else density_range(seen)


def differ(a: Ends, b: Ends) -> bool:
    """Return whether an end differs by more than ``SAME`` of the longer range.

    Example:
        >>> differ((0.0, 1.0), (0.0, 0.99)), differ((0.0, 1.0), (0.0, 0.97))
        (False, True)
    """
    span = max(a[1] - a[0], b[1] - b[0])
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) > SAME * span


def mse_range(
    sample: Histogram,
    extremes: Histogram,
    count: float,
    low: float,
    high: float,
    levels: int = LEVELS,
) -> Ends:
    """Return the range that loses least by rounding to ``levels`` steps and cutting off.

    Rounding loses ``step²/12`` per value inside; what is cut off is estimated from the sample,
    scaled up to ``count`` values, and from the extremes (one per block, each a real value): the
    larger of the two.

    Args:
        sample: Histogram of an even sample of the values.
        extremes: Histogram of block minima and maxima.
        count: Number of values that the sample stands for.
        low: Smallest value seen.
        high: Largest value seen.
        levels: Steps between the ends of the grid.

    Returns:
        The ends, ``low' ≤ 0 ≤ high'``, not beyond ``low`` and ``high``.

    Source:
        Banner et al. 2019 (arXiv:1810.05723), by search over both ends.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    tries = _fractions()
    factor = count / max(sample.total, 1.0)
    cut = [
        np.maximum(factor * _cut(sample, end, side), _cut(extremes, end, side))
        for end, side in ((low * tries, -1), (high * tries, 1))
    ]
    return _least(low, high, cut[0], cut[1], count, levels)


def average_range(seen: Seen) -> Ends:
    """Return the means of the samples' minima and maxima: one odd sample moves them little.

    Source:
        Jacob et al. 2018 (arXiv:1712.05877), section 3.1, with equal weights, so that the order of
        the samples does not count.
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    return min(max(seen.average_low, low), 0.0), max(min(seen.average_high, high), 0.0)


def percentile_range(seen: Seen, kept: float = KEPT) -> Ends:
    """Return the shortest range with at most ``(1 − kept)/2`` of the values beyond each end.

    Values beyond an end are counted as in ``spread``; the ends lie on edges of its bins.

    Source:
        Wu et al. 2020 (arXiv:2004.09602), section 5.1, for both ends.
    """
    found = spread(seen)
    allowed = (1 - kept) / 2 * seen.count
    below = np.cumsum(found.counts)
    above = np.cumsum(found.counts[::-1])
    first = int(np.searchsorted(below, allowed, side="right"))
    last = len(found.counts) - 1 - int(np.searchsorted(above, allowed, side="right"))
    low, high = (found.first + first) * found.width, (found.first + last + 1) * found.width
    return min(max(low, seen.low), 0.0), max(min(high, seen.high), 0.0)


def entropy_range(seen: Seen, levels: int = LEVELS) -> Ends:
    """Return the range whose rounded values tell most of where the values were.

    For a range, P is the distribution of the values over fine bins, with what is outside put into
    its end bins; Q spreads what each of ``levels`` steps holds evenly over its bins that are not
    empty. The range with the least divergence ``Σ P log(P/Q)`` is taken, for the upper end and
    then for the lower one. The bin of zero counts as its neighbours do: zero is always exact.

    Source:
        Migacz 2017, 8-bit Inference with TensorRT (GTC), for both ends; smoothing of empty bins
        and the bin of zero as in NVIDIA's pytorch-quantization.
    """
    found = _without_spike(spread(seen, _ENTROPY_BINS))
    size = len(found.counts)
    zero = min(max(-found.first, 0), size)
    start, stop = 0, size
    highs = _tries(zero, size, max(levels - zero, 1))
    if highs.size:
        stop = int(highs[np.argmin([_divergence(found, start, int(k), levels) for k in highs])])
    lows = zero - _tries(0, zero, max(levels - (stop - zero), 1))
    if lows.size:
        start = int(lows[np.argmin([_divergence(found, int(k), stop, levels) for k in lows])])
    low, high = (found.first + start) * found.width, (found.first + stop) * found.width
    return min(max(low, seen.low), 0.0), max(min(high, seen.high), 0.0)


def density_range(seen: Seen, levels: int = LEVELS) -> Ends:
    """Return the range with the least expected squared error under a kernel density estimate.

    The estimate smooths what a sample of tails leaves open; exact zeros, which lose nothing on any
    grid, are left out of it as far as their bin stands out of its neighbours.

    Source:
        Silverman 1986, eq. 3.31 (bandwidth) and 1982, Algorithm AS 176 (by FFT, over bins); the
        error as in Banner et al. 2019 (arXiv:1810.05723).
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    smooth = _smoothed(_without_spike(spread(seen)))
    tries = _fractions()
    cut = _cut(smooth, low * tries, -1), _cut(smooth, high * tries, 1)
    return _least(low, high, cut[0], cut[1], smooth.total, levels)


def is_settled(seen: Seen) -> bool:
    """Return whether the record tells where to cut: sample and extremes agree about it.

    They do unless the range that loses least by the sample alone loses over 1.5 times the least by
    what sample and extremes tell together. A sample of all values has nothing to disagree with.
    """
    if seen.sample.total >= seen.count or seen.sample.total == 0:
        return True
    nothing = Histogram(0, 0, np.zeros(1))
    alone = mse_range(seen.sample, nothing, seen.count, seen.low, seen.high)
    return _loss(seen, alone) <= SETTLED * _loss(seen, ends(seen, "mse"))


def _loss(seen: Seen, pair: Ends) -> float:
    """Return the squared error of a range, as ``mse_range`` estimates it."""
    factor = seen.count / seen.sample.total
    cut = [
        max(
            factor * float(_cut(seen.sample, np.array([end]), side)[0]),
            float(_cut(seen.extremes, np.array([end]), side)[0]),
        )
        for end, side in zip(pair, (-1, 1), strict=True)
    ]
    return seen.count * ((pair[1] - pair[0]) / LEVELS) ** 2 / 12 + sum(cut)


def spread(seen: Seen, bins: int | None = None) -> Histogram:
    """Return the histogram of all values, as estimated: per bin the larger of sample and extremes.

    The sample is scaled up to ``count`` values; at most ``bins`` bins, if given.
    """
    factor = seen.count / max(seen.sample.total, 1.0)
    sample = seen.sample
    if seen.extremes.total == 0:
        found = Histogram(sample.exponent, sample.first, sample.counts * factor)
    else:
        both = sample.merge(seen.extremes)
        parts = [_placed(sample, both) * factor, _placed(seen.extremes, both)]
        found = Histogram(both.exponent, both.first, np.maximum(parts[0], parts[1]))
    while bins is not None and len(found.counts) > bins:
        found = coarsened(found, found.exponent + 1)
    return found


def _placed(part: Histogram, whole: Histogram) -> Array:
    """Return a histogram's counts in the bins of one that it was merged into."""
    part = coarsened(part, whole.exponent)
    counts = np.zeros(len(whole.counts))
    counts[part.first - whole.first : part.first - whole.first + len(part.counts)] = part.counts
    return counts


def _fractions() -> Array:
    return np.concatenate([np.linspace(1.0, 0.3, 57), np.geomspace(0.28, 0.02, 48)])


def _least(
    low: float, high: float, cut_low: Array, cut_high: Array, count: float, levels: int
) -> Ends:
    """Return the ends with the least sum of rounding error and squares cut off, per fraction."""
    tries = _fractions()
    span = (high * tries)[None, :] - (low * tries)[:, None]
    loss = count * (span / levels) ** 2 / 12 + cut_low[:, None] + cut_high[None, :]
    i, j = np.unravel_index(int(np.argmin(loss)), loss.shape)
    return float(low * tries[i]), float(high * tries[j])


def _cut(source: Histogram, at: Array, side: int) -> Array:
    """Return the squared distance cut off at each end of a side (-1 below, 1 above)."""
    used = source.counts > 0
    beyond = np.maximum(side * (source.centers[used][None, :] - at[:, None]), 0.0)
    result: Array = np.square(beyond) @ source.counts[used]
    return result


def _without_spike(found: Histogram) -> Histogram:
    """Return the histogram with no more in the bin of zero than in the fuller one beside it."""
    zero = -found.first
    if not 0 <= zero < len(found.counts) or len(found.counts) < 2:
        return found
    counts = found.counts.copy()
    beside = [counts[k] for k in (zero - 1, zero + 1) if 0 <= k < len(counts)]
    counts[zero] = min(counts[zero], max(beside))
    return Histogram(found.exponent, found.first, counts)


def _smoothed(found: Histogram) -> Histogram:
    """Return the histogram convolved with a Gaussian kernel, four bandwidths longer each way."""
    total = found.total
    if total < 2:
        return found
    mean = float(found.centers @ found.counts) / total
    std = float(np.sqrt(np.square(found.centers - mean) @ found.counts / total))
    quartiles = np.searchsorted(np.cumsum(found.counts), [total / 4, 3 * total / 4])
    between = float(quartiles[1] - quartiles[0]) * found.width
    bandwidth = 0.9 * min(std, between / 1.34 or std) * total**-0.2
    if bandwidth < found.width:
        return found
    more = int(np.ceil(4 * bandwidth / found.width))
    size = 1 << int(len(found.counts) + 3 * more).bit_length()
    omega = 2 * np.pi * np.fft.rfftfreq(size, found.width)
    counts = np.concatenate([np.zeros(more), found.counts])
    smooth = np.fft.irfft(
        np.fft.rfft(counts, size) * np.exp(-((bandwidth * omega) ** 2) / 2), size
    )
    # The transform leaves rounding errors where nothing is.
    smooth = smooth[: len(found.counts) + 2 * more]
    smooth[smooth < 1e-12 * total] = 0.0
    return Histogram(found.exponent, found.first - more, smooth)


def _tries(start: int, stop: int, least: int) -> Array:
    """Return distances from ``start``, in bins, where a range may end; none if there is no room.

    A range with fewer bins than levels would tell them all apart, whatever it cuts off.
    """
    if stop - start <= least:
        return np.zeros(0, np.int64) if stop == start else np.array([stop])
    return start + np.unique(np.linspace(least, stop - start, _ENTROPY_TRIES).astype(np.int64))


def _divergence(found: Histogram, start: int, stop: int, levels: int) -> float:
    """Return the divergence of the rounded bins ``start`` to ``stop`` from all, put into them."""
    inside = found.counts[start:stop]
    whole = inside.copy()
    whole[0] += found.counts[:start].sum()
    whole[-1] += found.counts[stop:].sum()
    if inside.sum() == 0:
        return float("inf")
    step = np.minimum(np.arange(len(inside)) * levels // len(inside), levels - 1)
    used = inside > 0
    held = np.bincount(step, inside, levels)
    places = np.bincount(step, used, levels)
    even = np.where(used, held[step] / np.maximum(places[step], 1), 0.0)
    p, q = whole / whole.sum(), even / even.sum()
    told = p > 0
    q = np.where(told & (q == 0), _LEAST_PROBABILITY, q)
    return float(np.sum(p[told] * np.log(p[told] / q[told])))
