"""Histograms that grow with their data and merge without error.

Bins are ``[k·w, (k+1)·w)`` with a width w that is a power of two, so two histograms differ only
in how often bins were joined in pairs: coarsening the finer one until the widths agree is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_BINS = 4096


@dataclass(frozen=True)
class Histogram:
    """Counts in bins of width w = ``2**exponent``; bin k is ``[(first+k)·w, (first+k+1)·w)``.

    Example:
        >>> h = histogram(np.array([0.0, 1.0, 1.0, 3.0]))
        >>> h.total, float(h.centers[0]) >= 0
        (4.0, True)
    """

    exponent: int
    first: int
    counts: Array

    @property
    def width(self) -> float:
        """Width of a bin."""
        return float(2.0**self.exponent)

    @property
    def centers(self) -> Array:
        """Middle of each bin, shape (bins,)."""
        return (self.first + np.arange(len(self.counts)) + 0.5) * self.width

    @property
    def total(self) -> float:
        """Number of values counted."""
        return float(self.counts.sum())

    def merge(self, other: Histogram) -> Histogram:
        """Return the histogram of the values of both: exact, at most ``MAX_BINS`` bins."""
        exponent = max(self.exponent, other.exponent)
        a, b = _coarsened(self, exponent), _coarsened(other, exponent)
        first = min(a.first, b.first)
        last = max(a.first + len(a.counts), b.first + len(b.counts))
        while last - first > MAX_BINS:
            exponent += 1
            a, b = _coarsened(a, exponent), _coarsened(b, exponent)
            first = min(a.first, b.first)
            last = max(a.first + len(a.counts), b.first + len(b.counts))
        counts = np.zeros(last - first)
        for part in (a, b):
            counts[part.first - first : part.first - first + len(part.counts)] += part.counts
        return Histogram(exponent, first, counts)


def histogram(values: Array) -> Histogram:
    """Return the histogram of finite ``values``, with MAX_BINS/2 to MAX_BINS bins.

    Fewer bins are used only where the range is too narrow for float64 to tell them apart.

    Raises:
        ValueError: If there is no value, or one is NaN or infinite.
    """
    flat = np.asarray(values, np.float64).ravel()
    if flat.size == 0 or not np.isfinite(flat).all():
        raise ValueError("a histogram needs at least one value, and finite ones")
    low, high = float(flat.min()), float(flat.max())
    span = high - low or max(abs(low), 1.0) * 1e-6
    exponent = int(np.ceil(np.log2(span / (MAX_BINS - 1))))
    exponent = max(exponent, int(np.ceil(np.log2(max(abs(low), abs(high), 1e-300)))) - 51)
    bins = np.floor(np.ldexp(flat, -exponent)).astype(np.int64)
    first = int(bins.min())
    return Histogram(exponent, first, np.bincount(bins - first).astype(np.float64))


def _coarsened(source: Histogram, exponent: int) -> Histogram:
    shift = exponent - source.exponent
    if shift == 0:
        return source
    bins = (source.first + np.arange(len(source.counts), dtype=np.int64)) >> min(shift, 62)
    first = int(bins[0])
    return Histogram(exponent, first, np.bincount(bins - first, weights=source.counts))


def mse_range(
    sample: Histogram,
    extremes: Histogram,
    count: float,
    low: float,
    high: float,
    levels: int = 255,
) -> tuple[float, float]:
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
    fractions = np.concatenate([np.linspace(1.0, 0.3, 57), np.geomspace(0.28, 0.02, 24)])
    clip_low = _clipped(sample, extremes, count, -low * fractions, below=True)
    clip_high = _clipped(sample, extremes, count, high * fractions, below=False)
    span = (high * fractions)[None, :] - (low * fractions)[:, None]
    loss = count * (span / levels) ** 2 / 12 + clip_low[:, None] + clip_high[None, :]
    i, j = np.unravel_index(int(np.argmin(loss)), loss.shape)
    return float(low * fractions[i]), float(high * fractions[j])


def _clipped(
    sample: Histogram, extremes: Histogram, count: float, ends: Array, *, below: bool
) -> Array:
    """Return the squared distance cut off at each end, shape (ends,)."""
    parts = []
    for source, factor in ((sample, count / max(sample.total, 1.0)), (extremes, 1.0)):
        centers = -source.centers if below else source.centers
        used = source.counts > 0
        beyond = np.maximum(centers[used][None, :] - ends[:, None], 0.0)
        parts.append(factor * (np.square(beyond) @ source.counts[used]))
    result: Array = np.maximum(parts[0], parts[1])
    return result
