"""How a weight's values are spread: histogram, fitted densities, and what is dead in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.census import Array, Census, FloatArray, census, sample
from onnxsqueeze.numerics.special import normal_cdf

CLEAR_DISTANCE = 0.05
"""A family whose distribution function is off by more than this is not called a fit."""

_CELLS = 4096


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins of equal width; ``edges`` has one entry more than ``counts``."""

    edges: FloatArray
    counts: npt.NDArray[np.int64]

    @property
    def centers(self) -> FloatArray:
        """Return the middle of each bin."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    @property
    def density(self) -> FloatArray:
        """Return counts as a density: sum times width is 1; zeros where nothing was counted."""
        total = max(int(self.counts.sum()), 1)
        return self.counts.astype(np.float64) / (np.diff(self.edges) * total)


@dataclass(frozen=True)
class Described:
    """An array's values, described.

    Attributes:
        census: Exact counts over all values.
        histogram: Of the sample, over the exact range.
        fits: Density at the histogram's centers: ``normal``, ``laplace``, ``kernel``; empty where
            there is no spread to fit.
        distances: Kolmogorov-Smirnov distance of each parametric fit from the sample, 0 to 1.
        best_fit: ``normal`` or ``laplace``, the nearer one; ``kernel`` where both are off by more
            than ``CLEAR_DISTANCE``; ``constant`` or ``empty`` where nothing was fitted.
    """

    census: Census
    histogram: Histogram
    fits: dict[str, FloatArray]
    distances: dict[str, float]
    best_fit: str


def histogram(
    values: Array, bins: int = 64, limits: tuple[float, float] | None = None
) -> Histogram:
    """Return the histogram of a `sample` of ``values``, between ``limits`` or over its range.

    A range without width becomes one of width 1 around the value, or of a millionth of the value
    where that is more; no finite value at all gives counts of zero between 0 and 1.

    Raises:
        ValueError: If ``bins`` is under 1.

    Example:
        >>> histogram(np.array([0.0, 1.0, 1.0, np.nan]), bins=2).counts.tolist()
        [1, 2]
    """
    if bins < 1:
        raise ValueError(f"histogram needs at least 1 bin, found {bins}")
    finite = sample(values)
    low, high = limits or (
        (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    )
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        half = max(0.5, 1e-6 * abs(low))
        low, high = low - half, high + half
    counts, edges = np.histogram(finite, bins=bins, range=(low, high))
    return Histogram(edges.astype(np.float64), counts.astype(np.int64))


def normal_density(x: FloatArray, mean: float, std: float) -> FloatArray:
    """Return the normal density at ``x``: ``exp(-((x - mean) / std)^2 / 2) / (std sqrt(2 pi))``.

    Example:
        >>> normal_density(np.array([0.0]), 0.0, 1.0).round(4).tolist()
        [0.3989]
    """
    z = (x - mean) / std
    return np.exp(-z * z / 2) / (std * math.sqrt(2 * math.pi))


def laplace_density(x: FloatArray, median: float, scale: float) -> FloatArray:
    """Return the Laplace density at ``x``: ``exp(-|x - median| / scale) / (2 scale)``.

    Example:
        >>> laplace_density(np.array([0.0]), 0.0, 0.5).tolist()
        [1.0]
    """
    return np.exp(-np.abs(x - median) / scale) / (2 * scale)


def silverman_bandwidth(values: FloatArray) -> float:
    """Return the bandwidth of a Gaussian kernel estimate: ``0.9 min(std, IQR / 1.34) n^(-1/5)``.

    Where half of the values or more are equal (IQR 0), the standard deviation stands alone.

    Source:
        Silverman 1986, Density Estimation for Statistics and Data Analysis, eq. 3.31.

    Example:
        >>> round(silverman_bandwidth(np.arange(32.0)), 3)
        4.155
    """
    q1, q3 = np.quantile(values, [0.25, 0.75])
    spread = float(values.std())
    if q3 > q1:
        spread = min(spread, float(q3 - q1) / 1.34)
    return 0.9 * spread * math.pow(values.size, -0.2)


def kernel_density(values: FloatArray, x: FloatArray) -> FloatArray:
    """Return the Gaussian kernel estimate of the density of ``values``, at ``x``.

    The values are put into 4096 cells, shared linearly between the two nearest, and the cells are
    convolved with the kernel by FFT; the bandwidth is Silverman's, but not under one cell.

    Args:
        values: At least two different finite values.
        x: Where to evaluate; outside of the values' range by more than 4 bandwidths it is 0.

    Source:
        Silverman 1982, Algorithm AS 176; linear binning as in Wand 1994, eq. 2.

    Example:
        >>> near, far = kernel_density(np.array([-1.0, 0.0, 1.0]), np.array([0.0, 50.0]))
        >>> bool(near > 0.2), float(far)
        (True, 0.0)
    """
    low, high = float(values.min()), float(values.max())
    bandwidth = silverman_bandwidth(values)
    low, high = low - 4 * bandwidth, high + 4 * bandwidth
    step = (high - low) / (_CELLS - 1)
    bandwidth = max(bandwidth, step)
    position = (values - low) / step
    cell = np.minimum(position.astype(np.int64), _CELLS - 2)
    share = position - cell
    mass = np.bincount(cell, 1 - share, _CELLS) + np.bincount(cell + 1, share, _CELLS)
    # Twice the cells: the part that wraps around then falls on empty ones.
    omega = 2 * np.pi * np.fft.rfftfreq(2 * _CELLS, step)
    smooth = np.fft.irfft(np.fft.rfft(mass, 2 * _CELLS) * np.exp(-((bandwidth * omega) ** 2) / 2))
    density = np.maximum(smooth[:_CELLS], 0.0) / (values.size * step)
    return np.interp(x, low + step * np.arange(_CELLS), density, left=0.0, right=0.0)


def _distance(ordered: FloatArray, cdf: FloatArray) -> float:
    """Return the largest gap between the ordered values' step function and ``cdf`` at them."""
    steps = np.arange(ordered.size + 1) / ordered.size
    # Ties: the step function jumps once, from before the first to after the last equal value.
    before = steps[np.searchsorted(ordered, ordered, side="left")]
    after = steps[np.searchsorted(ordered, ordered, side="right")]
    return float(max((cdf - before).max(), (after - cdf).max()))


