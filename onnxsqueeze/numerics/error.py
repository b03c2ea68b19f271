"""How far one array is from another."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TRIED_BITS = 4
"""Weights are tried with so few bits that the damage is seen over the noise; see ``at_bits``."""
EXACT_DB = 999.0
"""Stands for an infinite signal to noise ratio in records and reports."""


def relative_energy(original: Array, result: Array) -> float:
    """Return ``‖y − y'‖² / ‖y‖²``: 0 for equal arrays; infinite if only the original is zero.

    Example:
        >>> relative_energy(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
        0.01
    """
    signal = float(np.square(original.astype(np.float64)).sum())
    noise = float(np.square(original.astype(np.float64) - result.astype(np.float64)).sum())
    if noise == 0:
        return 0.0
    return noise / signal if signal > 0 else float("inf")


def sqnr_db(original: Array, result: Array) -> float:
    """Return the signal to quantization noise ratio in dB, 999 for equal arrays.

    Example:
        >>> round(sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])), 1)
        20.0
    """
    energy = relative_energy(original, result)
    if energy == 0:
        return EXACT_DB
    return float(-10 * np.log10(energy)) if np.isfinite(energy) else -EXACT_DB


def at_bits(damage: float, bits: int, tried: int = TRIED_BITS) -> float:
    """Return the damage to be expected at other bits: a step half as wide does a quarter of it.

    Source:
        Uniform rounding noise, step²/12; see Zhou et al. 2018 (arXiv:1712.01048), eq. 7.

    Example:
        >>> at_bits(0.016, bits=6)
        0.001
    """
    return float(damage * 4.0 ** (tried - bits))
