"""Least squares where features are too many for their Gram matrix: conjugate gradients on rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.pruning_refit import Fit

Array = npt.NDArray[Any]

MOST_STEPS = 40
PATIENCE = 3
"""Steps in a row that make the held-out error less than 0.5% smaller, after which it ends."""
WORTH = 0.995
LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Rows:
    """Rows x of a weight's input, float32 (rows, features), with targets t there, (rows, out)."""

    x: Array
    t: Array

    def __len__(self) -> int:
        return len(self.t)

    def centered(self, mean: Array, aim: Array) -> Rows:
        """Return x − ``mean`` and t − ``aim``."""
        return Rows(self.x - mean, self.t - aim)


def descended(fit: Rows, held_out: Rows, start: Array, *, has_bias: bool) -> Fit:
    """Return the weight of least error on rows that it was not fitted to, along a descent.

    Conjugate gradients on ``Σ‖t − W' x‖²``, each output by itself, features scaled by their
    variance, from ``start`` on. Directions that many rows agree in come first, so to stop early
    is what a ridge is elsewhere; the held-out rows tell when. A step takes three products of the
    rows with a matrix of the weight's shape.

    Args:
        fit: Rows to fit to, one at least.
        held_out: Other rows.
        start: The weight to begin with, shape (out, features).
        has_bias: As for ``pruning_refit.refit``.

    Source:
        Hestenes and Stiefel 1952, as CGLS in Björck 1996, "Numerical Methods for Least Squares
        Problems", section 7.4; on stopping early Hansen 1998, "Rank-Deficient and Discrete
        Ill-Posed Problems", section 6.3.

    Example:
        >>> x = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
        >>> rows = Rows(x, x @ np.array([[2], [-1]], np.float32))
        >>> descended(rows, rows, np.zeros((1, 2)), has_bias=False).weight.round(4).tolist()
        [[2.0, -1.0]]
    """
    mean, aim = fit.x.mean(axis=0) * has_bias, fit.t.mean(axis=0) * has_bias
    few, rest = fit.centered(mean, aim), held_out.centered(mean, aim)
    scale = _scale(few.x)
    weight: Array = start.astype(np.float32)
    left: Array = few.t - few.x @ weight.T
    others: Array = rest.t - rest.x @ weight.T
    before = least = counted = float(_energy(others).sum())
    best, idle = weight, 0
    slope = left.T @ few.x
    step: Array = slope * scale
    size = _dots(slope, step)
    for _ in range(MOST_STEPS):
        along = few.x @ step.T
        length = size / np.maximum(_energy(along), LEAST)
        weight = weight + length[:, np.newaxis] * step
        left = left - length * along
        others = others - length * (rest.x @ step.T)
        error = float(_energy(others).sum())
        if error < least:
            best, least = weight, error
        idle = 0 if error < WORTH * counted else idle + 1
        counted = min(counted, error)
        if idle == PATIENCE:
            break
        slope = left.T @ few.x
        new = _dots(slope, slope * scale)
        step, size = slope * scale + (new / np.maximum(size, LEAST))[:, np.newaxis] * step, new
    return Fit(best, aim - best @ mean, 0.0, least / before if before > 0 else 1.0)


def _scale(x: Array) -> Array:
    """Return one over the energy of each feature; one that hardly varies counts as 1/1000."""
    energy = np.einsum("nf,nf->f", x, x)
    scale: Array = 1 / np.maximum(energy, 1e-3 * energy.mean() + LEAST)
    return scale


def _energy(columns: Array) -> Array:
    energy: Array = np.einsum("no,no->o", columns, columns)
    return energy


def _dots(a: Array, b: Array) -> Array:
    products: Array = np.einsum("of,of->o", a, b)
    return products
