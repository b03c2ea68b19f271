"""Scales for the entries between two products: ``x' = x / s`` and ``W' = s · W``.

Three ways to choose them, and one way to write them down: in steps of an eighth of an octave, so
that a choice is a short list of whole numbers. Eight steps are a factor of two, which changes no
bit of a product; one step is 9%, and rounding to the nearest costs at most 4.5% of a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

STEPS_PER_OCTAVE = 8
LARGEST_STEPS = 10 * STEPS_PER_OCTAVE
"""Entries are at most a factor of 1024 from the others' geometric mean."""


def equalizing(made: Array, read: Array) -> Array:
    """Return ``s = √(made / read)``, with which what makes and what reads have equal ranges.

    Args:
        made: Largest magnitude of the weights that make each entry, shape (entries,).
        read: Largest magnitude of the weights that it is multiplied with, shape (entries,).

    Source:
        Nagel et al. 2019 (arXiv:1906.04721), eq. 11: ``s = √(r1·r2) / r2``.

    Example:
        >>> equalizing(np.array([4.0, 1.0]), np.array([1.0, 4.0])).tolist()
        [2.0, 0.5]
    """
    return migrating(made, read, 0.5)


def migrating(seen: Array, read: Array, alpha: float) -> Array:
    """Return ``s = seen^α / read^(1−α)``, geometric mean 1; 1 where either is zero or not finite.

    Args:
        seen: Largest magnitude of each entry on samples, shape (entries,).
        read: Largest magnitude of the weights that it is multiplied with, shape (entries,).
        alpha: How much of the activations' unevenness goes to the weights, 0 to 1.

    Source:
        Xiao et al. 2022, SmoothQuant (arXiv:2211.10438), eq. 4.
    """
    is_used = (seen > 0) & (read > 0) & np.isfinite(seen) & np.isfinite(read)
    logs = alpha * np.log(np.where(is_used, seen, 1)) - (1 - alpha) * np.log(
        np.where(is_used, read, 1)
    )
    return _even(logs, is_used)


def activation_aware(size: Array, alpha: float) -> Array:
    """Return ``s = size^α``, geometric mean 1: weights that meet large inputs get finer steps.

    Args:
        size: Size of each entry on samples, shape (entries,).
        alpha: From 0 (all alike) to 1.

    Source:
        Lin et al. 2023, AWQ (arXiv:2306.00978), eq. 5.
    """
    is_used = (size > 0) & np.isfinite(size)
    return _even(alpha * np.log(np.where(is_used, size, 1)), is_used)


def _even(logs: Array, is_used: Array) -> Array:
    """Return scales from logarithms; the geometric mean of those in use becomes 1."""
    if not is_used.any():
        return np.ones(len(logs))
    result: Array = np.where(is_used, np.exp(logs - logs[is_used].mean()), 1.0)
    return result


def to_steps(scale: Array) -> tuple[int, ...]:
    """Return the nearest steps to scales, within ``LARGEST_STEPS``.

    Example:
        >>> to_steps(np.array([1.0, 2.0, 0.25, 1.1]))
        (0, 8, -16, 1)
    """
    steps = np.rint(STEPS_PER_OCTAVE * np.log2(scale))
    return tuple(int(step) for step in np.clip(steps, -LARGEST_STEPS, LARGEST_STEPS))


def from_steps(steps: Sequence[int]) -> Array:
    """Return the scales that steps stand for, float64; powers of two are exact.

    Example:
        >>> from_steps([0, 8, -16]).tolist()
        [1.0, 2.0, 0.25]
    """
    result: Array = np.exp2(np.asarray(steps, np.float64) / STEPS_PER_OCTAVE)
    return result


def scaled_gram(gram: Array, factors: Array) -> Array:
    """Return the Gram matrix of inputs that were divided: ``D⁻¹ H D⁻¹``.

    Args:
        gram: H, shape (features, features).
        factors: The diagonal of D, shape (features,).
    """
    inverse = 1.0 / factors
    result: Array = (gram * inverse[:, None] * inverse[None, :]).astype(gram.dtype)
    return result
