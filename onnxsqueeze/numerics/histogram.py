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
        a, b = coarsened(self, exponent), coarsened(other, exponent)
        first = min(a.first, b.first)
        last = max(a.first + len(a.counts), b.first + len(b.counts))
        while last - first > MAX_BINS:
            exponent += 1
            a, b = coarsened(a, exponent), coarsened(b, exponent)
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


def coarsened(source: Histogram, exponent: int) -> Histogram:
    """Return the histogram with bins of width ``2**exponent``, not under its own: exact."""
    shift = exponent - source.exponent
    if shift == 0:
        return source
    bins = (source.first + np.arange(len(source.counts), dtype=np.int64)) >> min(shift, 62)
    first = int(bins[0])
    return Histogram(exponent, first, np.bincount(bins - first, weights=source.counts))
