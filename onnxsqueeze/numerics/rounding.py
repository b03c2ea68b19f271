"""Rounding a weight matrix so that its product with real inputs changes least.

Where a Gram matrix is asked for, there may be one for all rows, or one for each of several groups
of neighbouring rows, shape (groups, features, features): grouped convolutions read other channels
in each group. All groups are then done at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.grid import code_type, limits

Array = npt.NDArray[Any]

COLUMNS_AT_ONCE = 32
"""Columns that are rounded before the others hear of it, in one product of matrices."""
INVERTED_AT_ONCE = 64


@dataclass(frozen=True)
class Factor:
    """What ``compensated`` needs of a Gram matrix H; it depends on no weight and no width.

    Attributes:
        order: Columns, in the order in which they are rounded, shape (..., features).
        upper: Upper triangular U with ``UᵀU = H⁻¹`` in that order, float32, shape of H.
    """

    order: Array
    upper: Array


def ridge(gram: Array, rows_seen: int, per_feature: float) -> Array:
    """Return mean diagonal · ``per_feature``·K/rows, within 1% and 100% of it; 1 for zeros.

    Args:
        gram: Shape (..., features, features).
        rows_seen: Rows that it is the mean of.
        per_feature: Ridge at as many rows as features, as a part of the mean diagonal.

    Returns:
        One ridge for each matrix, shape (...).

    Example:
        >>> float(ridge(np.eye(4), rows_seen=400, per_feature=4.0))
        0.04
    """
    features = gram.shape[-1]
    fraction = min(1.0, max(0.01, per_feature * features / max(rows_seen, 1)))
    found = fraction * np.trace(gram, axis1=-2, axis2=-1) / features
    result: Array = np.where(found > 0, found, 1.0)
    return result


def damped(gram: Array, rows_seen: int) -> Array:
    """Return ``gram`` with a ridge of mean diagonal · 4·K/rows: less of it with more rows.

    With few rows the Gram matrix describes the sample more than the distribution, and rounding
    fitted to it does harm on other data. The ridge stays within 1% and 100% of the mean diagonal.

    Example:
        >>> float(damped(np.eye(4), rows_seen=1600)[0, 0])
        1.01
    """
    return _raised(gram, ridge(gram, rows_seen, per_feature=4.0))


def _raised(gram: Array, by: Array) -> Array:
    result = gram.copy()
    places = np.arange(gram.shape[-1])
    result[..., places, places] += by[..., None].astype(gram.dtype)
    return result


def shifted(rows: Array, gram: Array, drift: Array, rows_seen: int) -> Array:
    """Return the weights that give the outputs of the original inputs from inputs that changed.

    With x the original's input and z what it has become, ``W* = W + W·E[(x − z) zᵀ]·(H + λI)⁻¹``
    minimises ``E‖W x − W* z‖² + λ‖W* − W‖²``. λ is the mean diagonal of H · K/rows, within 1% and
    100%: held-out samples want less of it here than where codes are chosen.

    Args:
        rows: W, shape (..., rows, features).
        gram: H = E[z zᵀ], not damped, shape (..., features, features).
        drift: E[(x − z) zᵀ], shape of ``gram``.
        rows_seen: Rows that the two are the mean of.

    Returns:
        W*, float32, shape of ``rows``.

    Example:
        >>> shifted(np.ones((1, 1)), np.eye(1), 0.5 * np.eye(1), rows_seen=10**6).round(2).tolist()
        [[1.5]]
    """
    wide = _raised(gram, ridge(gram, rows_seen, per_feature=1.0))
    pull = drift.swapaxes(-1, -2).astype(np.float64) @ rows.swapaxes(-1, -2).astype(np.float64)
    result: Array = (rows + np.linalg.solve(wide, pull).swapaxes(-1, -2)).astype(np.float32)
    return result


def factor(gram: Array) -> Factor:
    """Return the factor of damped Gram matrices: columns with the largest diagonal go first.

    Args:
        gram: H, positive definite, shape (..., features, features).
    """
    # With J the reversal, J H J = L Lᵀ gives H = V Vᵀ for the upper V = J L J, so H⁻¹ = V⁻ᵀ V⁻¹
    # and U = V⁻¹.
    order = np.argsort(-np.diagonal(gram, axis1=-2, axis2=-1), axis=-1, kind="stable")
    back = order[..., ::-1]
    turned = np.take_along_axis(gram, back[..., :, None], axis=-2)
    turned = np.take_along_axis(turned, back[..., None, :], axis=-1)
    lower = np.linalg.cholesky(turned.astype(np.float64))
    upper = _inverse(lower)[..., ::-1, ::-1].astype(np.float32)
    return Factor(order, np.ascontiguousarray(upper))


def _inverse(lower: Array) -> Array:
    """Return inverses of lower triangular matrices, by halves: a sixth of the general work."""
    size = lower.shape[-1]
    if size <= INVERTED_AT_ONCE:
        return np.tril(np.linalg.inv(lower))
    half = size // 2
    first, second = _inverse(lower[..., :half, :half]), _inverse(lower[..., half:, half:])
    result: Array = np.zeros_like(lower)
    result[..., :half, :half], result[..., half:, half:] = first, second
    result[..., half:, :half] = -second @ (lower[..., half:, :half] @ first)
    return result


def compensated(
    rows: Array,
    gram: Array,
    scale: Array,
    bits: int,
    zeros: Array | None = None,
    *,
    column: Array | None = None,
    zero: Array | None = None,
    known: Factor | None = None,
) -> Array:
    """Return codes, column by column, each column's error made up for in the next ones.

    Minimises ``‖(W − Ŵ) X‖²`` greedily with ``H = X Xᵀ``: after column k is rounded, the columns
    that are not rounded yet move by ``−(w_k − ŵ_k) / (H⁻¹)_kk · (H⁻¹)_k,k+1:``. Columns with the
    largest diagonal of H go first, since what goes first is repaired by the most others.

    Args:
        rows: Weights, shape (rows, features).
        gram: H, damped, positive definite, shape (features, features) or one per group.
        scale: Scales, shape (rows, features / block); they are kept as given.
        bits: Bits per code.
        zeros: True where the code must be zero whatever the value, shape of ``rows``.
        column: Scales of the columns, shape (features,), that go on top of ``scale``.
        zero: Zero points, shape of ``scale``: a code is worth ``(code − zero) · scale``.
        known: The factor of ``gram``, if it was computed before.

    Returns:
        Codes, int8 or (over 8 bits) int16, shape (rows, features).

    Source:
        Frantar et al. 2023, GPTQ (arXiv:2210.17323), algorithm 1, with static groups and
        activation order.
    """
    known = known or factor(gram)
    features = rows.shape[1]
    upper = known.upper.reshape(-1, features, features)
    groups = len(upper)
    # Features first: what one step reads and writes lies together.
    order = np.ascontiguousarray(known.order.reshape(groups, features).T)[:, :, None]

    def ordered(values: Array) -> Array:
        return np.take_along_axis(_by_feature(values, groups), order, axis=0)

    weights = ordered(rows.astype(np.float32))
    steps = ordered(_steps(scale, features, column))
    low, high = (ordered(np.broadcast_to(end, rows.shape)) for end in _ends(bits, features, zero))
    free = None if zeros is None else ordered(~zeros)
    codes = np.empty(weights.shape, np.float32)
    for start in range(0, features, COLUMNS_AT_ONCE):
        stop = min(start + COLUMNS_AT_ONCE, features)
        errors = np.empty((stop - start, *weights.shape[1:]), np.float32)
        for k in range(start, stop):
            code = np.clip(np.rint(weights[k] / steps[k]), low[k], high[k])
            if free is not None:
                code *= free[k]
            codes[k] = code
            error = (weights[k] - code * steps[k]) / upper[:, k, k, None]
            weights[k + 1 : stop] -= upper[:, k, k + 1 : stop].T[:, :, None] * error
            errors[k - start] = error
        weights[stop:] -= _products(upper[:, start:stop, stop:].swapaxes(1, 2), errors)
    result = np.empty_like(codes)
    np.put_along_axis(result, order, codes, axis=0)
    return _above(_by_row(result), zero).astype(code_type(bits))


def descended(
    codes: Array,
    rows: Array,
    gram: Array,
    scale: Array,
    bits: int,
    zeros: Array | None = None,
    *,
    column: Array | None = None,
    zero: Array | None = None,
    passes: int = 2,
) -> Array:
    """Return codes that lose no more: each in turn becomes the best one beside all others.

    Code k becomes the nearest to ``(ŵ_k + ((W − Ŵ) H)_k / H_kk) / step``, which minimises
    ``‖(W − Ŵ) X‖²`` over that code alone. Arguments and result as in ``compensated``.
    """
    features = rows.shape[1]
    matrix = gram.astype(np.float32).reshape(-1, features, features)
    groups = len(matrix)
    low, high = (
        _by_feature(np.broadcast_to(end, rows.shape), groups)
        for end in _ends(bits, features, zero)
    )
    steps = _by_feature(_steps(scale, features, column), groups)
    free = None if zeros is None else _by_feature(~zeros, groups)
    wide = 0 if zero is None else _widened(zero, features)
    now = _by_feature(codes.astype(np.float32) - wide, groups)
    errors = _by_feature(rows.astype(np.float32), groups) - now * steps
    for start in [*range(0, features, COLUMNS_AT_ONCE)] * passes:
        stop = min(start + COLUMNS_AT_ONCE, features)
        pulls = _products(matrix[:, start:stop], errors)
        for k in range(start, stop):
            wanted = now[k] + pulls[k - start] / (matrix[:, k, k, None] * steps[k])
            best = np.clip(np.rint(wanted), low[k], high[k])
            if free is not None:
                best *= free[k]
            moved = (best - now[k]) * steps[k]
            now[k] = best
            errors[k] -= moved
            pulls[k - start + 1 :] -= matrix[:, k + 1 : stop, k].T[:, :, None] * moved
    return _above(_by_row(now), zero).astype(code_type(bits))


def lost(error: Array, gram: Array) -> float:
    """Return the error of the product with the inputs, ``Σ e H eᵀ``.

    Args:
        error: W − Ŵ, shape (rows, features).
        gram: H, shape (features, features) or one per group.
    """
    features = error.shape[1]
    matrix = gram.astype(np.float32).reshape(-1, features, features)
    parts = error.astype(np.float32).reshape(len(matrix), -1, features)
    return float(np.vdot(parts @ matrix, parts))


def _by_feature(values: Array, groups: int) -> Array:
    """Return a matrix of rows as (features, groups, rows of a group), contiguous."""
    return np.ascontiguousarray(values.T).reshape(values.shape[1], groups, -1)


def _by_row(values: Array) -> Array:
    return np.ascontiguousarray(values.reshape(len(values), -1).T)


def _products(left: Array, right: Array) -> Array:
    """Return the product of each group: (groups, m, k) · (k, groups, n) = (m, groups, n)."""
    result: Array = np.matmul(left, right.swapaxes(0, 1)).swapaxes(0, 1)
    return result


def _steps(scale: Array, features: int, column: Array | None) -> Array:
    """Return the value of one step of each code, float32, shape (rows, features)."""
    steps = _widened(scale, features)
    return steps if column is None else steps * column


def _widened(blocks: Array, features: int) -> Array:
    """Return what belongs to blocks for each of their values, shape (rows, features)."""
    return np.repeat(blocks, features // blocks.shape[1], axis=1)


def _ends(bits: int, features: int, zero: Array | None) -> tuple[Array, Array]:
    """Return the ends of ``code − zero``, shape (rows, features) or one for all."""
    low, high = limits(bits)
    wide = np.zeros((1, 1), np.float32)
    if zero is not None:
        wide = _widened(zero.astype(np.float32), features)
    return low - wide, high - wide


def _above(codes: Array, zero: Array | None) -> Array:
    """Return ``code − zero`` as codes."""
    if zero is None:
        return codes
    result: Array = codes + _widened(zero, codes.shape[1])
    return result
