"""Rounding without data: the grid of each block with few large errors, by half-quadratics."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.blocks import (
    ends,
    from_blocks,
    offset_grid,
    signed_scale,
    to_blocks,
    whole_range,
)
from onnxsqueeze.numerics.grid import SMALLEST_SCALE, max_scale

Array = npt.NDArray[Any]

POWER = 0.7
"""p of the norm: below 1, so that few large errors count less than many small ones."""
ROUNDS = 20
BETA, GROWTH = 10.0, 1.01
"""How much a split-off error costs, in units of the mean magnitude, and its growth per round."""


def half_quadratic(
    rows: Array, bits: int, block: int | None = None, *, has_zero: bool = False
) -> tuple[Array, Array | None]:
    """Return scales, and zero points if asked for, with a small ``Σ|w − ŵ|^p``, p = 0.7.

    Large errors are split off as E: ``min ‖E‖_p^p + β/2 ‖W − Ŵ − E‖²`` has a closed form in E
    (shrinkage), and, with the codes kept, one in scale and zero point (least squares), in turns.
    It starts with the smallest range that cuts nothing off, and again with the range of the least
    squared error; the best grid of all rounds counts, so it is worse than neither.

    Args:
        rows: Weights, shape (rows, features), finite.
        bits: Bits per code.
        block: Values per scale; None for one scale per row. Must divide the features.
        has_zero: Whether there are zero points; they are whole numbers on the grid.

    Returns:
        Scales, float32, and zero points, int8, or None; both of shape (rows, features / block).

    Raises:
        ValueError: If ``rows`` holds NaN or infinity, or ``block`` does not divide the features.

    Source:
        Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models"
        (mobiusml.github.io/hqq_blog); there the zero point alone is fitted, and need not be whole.

    Example:
        >>> rows = np.array([[1.0, -0.9, 0.11, 0.12]], np.float32)
        >>> plain = lost(rows, max_scale(rows, 3), None, 3)
        >>> bool((lost(rows, *half_quadratic(rows, 3), 3) <= plain).all())
        True
    """
    size = block or rows.shape[1]
    starts = (_with_zeros if has_zero else _without)(rows, bits, size)
    found = [_descended(rows, bits, size, *start) for start in starts]
    (scale, zero, least), (other, other_zero, error) = found
    better = error < least
    if zero is not None and other_zero is not None:
        zero = np.where(better, other_zero, zero)
    return np.where(better, other, scale), zero


Start = tuple[Array, Array | None]


def _without(rows: Array, bits: int, size: int) -> tuple[Start, Start]:
    return (max_scale(rows, bits, size), None), (signed_scale(rows, bits, size), None)


def _with_zeros(rows: Array, bits: int, size: int) -> tuple[Start, Start]:
    return whole_range(rows, bits, size), offset_grid(rows, bits, size)


def _descended(
    rows: Array, bits: int, size: int, scale: Array, zero: Array | None
) -> tuple[Array, Array | None, Array]:
    """Return the best scale and zero of all rounds from a start, and what they lose."""
    best, best_zero, least = scale, zero, lost(rows, scale, zero, bits)
    values = rows.reshape(rows.shape[0], -1, size).astype(np.float32)
    unit = np.maximum(np.abs(values).mean(axis=2, keepdims=True), SMALLEST_SCALE)
    beta = BETA
    for _ in range(ROUNDS):
        codes = to_blocks(rows, scale, bits, zero)
        away = values - from_blocks(codes, scale, zero).reshape(values.shape)
        target = values - _shrunk(away / unit, beta) * unit
        scale, zero = _fitted(codes.reshape(values.shape).astype(np.float32), target, zero, bits)
        error = lost(rows, scale, zero, bits)
        better = error < least
        best, least = np.where(better, scale, best), np.minimum(error, least)
        if zero is not None and best_zero is not None:
            best_zero = np.where(better, zero, best_zero)
        beta *= GROWTH
    return best, best_zero, least


def lost(rows: Array, scale: Array, zero: Array | None, bits: int) -> Array:
    """Return ``Σ|w − ŵ|^p`` of each block with the nearest codes, shape of ``scale``."""
    back = from_blocks(to_blocks(rows, scale, bits, zero), scale, zero)
    away = np.abs(rows.astype(np.float32) - back).reshape(*scale.shape, -1)
    result: Array = np.power(away, np.float32(POWER)).sum(axis=2)
    return result


def _shrunk(away: Array, beta: float) -> Array:
    """Return the E that is least for ``|E|^p + β/2 (a − E)²``, to first order; signs stay."""
    size = np.abs(away)
    cut = np.power(np.maximum(size, np.float32(1e-12)), np.float32(POWER - 1)) / np.float32(beta)
    result: Array = np.sign(away) * np.maximum(size - cut, 0)
    return result


def _fitted(
    codes: Array, target: Array, zero: Array | None, bits: int
) -> tuple[Array, Array | None]:
    """Return the scale of least squares for these codes and, before it, the whole zero point."""
    if zero is not None:
        # target = s·q − s·z: the line through (q, target), whose intercept gives the zero point.
        q, t = codes.mean(axis=2, keepdims=True), target.mean(axis=2, keepdims=True)
        spread = np.square(codes - q).sum(axis=2)
        slope = ((codes - q) * (target - t)).sum(axis=2) / np.maximum(spread, 1e-12)
        is_line = (slope > SMALLEST_SCALE) & (spread > 0)  # equal codes show no slope
        meets = q[:, :, 0] - t[:, :, 0] / np.where(is_line, slope, 1)
        fitted = np.clip(np.rint(meets), *ends(bits))
        zero = np.where(is_line, fitted, zero).astype(np.int8)
        codes = codes - zero[:, :, None].astype(np.float32)
    energy = np.square(codes).sum(axis=2)
    scale = (codes * target).sum(axis=2) / np.maximum(energy, 1e-12)
    is_usable = (np.abs(scale) > SMALLEST_SCALE) & (energy > 0)
    return np.where(is_usable, scale, 1).astype(np.float32), zero
