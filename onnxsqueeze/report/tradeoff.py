"""What could have been saved for how much damage, by the trial of each weight alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from onnxsqueeze.config import WIDTHS
from onnxsqueeze.numerics.error import at_bits
from onnxsqueeze.report.types import WeightRow

STEPS = 60
"""Prices of damage that the curve is made of."""
SHOWN = (1e-6, 1.0)
"""Damages that matter: under the one nothing is seen, over the other nothing is left."""


@dataclass(frozen=True)
class Point:
    """A choice for all tried weights: the sum of their damages, and the bytes that it saves."""

    damage: float
    saved_bytes: float


@dataclass(frozen=True)
class Tradeoff:
    """The least damage for each saving, and what was chosen."""

    curve: tuple[Point, ...]
    chosen: Point


def tradeoff(weights: Iterable[WeightRow]) -> Tradeoff | None:
    """Return the curve of best choices of widths, and the chosen one; None if nothing was tried.

    A weight in b bits takes b/32 of its bytes as floats and does what ``at_bits`` expects of its
    measured damage; the curve takes, for many prices of damage, the cheapest width of each weight
    (the lower convex hull). Scales count in the chosen point, which was written, not in the curve.
    """
    tried = [row for row in weights if row.damage and 0 < row.damage < math.inf]
    if not tried:
        return None
    widths = np.array([bits for bits in WIDTHS if bits < 16])
    damage = np.array([[at_bits(row.damage or 0.0, int(b)) for b in widths] for row in tried])
    counts = np.array([float(math.prod(row.shape)) for row in tried])
    before = np.array([float(row.bytes_before) for row in tried])
    saved = before[:, None] - counts[:, None] * widths / 8
    # The last column leaves a weight as it is.
    damage = np.hstack([damage, np.zeros((len(tried), 1))])
    saved = np.hstack([saved, np.zeros((len(tried), 1))])
    curve = dict[tuple[float, float], None]()
    price = before.sum() / damage[damage > 0]  # bytes that a unit of damage is worth
    for value in np.geomspace(price.min() / 1e4, price.max() * 1e2, STEPS):
        best = np.argmax(saved - value * damage, axis=1)[:, None]
        total = np.take_along_axis(damage, best, 1).sum(), np.take_along_axis(saved, best, 1).sum()
        curve[float(total[0]), float(total[1])] = None
    points = tuple(Point(*point) for point in sorted(curve) if point[0] > 0)
    shown = tuple(point for point in points if SHOWN[0] <= point.damage <= SHOWN[1])
    return Tradeoff(shown or points, _chosen(tried))


def _chosen(tried: list[WeightRow]) -> Point:
    kept = sum(at_bits(row.damage or 0.0, row.bits) for row in tried if row.bits < 16)
    return Point(kept, float(sum(row.bytes_before - row.bytes_after for row in tried)))
