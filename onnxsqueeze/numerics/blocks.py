"""Grids of blocks that use every code: scales of either sign, and zero points.

Of two's complement codes one more is negative than positive. With a negative scale the largest
positive value takes it, so that a block of ``bits`` bits uses all of its codes whichever sign its
largest value has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.grid import SMALLEST_SCALE, max_scale

Array = npt.NDArray[Any]

SIZES = (16, 32, 64, 128, 256)
"""Values per scale that ONNX Runtime's kernel for weights of few bits reads."""
USUAL = {4: 128, 8: 256}
"""Values per scale by bits, or the largest size below that fits: the larger, the faster, since
each block ends with a product in floats, and the coarser, which 8 bits do not feel."""
SHRINK_STEPS = 20
"""Ranges that are tried per block, between half of what cuts nothing off and all of it."""


def block_within(features: int, wanted: int) -> int | None:
    """Return the largest of ``SIZES`` up to ``wanted`` that divides the features, or None.

    Example:
        >>> block_within(384, 64), block_within(384, 256), block_within(100, 64)
        (64, 128, None)
    """
    return max((size for size in SIZES if size <= wanted and features % size == 0), default=None)


def ends(bits: int) -> tuple[int, int]:
    """Return the lowest and highest code, all of them: [−8, 7] for 4 bits.

    Example:
        >>> ends(4), ends(8)
        ((-8, 7), (-128, 127))
    """
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def signed_scale(rows: Array, bits: int, block: int, importance: Array | None = None) -> Array:
    """Return the scales, of either sign, with the least weighted squared rounding error.

    Tried are ranges whose end at the lowest code is the value with the largest magnitude, or less
    of it, and the same the other way round; the best is no worse than ``grid.max_scale``, which
    is among them.

    Args:
        rows: Weights, shape (rows, features), finite.
        bits: Bits per code; all of them are used, see ``ends``.
        block: Values per scale; must divide the features.
        importance: Mean square of what each column is multiplied with, shape (features,).

    Returns:
        Scales, float32, shape (rows, features / block), none of them zero.

    Raises:
        ValueError: If ``rows`` holds NaN or infinity, or ``block`` does not divide the features.

    Source:
        The sign as in Gerganov et al., ggml, format Q4_0; the search as in ``grid.mse_scale``.
    """
    best = max_scale(rows, bits, block)
    values = _blocked(rows, block)
    weights = _weights(importance, values.shape)
    largest = np.take_along_axis(values, np.abs(values).argmax(axis=2)[:, :, None], axis=2)[
        :, :, 0
    ]
    full = (largest / ends(bits)[0]).astype(np.float32)
    full = np.where(np.abs(full) < SMALLEST_SCALE, SMALLEST_SCALE, full)
    zero = np.zeros(best.shape, np.float32)
    least = _error(values, best, zero, bits, weights)
    for shrink in np.linspace(1.0, 0.5, SHRINK_STEPS, dtype=np.float32):
        for scale in (full * shrink, -full * shrink):
            error = _error(values, scale, zero, bits, weights)
            best = np.where(error < least, scale, best)
            least = np.minimum(error, least)
    return best


def offset_grid(
    rows: Array, bits: int, block: int, importance: Array | None = None
) -> tuple[Array, Array]:
    """Return scales and zero points with the least weighted squared rounding error.

    A value is ``(code − zero) · scale``. Tried are ranges from the smallest to the largest value,
    and shorter ones. Arguments and errors as in ``signed_scale``.

    Returns:
        Scales, float32, over zero, and zero points, int8, both of shape (rows, features / block).

    Source:
        Jacob et al. 2018 (arXiv:1712.05877), eq. 1; zero itself is on the grid.
    """
    low, high = _extremes(rows, bits, block)
    values = _blocked(rows, block)
    weights = _weights(importance, values.shape)
    best: tuple[Array, Array] | None = None
    least = np.full(low.shape, np.inf, np.float32)
    for shrink in np.linspace(1.0, 0.5, SHRINK_STEPS, dtype=np.float32):
        made = _between(low * shrink, high * shrink, bits)
        error = _error(values, *made, bits, weights)
        best = made if best is None else _where(error < least, made, best)
        least = np.minimum(error, least)
    assert best is not None  # there are steps
    return best[0], best[1].astype(np.int8)


