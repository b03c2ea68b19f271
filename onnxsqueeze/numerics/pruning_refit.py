"""Least squares: a weight matrix fitted to fewer or changed features, with the old outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.pruning import ridged, square_root

Array = npt.NDArray[Any]

LADDER = (0.001, 0.01, 0.1, 1.0)
"""Ridges that are tried, times features per row; see ``ridges``."""
LEAST_RIDGE, MOST_RIDGE = 1e-5, 10.0
ENOUGH_ROWS = 8.0
"""Rows per feature under which a fit describes the sample more than the distribution."""


@dataclass(frozen=True)
class Inputs:
    """Means over a model's own rows x of what a weight is multiplied with.

    Attributes:
        gram: Mean of x xᵀ, shape (features, features).
        mean: Mean of x, shape (features,).
        rows: Number of rows.
    """

    gram: Array
    mean: Array
    rows: int

    def __add__(self, other: Inputs) -> Inputs:
        """Return the means over both sets of rows together."""
        a, b = _parts(self.rows, other.rows)
        gram, mean = a * self.gram + b * other.gram, a * self.mean + b * other.mean
        return Inputs(gram, mean, self.rows + other.rows)

    def without(self, weight: Array, kept: Array) -> Moments:
        """Return the moments of fitting ``W x`` to the ``kept`` features of the same rows."""
        target = weight @ self.gram
        gram, cross = self.gram[np.ix_(kept, kept)], target[:, kept]
        energy = float(np.vdot(target, weight))
        return Moments(gram, cross, weight @ self.mean, self.mean[kept], energy, self.rows)


@dataclass(frozen=True)
class Moments:
    """Means over rows x of a changed model, and the targets t of a layer's output there.

    Attributes:
        gram: H, the mean of x xᵀ, shape (kept, kept).
        cross: T, the mean of t xᵀ, shape (out, kept).
        mean_target: Mean of t, shape (out,).
        mean: Mean of x, shape (kept,).
        energy: Mean of ‖t‖².
        rows: Number of rows.
    """

    gram: Array
    cross: Array
    mean_target: Array
    mean: Array
    energy: float
    rows: int

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows together."""
        a, b = _parts(self.rows, other.rows)
        return Moments(
            a * self.gram + b * other.gram,
            a * self.cross + b * other.cross,
            a * self.mean_target + b * other.mean_target,
            a * self.mean + b * other.mean,
            a * self.energy + b * other.energy,
            self.rows + other.rows,
        )

    @property
    def rows_per_feature(self) -> float:
        """Rows for each feature that is fitted to."""
        return self.rows / max(len(self.gram), 1)

    def centered(self) -> Moments:
        """Return the moments of rows and targets less their means, which are 0 then."""
        return Moments(
            self.gram - np.outer(self.mean, self.mean),
            self.cross - np.outer(self.mean_target, self.mean),
            np.zeros_like(self.mean_target),
            np.zeros_like(self.mean),
            max(self.energy - float(np.square(self.mean_target).sum()), 0.0),
            self.rows,
        )

    def error(self, weight: Array) -> float:
        """Return ``E‖t − W' x‖²``."""
        quadratic = float(np.vdot(weight @ self.gram, weight))
        return max(quadratic - 2 * float(np.vdot(self.cross, weight)) + self.energy, 0.0)


@dataclass(frozen=True)
class Fit:
    """A weight matrix fitted to kept features.

    Attributes:
        weight: W', shape (out, kept).
        bias: ``E t − W' E x``, what is to be added to the output, shape (out,).
        ridge: The chosen ridge, a fraction of the mean diagonal; infinite for no fit.
        gain: Error energy on the held-out rows as a part of that of the weight as it was cut.
    """

    weight: Array
    bias: Array
    ridge: float
    gain: float


def _parts(rows: int, others: int) -> tuple[float, float]:
    total = max(rows + others, 1)
    return rows / total, others / total


def ridges(moments: Moments) -> tuple[float, ...]:
    """Return the ridges to try: more where there are few rows per feature.

    Example:
        >>> eye = np.eye(4)
        >>> moments = Moments(eye, eye, eye[0], eye[0], 1.0, rows=40)
        >>> [round(ridge, 6) for ridge in ridges(moments)]
        [0.0001, 0.001, 0.01, 0.1]
    """
    per_row = 1 / max(moments.rows_per_feature, 1e-9)
    return tuple(float(np.clip(step * per_row, LEAST_RIDGE, MOST_RIDGE)) for step in LADDER)


