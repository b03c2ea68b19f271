"""What is true of all values of an array, counted exactly, and a fair sample of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

SAMPLE_LIMIT = 1 << 20
"""Fits use at most this many values: their standard error is then under 0.1% of the spread."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Census:
    """What is true of all values of an array, counted exactly.

    Attributes:
        size: Number of values.
        finite: How many of them are finite.
        zeros: How many are exactly zero.
        minimum: Smallest finite value; NaN if there is none.
        maximum: Largest finite value; NaN if there is none.
    """

    size: int
    finite: int
    zeros: int
    minimum: float
    maximum: float

    @property
    def zeros_fraction(self) -> float:
        """Return the fraction of values that are exactly zero; 0 for an empty array."""
        return self.zeros / self.size if self.size else 0.0

    @property
    def is_constant(self) -> bool:
        """Return whether every value is the same finite number; an empty array is not constant."""
        return 0 < self.finite == self.size and self.minimum == self.maximum


def census(values: Array) -> Census:
    """Return exact counts and range of ``values``, with 8 MiB of memory whatever their number.

    Args:
        values: Real numbers of any shape and layout, memory-mapped too; NaN and infinity are
            counted in ``size`` only.

    Raises:
        ValueError: If the values are no real numbers.

    Example:
        >>> census(np.array([0.0, 2.0, np.nan, -1.0]))
        Census(size=4, finite=3, zeros=1, minimum=-1.0, maximum=2.0)
    """
    _check_real(values)
    finite = zeros = 0
    low, high = math.inf, -math.inf
    chunks = np.nditer(
        values,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_dtypes=[np.dtype(np.float64)],
        casting="unsafe",
        buffersize=_CHUNK,
    )
    for chunk in chunks:
        kept = chunk[np.isfinite(chunk)]
        finite += kept.size
        zeros += kept.size - int(np.count_nonzero(kept))
        low = min(low, float(kept.min(initial=math.inf)))
        high = max(high, float(kept.max(initial=-math.inf)))
    if not finite:
        low = high = math.nan
    return Census(values.size, finite, zeros, low, high)


def sample(values: Array, limit: int = SAMPLE_LIMIT) -> FloatArray:
    """Return at most ``limit`` finite values, the same ones at every call, in their order.

    One value is drawn at random from each of ``limit`` equal stretches, so that no row or channel
    is missed and no period of the layout is hit; no copy of ``values`` is made.

    Example:
        >>> sample(np.array([[1.0, np.inf], [3.0, 4.0]])).tolist()
        [1.0, 3.0, 4.0]
    """
    _check_real(values)
    if values.size <= limit:
        drawn = values.reshape(-1)
    else:
        starts = np.arange(limit + 1) * values.size // limit
        index = np.random.default_rng(0).integers(starts[:-1], starts[1:])
        drawn = values[np.unravel_index(index, values.shape)]
    numbers = drawn.astype(np.float64)
    return numbers[np.isfinite(numbers)]


def _check_real(values: Array) -> None:
    # ml_dtypes' narrow types are of kind "V"; they convert like any other number.
    if values.dtype.kind in "cOSUmM":
        raise ValueError(f"values must be real numbers, found {values.dtype}")
