"""Rounding a weight matrix so that its product with real inputs changes least."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.grid import code_type, limits

Array = npt.NDArray[Any]

COLUMNS_AT_ONCE = 128


def damped(gram: Array, rows_seen: int) -> Array:
    """Return ``gram`` with a ridge of mean diagonal · 4·K/rows: less of it with more rows.

    With few rows the Gram matrix describes the sample more than the distribution, and rounding
    fitted to it does harm on other data. The ridge stays within 1% and 100% of the mean diagonal.

    Example:
        >>> float(damped(np.eye(4), rows_seen=1600)[0, 0])
        1.01
    """
    features = gram.shape[0]
    fraction = min(1.0, max(0.01, 4.0 * features / max(rows_seen, 1)))
    ridge = fraction * float(np.trace(gram)) / features
    return gram + (ridge if ridge > 0 else 1.0) * np.eye(features, dtype=gram.dtype)


def compensated(
    rows: Array, gram: Array, scale: Array, bits: int, zeros: Array | None = None
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

    Returns:
        Codes, int8 or (over 8 bits) int16, shape (rows, features).

    Source:
        Frantar et al. 2023, GPTQ (arXiv:2210.17323), algorithm 1, with static groups and
        activation order.
    """
    features = rows.shape[1]
    low, high = limits(bits)
    order = np.argsort(-np.diag(gram), kind="stable")
    weights = rows[:, order].astype(np.float32)
    column_scale = np.repeat(scale, features // scale.shape[1], axis=1)[:, order]
    forced = None if zeros is None else zeros[:, order]
    upper = _inverse_factor(gram[np.ix_(order, order)])
    codes = np.empty(weights.shape, code_type(bits))
    for start in range(0, features, COLUMNS_AT_ONCE):
        stop = min(start + COLUMNS_AT_ONCE, features)
        errors = np.empty((weights.shape[0], stop - start), np.float32)
        for k in range(start, stop):
            step = column_scale[:, k]
            code = np.clip(np.rint(weights[:, k] / step), low, high)
            if forced is not None:
                code[forced[:, k]] = 0
            codes[:, k] = code
            error = (weights[:, k] - code * step) / upper[k, k]
            weights[:, k + 1 : stop] -= np.outer(error, upper[k, k + 1 : stop])
            errors[:, k - start] = error
        weights[:, stop:] -= errors @ upper[start:stop, stop:]
    result = np.empty_like(codes)
    result[:, order] = codes
    return result


def _inverse_factor(gram: Array) -> Array:
    """Return upper triangular U with UᵀU = H⁻¹, in float32."""
    # With J the reversal, J H J = L Lᵀ gives H = V Vᵀ for the upper V = J L J, so H⁻¹ = V⁻ᵀ V⁻¹
    # and U = V⁻¹.
    lower = np.linalg.cholesky(gram[::-1, ::-1].astype(np.float64))
    inverse = np.linalg.inv(lower)
    result: Array = np.triu(inverse[::-1, ::-1]).astype(np.float32)
    return result