def fitted(moments: Moments, prior: Array, ridge: float) -> Array:
    """Return ``W' = (T + λ P)(H + λ I)⁻¹``, which minimises ``E‖t − W' x‖² + λ‖W' − P‖²``.

    λ is ``ridge`` times the mean diagonal of H, so what the rows do not tell stays as in P.

    Args:
        moments: H and T.
        prior: P, shape (out, kept): the weight as it was cut; zeros for plain ridge regression.
        ridge: Fraction of the mean diagonal, over 0.

    Example:
        >>> eye = np.eye(2)
        >>> moments = Moments(eye, 3 * eye[:1], eye[0, :1], eye[0], 9.0, rows=100)
        >>> fitted(moments, np.zeros((1, 2)), ridge=0.5).round(9).tolist()
        [[2.0, 0.0]]
    """
    plain, towards = _solved(moments, prior, ridge)
    result: Array = plain + towards
    return result


def _solved(moments: Moments, prior: Array, ridge: float) -> tuple[Array, Array]:
    """Return ``T(H + λ I)⁻¹`` and ``λ P (H + λ I)⁻¹``, which cost little more than one of them."""
    gram = moments.gram.astype(np.float64)
    lifted = ridged(gram, ridge)
    pulled = (lifted[0, 0] - gram[0, 0]) * prior.astype(np.float64)
    both = np.linalg.solve(lifted, np.concatenate([moments.cross, pulled]).T).T
    return both[: len(pulled)], both[len(pulled) :]


def refit_to(fit: Inputs, held_out: Inputs, weight: Array, kept: Array, *, has_bias: bool) -> Fit:
    """Return ``refit`` for the targets ``W x`` of the same rows, of which some features stay.

    With more outputs than features a square root R of ``Wᵀ W`` takes the place of W, and
    ``W R⁻¹`` leads back: all outputs share one ridge, so that only ``Wᵀ W`` counts.

    Args:
        fit: Rows to fit to.
        held_out: Other rows.
        weight: W, shape (out, features).
        kept: Features that stay.
        has_bias: As for ``refit``.

    Example:
        >>> rows = Inputs(np.eye(2), np.zeros(2), 100)
        >>> w = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> refit_to(rows, rows, w, np.array([1]), has_bias=False).weight.round(6).tolist()
        [[2.0], [4.0], [6.0]]
    """
    out, features = weight.shape
    root = square_root(weight) if out > features else weight
    few, rest = fit.without(root, kept), held_out.without(root, kept)
    found = refit(few, rest, root[:, kept], has_bias=has_bias)
    if root is weight:
        return found
    back = weight @ np.linalg.solve(root, np.column_stack([found.weight, found.bias]))
    return replace(found, weight=back[:, :-1], bias=back[:, -1])


def refit(fit: Moments, held_out: Moments, cut: Array, *, has_bias: bool) -> Fit:
    """Return the weight of least error on rows that it was not fitted to.

    Ridges shrink towards zero and towards the weight as it was cut, and that weight itself is one
    of the choices, so a fit that does no good is not used. What was chosen is fitted once more,
    to all rows.

    Args:
        fit: Moments of the rows to fit to.
        held_out: Moments of other rows.
        cut: The weight as it was cut, shape (out, kept).
        has_bias: Whether a constant can be added to the output; what is fitted is then what
            varies, and the means go into ``bias``.
    """
    whole = fit + held_out
    few, rest, every = (one.centered() if has_bias else one for one in (fit, held_out, whole))
    best, before = (float("inf"), cut), rest.error(cut)
    least = before
    for ridge in ridges(few):
        plain, towards = _solved(few, cut, ridge)
        for prior, weight in ((np.zeros_like(cut), plain), (cut, plain + towards)):
            error = rest.error(weight)
            if error < least:
                best, least = (ridge, prior), error
    ridge, prior = best
    weight = cut if np.isinf(ridge) else fitted(every, prior, ridge)
    bias = whole.mean_target - weight @ whole.mean
    return Fit(weight, bias, ridge, least / before if before > 0 else 1.0)
