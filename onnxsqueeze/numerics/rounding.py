"""Rounding a weight matrix so that its product with real inputs changes least."""

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
        order: Columns, in the order in which they are rounded.
        upper: Upper triangular U with ``UᵀU = H⁻¹`` in that order, float32.
    """

    order: Array
    upper: Array


def ridge(gram: Array, rows_seen: int, per_feature: float) -> float:
    """Return mean diagonal · ``per_feature``·K/rows, within 1% and 100% of it; 1 for zeros.

    Example:
        >>> ridge(np.eye(4), rows_seen=400, per_feature=4.0)
        0.04
    """
    features = gram.shape[0]
    fraction = min(1.0, max(0.01, per_feature * features / max(rows_seen, 1)))
    found = fraction * float(np.trace(gram)) / features
    return found if found > 0 else 1.0


def damped(gram: Array, rows_seen: int) -> Array:
    """Return ``gram`` with a ridge of mean diagonal · 4·K/rows: less of it with more rows.

    With few rows the Gram matrix describes the sample more than the distribution, and rounding
    fitted to it does harm on other data. The ridge stays within 1% and 100% of the mean diagonal.

    Example:
        >>> float(damped(np.eye(4), rows_seen=1600)[0, 0])
        1.01
    """
    wide = ridge(gram, rows_seen, per_feature=4.0) * np.eye(gram.shape[0], dtype=gram.dtype)
    result: Array = gram + wide
    return result


def shifted(rows: Array, gram: Array, drift: Array, rows_seen: int) -> Array:
    """Return the weights that give the outputs of the original inputs from inputs that changed.

    With x the original's input and z what it has become, ``W* = W + W·E[(x − z) zᵀ]·(H + λI)⁻¹``
    minimises ``E‖W x − W* z‖² + λ‖W* − W‖²``. λ is the mean diagonal of H · K/rows, within 1% and
    100%: held-out samples want less of it here than where codes are chosen.

    Args:
        rows: W, shape (rows, features).
        gram: H = E[z zᵀ], not damped, shape (features, features).
        drift: E[(x − z) zᵀ], shape (features, features).
        rows_seen: Rows that the two are the mean of.

    Returns:
        W*, float32, shape (rows, features).

    Example:
        >>> shifted(np.ones((1, 1)), np.eye(1), 0.5 * np.eye(1), rows_seen=10**6).round(2).tolist()
        [[1.5]]
    """
    wide = gram + ridge(gram, rows_seen, per_feature=1.0) * np.eye(len(gram))
    moved = np.linalg.solve(wide, drift.T.astype(np.float64) @ rows.T.astype(np.float64)).T
    result: Array = (rows + moved).astype(np.float32)
    return result


def factor(gram: Array) -> Factor:
    """Return the factor of a damped Gram matrix: columns with the largest diagonal go first."""
    # With J the reversal, J H J = L Lᵀ gives H = V Vᵀ for the upper V = J L J, so H⁻¹ = V⁻ᵀ V⁻¹
    # and U = V⁻¹.
    order = np.argsort(-np.diag(gram), kind="stable")
    back = order[::-1]
    lower = np.linalg.cholesky(gram[np.ix_(back, back)].astype(np.float64))
    upper = _inverse(lower)[::-1, ::-1].astype(np.float32)
    return Factor(order, np.ascontiguousarray(upper))


def _inverse(lower: Array) -> Array:
    """Return the inverse of a lower triangular matrix, by halves: a sixth of the general work."""
    size = len(lower)
    if size <= INVERTED_AT_ONCE:
        return np.tril(np.linalg.inv(lower))
    half = size // 2
    first, second = _inverse(lower[:half, :half]), _inverse(lower[half:, half:])
    result: Array = np.zeros_like(lower)
    result[:half, :half], result[half:, half:] = first, second
    result[half:, :half] = -second @ (lower[half:, :half] @ first)
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
        gram: H, damped, positive definite, shape (features, features).
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
    order, upper = known.order, known.upper
    features = rows.shape[1]
    low, high = (side[order] for side in _ends(bits, features, zero))
    # Features first: what one step reads and writes lies together.
    weights = np.ascontiguousarray(rows.T[order], np.float32)
    steps = np.ascontiguousarray(_steps(scale, features, column).T[order])
    free = None if zeros is None else ~zeros.T[order]
    codes = np.empty(weights.shape, np.float32)
    for start in range(0, features, COLUMNS_AT_ONCE):
        stop = min(start + COLUMNS_AT_ONCE, features)
        errors = np.empty((stop - start, weights.shape[1]), np.float32)
        for k in range(start, stop):
            code = np.clip(np.rint(weights[k] / steps[k]), low[k], high[k])
            if free is not None:
                code *= free[k]
            codes[k] = code
            error = (weights[k] - code * steps[k]) / upper[k, k]
            weights[k + 1 : stop] -= upper[k, k + 1 : stop, None] * error
            errors[k - start] = error
        weights[stop:] -= upper[start:stop, stop:].T @ errors
    result = np.empty(rows.shape, np.float32)
    result[:, order] = codes.T
    return _above(result, zero).astype(code_type(bits))


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
    low, high = _ends(bits, features, zero)
    steps = np.ascontiguousarray(_steps(scale, features, column).T)
    free = None if zeros is None else ~zeros.T
    now = np.ascontiguousarray(codes.T, np.float32)
    if zero is not None:
        now -= np.repeat(zero, features // zero.shape[1], axis=1).T
    matrix = gram.astype(np.float32)
    errors = rows.T.astype(np.float32) - now * steps
    for start in [*range(0, features, COLUMNS_AT_ONCE)] * passes:
        stop = min(start + COLUMNS_AT_ONCE, features)
        pulls = matrix[start:stop] @ errors
        for k in range(start, stop):
            wanted = now[k] + pulls[k - start] / (matrix[k, k] * steps[k])
            best = np.clip(np.rint(wanted), low[k], high[k])
            if free is not None:
                best *= free[k]
            moved = (best - now[k]) * steps[k]
            now[k] = best
            errors[k] -= moved
            pulls[k - start + 1 :] -= matrix[k + 1 : stop, k, None] * moved
    return _above(np.ascontiguousarray(now.T), zero).astype(code_type(bits))


def _steps(scale: Array, features: int, column: Array | None) -> Array:
    """Return the value of one step of each code, float32, shape (rows, features)."""
    steps = np.repeat(scale, features // scale.shape[1], axis=1)
    return steps if column is None else steps * column


def _ends(bits: int, features: int, zero: Array | None) -> tuple[Array, Array]:
    """Return the ends of ``code − zero`` by feature: (features, 1), or (features, rows)."""
    low, high = limits(bits)
    if zero is None:
        return np.full((features, 1), low, np.float32), np.full((features, 1), high, np.float32)
    wide = np.repeat(zero.astype(np.float32), features // zero.shape[1], axis=1).T
    return low - wide, high - wide


def _above(codes: Array, zero: Array | None) -> Array:
    """Return ``code − zero`` as codes."""
    if zero is None:
        return codes
    result: Array = codes + np.repeat(zero, codes.shape[1] // zero.shape[1], axis=1)
    return result
