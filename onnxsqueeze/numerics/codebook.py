"""Codebooks: the few values that stand for all others best, wherever they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BINS = 4096
"""Bins of the histogram that levels are fitted to: their width is far below that of a cell."""
ROUNDS = 60
SETTLED = 1e-6
"""Lloyd's steps end when a step takes away no more than this part of the error."""


def levels(values: Array, bits: int, weights: Array | None = None) -> Array:
    """Return ``2**bits`` values, ascending, with a small ``Σ h (v − nearest level)²``.

    Lloyd's algorithm on a weighted histogram, from quantiles of the cube root of the density
    (the best spacing for many levels) and from a uniform grid; the better of the two counts.

    Args:
        values: Any shape, finite.
        bits: Bits per code.
        weights: h, shape of ``values``, what an error is worth; None for equal ones.

    Returns:
        Levels, float32, shape (2**bits,).

    Raises:
        ValueError: If ``values`` holds NaN or infinity, or no value at all.

    Source:
        Lloyd 1982, "Least squares quantization in PCM"; Panter and Dite 1951 for the start.

    Example:
        >>> levels(np.array([0.0, 1.0, 1.0, 8.0, 8.0, 2.0]), bits=2).tolist()
        [0.0, 1.0, 2.0, 8.0]
    """
    if not values.size or not np.isfinite(values).all():
        raise ValueError("a codebook is made of finite values, at least one")
    count = 2**bits
    distinct = np.unique(values) if values.size <= BINS else None
    if distinct is not None and len(distinct) <= count:
        return np.pad(distinct, (0, count - len(distinct)), mode="edge").astype(np.float32)
    centres, mass = _histogram(values, weights)
    starts = (_even(centres, count), _spread(centres, mass, count))
    found = [_lloyd(centres, mass, start) for start in starts]
    return min(found, key=lambda one: _error(centres, mass, one)).astype(np.float32)


def nearest(values: Array, book: Array) -> Array:
    """Return the index of the nearest level of each value, in the shape of ``values``.

    Example:
        >>> nearest(np.array([0.2, 0.9, -5.0]), np.array([0.0, 1.0])).tolist()
        [0, 1, 0]
    """
    result: Array = np.searchsorted((book[1:] + book[:-1]) / 2, values)
    return result


def _histogram(values: Array, weights: Array | None) -> tuple[Array, Array]:
    """Return the mean and the weight of what lies in each bin that is not empty."""
    flat = values.ravel().astype(np.float64)
    worth = np.ones(flat.size) if weights is None else weights.ravel().astype(np.float64)
    low, high = float(flat.min()), float(flat.max())
    place = np.minimum(((flat - low) * (BINS / (high - low))).astype(np.int64), BINS - 1)
    mass = np.bincount(place, worth, BINS)
    first = np.bincount(place, worth * flat, BINS)
    kept = mass > 0
    if not kept.any():  # no value is worth anything: all count alike
        return _histogram(values, None)
    return first[kept] / mass[kept], mass[kept]


def _even(centres: Array, count: int) -> Array:
    return np.linspace(centres[0], centres[-1], count)


def _spread(centres: Array, mass: Array, count: int) -> Array:
    """Return levels as dense as the cube root of the density."""
    width = np.gradient(centres) if len(centres) > 1 else np.ones(1)
    amount = np.cumsum(np.cbrt(mass / np.maximum(width, 1e-300)) * width)
    places = (np.arange(count) + 0.5) / count * amount[-1]
    result: Array = np.interp(places, amount, centres)
    return result


def _lloyd(centres: Array, mass: Array, book: Array) -> Array:
    least = _error(centres, mass, book)
    for _ in range(ROUNDS):
        place = nearest(centres, book)
        weight = np.bincount(place, mass, len(book))
        total = np.bincount(place, mass * centres, len(book))
        moved = np.sort(np.where(weight > 0, total / np.maximum(weight, 1e-300), book))
        error = _error(centres, mass, moved)
        if error > least:
            break
        book, gained, least = moved, least - error, error
        if gained <= SETTLED * least:
            break
    return book


def _error(centres: Array, mass: Array, book: Array) -> float:
    return float(mass @ np.square(centres - book[nearest(centres, book)]))


def compensated_levels(
    rows: Array, order: Array, upper: Array, scale: Array, book: Array
) -> Array:
    """Return the indices of levels, column by column, each error made up for in the next columns.

    Args:
        rows: Weights, shape (rows, features).
        order: Columns in the order in which they are rounded; see ``rounding.Factor``.
        upper: Upper triangular U with ``UᵀU = H⁻¹`` in that order.
        scale: Scales, shape (rows, features / block), over zero.
        book: Levels, ascending; a value is ``level · scale``.

    Returns:
        Indices, shape of ``rows``.

    Source:
        Frantar et al. 2023, GPTQ (arXiv:2210.17323), algorithm 1, with levels for a grid.
    """
    features = rows.shape[1]
    steps = np.repeat(scale, features // scale.shape[1], axis=1).T[order]
    weights = np.ascontiguousarray(rows.T[order], np.float32)
    found = np.empty(weights.shape, np.int64)
    for k in range(features):
        found[k] = nearest(weights[k] / steps[k], book)
        error = (weights[k] - book[found[k]] * steps[k]) / upper[k, k]
        weights[k + 1 :] -= upper[k, k + 1 :, None] * error
    result = np.empty(rows.shape, np.int64)
    result[:, order] = found.T
    return result
