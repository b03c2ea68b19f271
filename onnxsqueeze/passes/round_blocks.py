"""From a choice with form ``blockwise`` to codes, scales and zero points of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.blocks import offset_grid, signed_scale, to_blocks
from onnxsqueeze.numerics.grid import to_bfloat16
from onnxsqueeze.numerics.hqq import half_quadratic
from onnxsqueeze.numerics.rounding import Factor, compensated, damped, descended
from onnxsqueeze.plan.types import WeightChoice

Array = npt.NDArray[Any]
Blocks = tuple[Array, Array, Array | None]
"""Codes (channels, features), scales and zero points (channels, features / block)."""


def block_codes(
    rows: Array,
    choice: WeightChoice,
    matrix: Array | None,
    rows_seen: int,
    zeros: Array | None,
    known: Factor | None,
) -> Blocks:
    """Return a weight's codes as its choice says: nearest, half-quadratic or compensated.

    Args:
        rows: Weights, float32, shape (channels, features), finite.
        choice: Its choice, with form ``blockwise``.
        matrix: Second moments of its inputs, not damped; None where they are not known.
        rows_seen: Rows that they are made of.
        zeros: True where the value must be zero.
        known: The factor of the damped matrix, if computed before.
    """
    assert choice.block is not None  # plan/types.py: form blockwise has blocks
    scale, zero = _grid(rows, choice, matrix)
    scale = to_bfloat16(scale)  # a table stores it so
    if choice.rounding != "compensated" or matrix is None:
        return _nearest(rows, scale, zero, choice.bits, zeros), scale, zero
    wide = damped(matrix, rows_seen)
    fitted = compensated(rows, wide, scale, choice.bits, zeros, zero=zero, known=known)
    return descended(fitted, rows, wide, scale, choice.bits, zeros, zero=zero), scale, zero


def _grid(rows: Array, choice: WeightChoice, matrix: Array | None) -> tuple[Array, Array | None]:
    assert choice.block is not None  # as above
    bits, block = choice.bits, choice.block
    if choice.rounding == "half_quadratic":
        return half_quadratic(rows, bits, block, has_zero=choice.offset)
    importance = None if matrix is None else np.maximum(np.diag(matrix), 0)
    if choice.offset:
        return offset_grid(rows, bits, block, importance)
    return signed_scale(rows, bits, block, importance), None


def _nearest(
    rows: Array, scale: Array, zero: Array | None, bits: int, zeros: Array | None
) -> Array:
    codes = to_blocks(rows, scale, bits, zero)
    if zeros is None:
        return codes
    empty = np.zeros(scale.shape, np.int8) if zero is None else zero
    wide = np.repeat(empty, rows.shape[1] // scale.shape[1], axis=1)
    return np.where(zeros, wide, codes)
