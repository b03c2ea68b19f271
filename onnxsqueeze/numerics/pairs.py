"""Signed 8-bit codes whose products x64 kernels without VNNI can add in 16 bits.

``vpmaddubsw`` adds the products of two neighbouring features in 16 bits and cuts the sum off.
With unsigned activations up to 255 it fits where ``|a + b| <= 128``: 255 · 128 < 2^15.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.grid import SMALLEST_SCALE

Array = npt.NDArray[Any]

LARGEST_SUM = 128
"""Magnitude that the sum of two neighbouring codes may have."""


def partners(shape: tuple[int, ...], axis: int) -> Array:
    """Return which features of a weight kernels add in pairs.

    Kernels go over the features of a matrix in order, and over those of a convolution, whose
    weight is (M, C/group, *kernel), with the channels innermost. A last feature without a partner
    is paired with itself by −1, which stands for a zero.

    Args:
        shape: Shape of the weight.
        axis: Axis of the output channels; the first for a convolution.

    Returns:
        Positions in a row of ``numerics.grid.as_rows``, int64, shape (pairs, 2).

    Example:
        >>> partners((4, 2, 1, 2), axis=0).tolist()  # both channels of a place are partners
        [[0, 2], [1, 3]]
        >>> partners((3, 8), axis=1).tolist()  # a matrix of three features
        [[0, 1], [2, -1]]
    """
    order = np.arange(math.prod(shape) // max(1, shape[axis]))
    if len(shape) > 2:
        order = np.moveaxis(order.reshape(shape[1:]), 0, -1).ravel()
    odd = len(order) % 2
    return np.pad(order, (0, odd), constant_values=-1).reshape(-1, 2)


def paired_scale(rows: Array, pairs: Array) -> Array:
    """Return the smallest scales at which rounded neighbours sum to at most 128, shape (rows, 1).

    Rounding adds at most one half to each, so the sums of what is rounded may be 127.

    Example:
        >>> pairs = np.array([[0, 1], [2, 3]])
        >>> paired_scale(np.array([[127.0, 127.0, -1.0, 1.0]]), pairs).tolist()
        [[2.0]]
    """
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    sums = np.abs(_pairs(rows, pairs).sum(axis=2)).max(axis=1, keepdims=True, initial=0)
    largest = np.maximum(largest, sums)
    scale = np.maximum(largest / (LARGEST_SUM - 1), SMALLEST_SCALE)
    return np.where(largest > 0, scale, 1).astype(np.float32)


def within_pairs(codes: Array, pairs: Array) -> Array:
    """Return the codes, with what neighbours sum to beyond 128 taken off both alike.

    Example:
        >>> codes, pairs = np.array([[100, 31, 100, -90]], np.int8), np.array([[0, 1], [2, 3]])
        >>> within_pairs(codes, pairs).tolist()
        [[98, 30, 100, -90]]
    """
    found = _pairs(codes.astype(np.int16), pairs)
    sums = found.sum(axis=2)
    over = np.maximum(np.abs(sums) - LARGEST_SUM, 0)
    # Of two with one sign the larger gives at least half, and neither more than it has.
    halves = np.stack([(over + 1) // 2, over // 2], axis=2)
    larger_first = np.abs(found[:, :, :1]) >= np.abs(found[:, :, 1:])
    taken = np.where(larger_first, halves, halves[:, :, ::-1])
    found = found - np.sign(sums)[:, :, None] * taken
    result = codes.copy()
    flat = pairs.ravel()
    there = flat >= 0
    result[:, flat[there]] = found.reshape(len(codes), -1)[:, there]
    return result


def _pairs(rows: Array, pairs: Array) -> Array:
    padded = np.concatenate([rows, np.zeros((len(rows), 1), rows.dtype)], axis=1)
    result: Array = padded[:, pairs]  # −1 is the zero at the end
    return result
