"""Weights as integers and back: one scale per row, or per block of a row.

Weights are seen as matrices: row r holds the values of entry r of the axis that keeps its own
scales, in row-major order of the other axes. A block is a run of ``block`` neighbouring values of
a row.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SHRINK_STEPS = 32
"""Candidate scales of ``mse_scale``, between half the largest magnitude and all of it."""
SIGNED_BITS = 6
"""Codes of at most so many bits may have negative scales: more bits gain nothing by it."""
SMALLEST_SCALE = np.float32(2.0**-124)
"""Half of it is a normal number still, so that neither a division nor a kernel makes it zero."""


def as_rows(weight: Array, axis: int | None) -> Array:
    """Return ``weight`` as a matrix whose rows are the entries of ``axis`` (one row for None).

    Example:
        >>> as_rows(np.arange(6).reshape(2, 3), axis=1).tolist()
        [[0, 3], [1, 4], [2, 5]]
    """
    if axis is None:
        return weight.reshape(1, -1)
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def from_rows(rows: Array, shape: tuple[int, ...], axis: int | None) -> Array:
    """Return the tensor of ``shape`` whose ``as_rows`` is ``rows``.

    Example:
        >>> from_rows(np.array([[0, 3], [1, 4], [2, 5]]), (2, 3), axis=1).tolist()
        [[0, 1, 2], [3, 4, 5]]
    """
    if axis is None:
        return rows.reshape(shape)
    axis %= len(shape)
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.moveaxis(rows.reshape(moved), 0, axis)


def largest_block(features: int, wanted: int | None) -> int | None:
    """Return the largest divisor of ``features`` from 8 to ``wanted``, or None.

    Example:
        >>> largest_block(384, 128), largest_block(27, 16), largest_block(7, 16)
        (128, 9, None)
    """
    if wanted is None:
        return None
    for block in range(min(wanted, features), 7, -1):
        if features % block == 0:
            return block
    return None


def code_type(bits: int) -> type[np.signedinteger[Any]]:
    """Return the NumPy type that holds codes of ``bits`` bits.

    Example:
        >>> code_type(8).__name__, code_type(10).__name__
        ('int8', 'int16')
    """
    return np.int8 if bits <= 8 else np.int16


def limits(bits: int) -> tuple[int, int]:
    """Return the codes' lowest and highest value: [−127, 127] for 8 bits, [−8, 7] for 4.

    Eight bits leave out −128 so that −w is stored as −q; of sixteen values none can be spared.
    """
    low = -(2 ** (bits - 1))
    return (low + 1 if bits >= 8 else low), 2 ** (bits - 1) - 1


def _blocked(rows: Array, block: int | None) -> Array:
    return rows.reshape(rows.shape[0], -1, block or rows.shape[1])


def to_bfloat16(scale: Array) -> Array:
    """Return ``scale`` rounded to a larger bfloat16 value, as float32, so that no code is cut off.

    A negative one is rounded down.

    Example:
        >>> float(to_bfloat16(np.array([1.0, 1.001], np.float32))[1])
        1.0078125
    """
    near = scale.astype(ml_dtypes.bfloat16)
    away = np.nextafter(near, np.where(scale < 0, -np.inf, np.inf).astype(ml_dtypes.bfloat16))
    is_small = np.abs(near.astype(np.float32)) < np.abs(scale)
    return np.where(is_small, away, near).astype(np.float32)


def max_scale(rows: Array, bits: int, block: int | None = None) -> Array:
    """Return the smallest scales that cut nothing off: ``max|w| / highest code``, from 2**-124 on.

    Args:
        rows: Weights, shape (rows, features), finite.
        bits: Bits per code.
        block: Values per scale; None for one scale per row. Must divide ``features``.

    Returns:
        Scales in units of ``rows``, float32, shape (rows, features / block). Zeros get scale 1.

    Raises:
        ValueError: If ``rows`` holds NaN or infinity, or ``block`` does not divide the features.

    Source:
        ONNX DequantizeLinear-21; Jacob et al. 2018 (arXiv:1712.05877), eq. 1 with Z = 0.

    Example:
        >>> max_scale(np.array([[127, -50], [0, 0]], np.float32), bits=8).ravel().tolist()
        [1.0, 1.0]
    """
    _check(rows, block)
    largest = np.abs(_blocked(rows, block)).max(axis=2)
    scale = np.maximum(largest / limits(bits)[1], SMALLEST_SCALE)
    return np.where(largest > 0, scale, 1).astype(np.float32)


def _check(rows: Array, block: int | None) -> None:
    if not np.isfinite(rows).all():
        raise ValueError("weights must be finite, and hold NaN or infinity")
    if block is not None and rows.shape[1] % block:
        raise ValueError(f"block {block} does not divide {rows.shape[1]} features")


def mse_scale(
    rows: Array,
    bits: int,
    block: int | None = None,
    importance: Array | None = None,
    *,
    signed: bool = True,
) -> Array:
    """Return the scales with the least weighted squared rounding error, of 32 tried per block.

    Minimises ``sum_k h_k (w_k − ŵ_k)²`` over shrunk ranges: cutting off the largest values makes
    all other steps finer. Of few bits one code more is negative than positive, so a scale is also
    tried with the sign that gives it to the largest value (0.4 dB at 4 bits, for no bytes).
    Shapes, units and errors as in ``max_scale``.

    Args:
        rows: Weights, shape (rows, features), finite.
        bits: Bits per code.
        block: Values per scale.
        importance: h, the mean square of what each value is multiplied with, shape (features,),
            (1, features) or that of ``rows``.
        signed: Whether scales may be negative, which no integer kernel takes.

    Source:
        Banner et al. 2019 (arXiv:1810.05723), by search instead of in closed form.
    """
    full = max_scale(rows, bits, block)
    values = _blocked(rows.astype(np.float32), block)
    weights = (
        np.ones((1, *values.shape[1:]), np.float32)
        if importance is None
        else _blocked(np.atleast_2d(importance.astype(np.float32)), block)
    )
    best, best_error = full, np.full(full.shape, np.inf, np.float32)
    for wide in (full, *([_signed(values, bits)] if signed and bits <= SIGNED_BITS else [])):
        for shrink in np.linspace(1.0, 0.5, SHRINK_STEPS, dtype=np.float32):
            scale = wide * shrink
            error = _error(values, scale, bits, weights)
            best = np.where(error < best_error, scale, best)
            best_error = np.minimum(error, best_error)
    return best


def _signed(values: Array, bits: int) -> Array:
    """Return the scales that put each block's largest value on the lowest code."""
    places = np.abs(values).argmax(axis=2)[:, :, None]
    scale = np.take_along_axis(values, places, axis=2)[:, :, 0] / limits(bits)[0]
    large = np.where(np.abs(scale) < SMALLEST_SCALE, SMALLEST_SCALE, scale)
    return large.astype(np.float32)