def whole_range(rows: Array, bits: int, block: int) -> tuple[Array, Array]:
    """Return scales and zero points of the smallest ranges that cut nothing off.

    Arguments, result and errors as in ``offset_grid``.

    Example:
        >>> [part.tolist() for part in whole_range(np.array([[15.0, 0.0]]), 4, 2)]
        [[[1.0]], [[-8]]]
    """
    scale, zero = _between(*_extremes(rows, bits, block), bits)
    return scale, zero.astype(np.int8)


def _extremes(rows: Array, bits: int, block: int) -> tuple[Array, Array]:
    max_scale(rows, bits, block)  # raises what it raises
    values = _blocked(rows, block)
    return np.minimum(values.min(axis=2), 0), np.maximum(values.max(axis=2), 0)


def _between(low: Array, high: Array, bits: int) -> tuple[Array, Array]:
    first, last = ends(bits)
    scale = np.maximum((high - low) / (last - first), SMALLEST_SCALE).astype(np.float32)
    scale = np.where(high > low, scale, 1).astype(np.float32)
    zero = np.clip(np.rint(first - low / scale), first, last).astype(np.float32)
    return scale, zero


def _where(better: Array, one: tuple[Array, Array], other: tuple[Array, Array]) -> Any:
    return tuple(np.where(better, a, b) for a, b in zip(one, other, strict=True))


def to_blocks(rows: Array, scale: Array, bits: int, zero: Array | None = None) -> Array:
    """Return the nearest codes, int8, in the shape of ``rows``; all codes are used.

    Example:
        >>> to_blocks(np.array([[4.0, -1.0]]), np.array([[-0.5]]), bits=4).tolist()
        [[-8, 2]]
    """
    offset = np.zeros(scale.shape, np.float32) if zero is None else zero.astype(np.float32)
    codes = _codes(_blocked(rows, rows.shape[1] // scale.shape[1]), scale, offset, bits)
    return codes.astype(np.int8).reshape(rows.shape)


def from_blocks(codes: Array, scale: Array, zero: Array | None = None) -> Array:
    """Return ``(code − zero) · scale``, float32, in the shape of ``codes``.

    Example:
        >>> from_blocks(np.array([[7, 1]], np.int8), np.array([[2.0]]), np.array([[1]])).tolist()
        [[12.0, 0.0]]
    """
    blocked = codes.reshape(codes.shape[0], scale.shape[1], -1).astype(np.float32)
    if zero is not None:
        blocked = blocked - zero[:, :, None].astype(np.float32)
    result: Array = (blocked * scale[:, :, None].astype(np.float32)).reshape(codes.shape)
    return result


def _blocked(rows: Array, block: int) -> Array:
    return rows.reshape(rows.shape[0], -1, block).astype(np.float32)


def _weights(importance: Array | None, shape: tuple[int, ...]) -> Array:
    if importance is None:
        return np.ones((1, *shape[1:]), np.float32)
    return importance.astype(np.float32).reshape(1, *shape[1:])


def _codes(values: Array, scale: Array, zero: Array, bits: int) -> Array:
    codes = np.rint(values / scale[:, :, None])
    codes += zero[:, :, None]
    result: Array = np.clip(codes, *ends(bits), out=codes)
    return result


def _error(values: Array, scale: Array, zero: Array, bits: int, weights: Array) -> Array:
    codes = _codes(values, scale, zero, bits)
    codes -= zero[:, :, None]
    codes *= scale[:, :, None]
    codes -= values
    np.square(codes, out=codes)
    result: Array = np.einsum("rbk,rbk->rb", codes, np.broadcast_to(weights, codes.shape))
    return result