def _fit(
    values: FloatArray, centers: FloatArray
) -> tuple[dict[str, FloatArray], dict[str, float]]:
    """Return the fitted densities at ``centers`` and the distances of the parametric ones."""
    ordered = np.sort(values)
    mean, std = float(ordered.mean()), float(ordered.std())
    median = float(np.median(ordered))
    scale = float(np.abs(ordered - median).mean())
    z = (ordered - median) / scale
    tail = np.exp(-np.abs(z)) / 2
    distances = {
        "normal": _distance(ordered, normal_cdf((ordered - mean) / std)),
        "laplace": _distance(ordered, np.where(z < 0, tail, 1 - tail)),
    }
    fits = {
        "normal": normal_density(centers, mean, std),
        "laplace": laplace_density(centers, median, scale),
        "kernel": kernel_density(ordered, centers),
    }
    return fits, distances


def describe(values: Array, bins: int = 64) -> Described:
    """Return how ``values`` are spread: exact counts, histogram, fitted densities, the best fit.

    Normal and Laplace are fitted by maximum likelihood (mean and standard deviation; median and
    mean distance from it), and compared by the Kolmogorov-Smirnov distance. Histogram and fits use
    at most ``SAMPLE_LIMIT`` values; counts and range use all.

    Args:
        values: Real numbers of any shape; NaN and infinity are left out of histogram and fits.
        bins: Number of bins.

    Raises:
        ValueError: If the values are no real numbers, or ``bins`` is under 1.

    Source:
        Banner et al. 2018 (arXiv:1810.05723), section 2: tensors as normal or Laplace.

    Example:
        >>> described = describe(np.random.default_rng(0).laplace(size=4000))
        >>> described.best_fit, described.census.zeros_fraction
        ('laplace', 0.0)
        >>> describe(np.zeros(3)).best_fit
        'constant'
    """
    counted = census(values)
    if not counted.finite:
        return Described(counted, histogram(np.zeros(0), bins), {}, {}, "empty")
    drawn = sample(values)
    found = histogram(drawn, bins, (counted.minimum, counted.maximum))
    # Spread under the resolution of a float64 cannot be fitted.
    if drawn.size < 2 or drawn.std() <= 1e-12 * np.abs(drawn).max():
        name = "constant" if counted.minimum == counted.maximum else "kernel"
        return Described(counted, found, {}, {}, name)
    fits, distances = _fit(drawn, found.centers)
    nearest = min(distances, key=lambda name: distances[name])
    best = nearest if distances[nearest] <= CLEAR_DISTANCE else "kernel"
    return Described(counted, found, fits, distances, best)
