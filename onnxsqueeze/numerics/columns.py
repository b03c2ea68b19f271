"""Scales of columns: what makes a few large columns stop costing all others their precision.

A row's scale follows its largest value. Where a few columns hold the large values (an input
channel that is small, and has large weights for it), all others are rounded coarsely. With a
second scale per column, ``w_rk ≈ code_rk · scale_r · column_k``, the rows are even, and columns
that are multiplied with large inputs can be given finer steps. Restored when the model loads, it
costs nothing at run time.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.grid import from_grid, max_scale, to_grid

Array = npt.NDArray[Any]

POWERS_OF_SIZE = (0.0, 0.25, 0.5, 0.75)
POWERS_OF_IMPORTANCE = (0.0, 0.125, 0.25)
LARGEST_RATIO = 1e4
"""Columns are at most this far from their geometric mean."""
SHRINKS = {False: (1.0, 0.8, 0.65, 0.5), True: (1.0,)}
"""Scales tried as parts of the largest one, where codes have fewer than 8 bits, and where not."""
FEWEST_FEATURES = 32
"""Rows of fewer values do not pay for a scale per column."""


def column_scale(
    rows: Array, bits: int, block: int | None, importance: Array | None
) -> tuple[Array, float]:
    """Return a scale per column, and the rounding error with it as a part of that without.

    Of ``column_k = max_r|w_rk|**b · h_k**−a``, for several a and b, the one with the least
    weighted error ``Σ h_k (w_rk − ŵ_rk)²`` of rounding to the nearest.

    Args:
        rows: Weights, shape (rows, features), finite.
        bits: Bits per code.
        block: Values per scale; None for one scale per row.
        importance: h, shape (features,): the mean square of what each column is multiplied with;
            None for equal ones.

    Returns:
        Column scales, float32, shape (features,), geometric mean about 1; and the ratio of errors,
        1 where equal columns are best (or nothing is lost).

    Source:
        Lin et al. 2023, AWQ (arXiv:2306.00978), eq. 4 and 5, with the columns' own sizes beside
        the activations', and restored in the weight instead of in the activation.

    Example:
        >>> rows = np.array([[100.0, 1.1, 0.9], [-90.0, 0.7, 1.2]], np.float32)
        >>> column_scale(rows, bits=4, block=None, importance=None)[1] < 0.1
        True
    """
    weights = np.ones(rows.shape[1], np.float32) if importance is None else importance
    weights = (weights + 1e-6 * max(float(weights.mean()), 1e-30)).astype(np.float32)
    sizes = np.abs(rows).max(axis=0)
    sizes = np.maximum(sizes, max(float(sizes.max()) * 1e-6, 1e-30))
    best, best_error, plain = np.ones(rows.shape[1], np.float32), np.inf, 0.0
    for of_size, of_importance in product(POWERS_OF_SIZE, POWERS_OF_IMPORTANCE):
        columns = _even(sizes**of_size * weights**-of_importance)
        error = _error(rows, columns, bits, block, weights)
        if of_size == of_importance == 0:
            plain = error
        if error < best_error:
            best, best_error = columns, error
    return best, best_error / plain if plain > 0 else 1.0


def _even(columns: Array) -> Array:
    """Return ``columns`` divided by their geometric mean, within LARGEST_RATIO of it."""
    even = columns / np.exp(np.log(columns).mean())
    result: Array = np.clip(even, 1 / LARGEST_RATIO, LARGEST_RATIO).astype(np.float32)
    return result


def _error(rows: Array, columns: Array, bits: int, block: int | None, weights: Array) -> float:
    """Return the weighted error with the best of a few shrunk scales per row."""
    even = rows / columns
    full = max_scale(even, bits, block)
    weights = weights * np.square(columns)
    best = np.full(len(rows), np.inf)
    for shrink in SHRINKS[bits >= 8]:
        scale = (full * np.float32(shrink)).astype(np.float32)
        error = np.square(from_grid(to_grid(even, scale, bits), scale) - even) @ weights
        best = np.minimum(best, error)
    return float(best.sum())