def _error(values: Array, scale: Array, bits: int, weights: Array) -> Array:
    low, high = limits(bits)
    codes = np.clip(np.rint(values / scale[:, :, None]), low, high)
    codes *= scale[:, :, None]
    codes -= values
    np.square(codes, out=codes)
    result: Array = np.einsum("rbk,rbk->rb", codes, np.broadcast_to(weights, codes.shape))
    return result


def to_grid(rows: Array, scale: Array, bits: int) -> Array:
    """Return the nearest codes, in the shape of ``rows``; beyond the ends is cut off.

    Example:
        >>> to_grid(np.array([[0.26, -9.0]]), np.array([[0.5]]), bits=4).tolist()
        [[1, -8]]
    """
    low, high = limits(bits)
    blocked = rows.reshape(rows.shape[0], scale.shape[1], -1)
    codes = np.clip(np.rint(blocked / scale[:, :, None]), low, high)
    return codes.astype(code_type(bits)).reshape(rows.shape)


def from_grid(codes: Array, scale: Array) -> Array:
    """Return the values that ``codes`` stand for, float32, in the shape of ``codes``.

    Example:
        >>> from_grid(np.array([[1, -8]], np.int8), np.array([[0.5]], np.float32)).tolist()
        [[0.5, -4.0]]
    """
    blocked = codes.reshape(codes.shape[0], scale.shape[1], -1).astype(np.float32)
    result: Array = (blocked * scale[:, :, None]).reshape(codes.shape)
    return result
