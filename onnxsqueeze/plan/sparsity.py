"""How many of its single weights each matrix gives up, so that all together give up a fraction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from onnxsqueeze.config import Limits, pattern_of
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.numerics.hull import lower_hull, slope

FEWEST_VALUES = 1000
"""A weight with fewer values gains nothing that would be seen."""
FARTHEST = 0.25
"""No weight strays further from the common fraction: damages of single weights do not quite add
up, and least so where much is gone."""
MOST = 0.95


@dataclass(frozen=True)
class Thinning:
    """What one weight gives up.

    Attributes:
        fraction: Part of its values that becomes zero.
        pattern: ``n:m``, or None.
        damage: Relative output error energy to be expected from that alone; 0 where unknown.
    """

    fraction: float
    pattern: str | None = None
    damage: float = 0.0


def why_not_thinned(weight: WeightFacts, limits: Limits) -> str | None:
    """Return why a weight gives up none of its values; None if it does.

    Those of products do (matrices and convolutions); rows that are looked up and recurrent weights
    do not, since nothing can make up for what they lose.
    """
    if weight.not_finite:
        return "it holds values that are not finite"
    if limits.is_kept(weight.name, weight.node):
        return "named by --keep"
    if weight.role != "linear":
        return f"{weight.operator} reads it, and nothing can make up for what it loses"
    if weight.count < FEWEST_VALUES:
        return f"it has {weight.count} values, and under {FEWEST_VALUES} nothing is gained"
    if limits.pattern is not None and weight.features % pattern_of(limits.pattern)[1]:
        return f"pattern {limits.pattern} does not divide its {weight.features} features"
    return None


def thinnings(
    weights: Sequence[WeightFacts], limits: Limits, share: float = 1.0
) -> dict[str, Thinning]:
    """Return what each weight gives up: least damage for a sum of values; none without a wish.

    With a fraction, weights give up more where their measured curves say that it costs less, on
    the convex hull of (values gone, damage), within ``FARTHEST`` of the common fraction. Weights
    without a curve give up the common fraction. With a pattern all give up the same, or, with a
    share under 1, those with the least damage per value, until they hold that share of values.

    Args:
        weights: What is known of them.
        limits: What is asked for.
        share: Part of it that is carried out, from 0 to 1.

    Source:
        Shoham and Gersho 1988, as in ``plan/choose.py``.
    """
    able = [weight for weight in weights if why_not_thinned(weight, limits) is None]
    if limits.pattern is not None:
        return _patterned(able, limits.pattern, share)
    if limits.sparsity is None or share <= 0:
        return {}
    common = round(share * limits.sparsity, 4)
    curved = [weight for weight in able if weight.thin_damage]
    found = {weight.name: Thinning(common) for weight in able}
    for name, fraction in _shared(curved, common).items():
        damage = next(at(w.thin_damage, fraction) for w in curved if w.name == name)
        found[name] = Thinning(fraction, damage=damage)
    return {name: one for name, one in found.items() if one.fraction > 0}


def _patterned(weights: Sequence[WeightFacts], pattern: str, share: float) -> dict[str, Thinning]:
    stay, of = pattern_of(pattern)
    fraction = 1 - stay / of
    damage = {weight.name: at(weight.thin_damage, fraction) for weight in weights}
    left = share * sum(weight.count for weight in weights)
    found: dict[str, Thinning] = {}
    for weight in sorted(weights, key=lambda one: (damage[one.name] / one.count, one.name)):
        if weight.count <= left:
            found[weight.name] = Thinning(fraction, pattern, damage[weight.name])
            left -= weight.count
    return found


def _shared(weights: Sequence[WeightFacts], fraction: float) -> dict[str, float]:
    """Return fractions whose mean, by values, is ``fraction``: cheapest steps first."""
    low = max(fraction - FARTHEST, 0.0)
    high = max(min(fraction + FARTHEST, MOST), fraction)
    taken = dict.fromkeys((weight.name for weight in weights), low)
    left = (fraction - low) * sum(weight.count for weight in weights)
    steps = [
        (rate / weight.count, weight.name, weight.count, stop - start)
        for weight in weights
        for start, stop, rate in _hull(weight.thin_damage, low, high)
    ]
    for _, name, count, width in sorted(steps):  # of one weight's, rates rise
        part = min(width, left / count)
        taken[name] += part
        left -= part * count
    return {name: min(round(value, 4), 0.9999) for name, value in taken.items()}


def _hull(
    curve: Mapping[float, float], low: float, high: float
) -> Iterator[tuple[float, float, float]]:
    """Yield (start, stop, damage per unit of fraction) of the lower hull between two fractions."""
    inside = [place for place in sorted(curve) if low < place < high]
    points = [(place, at(curve, place)) for place in dict.fromkeys([low, *inside, high])]
    for a, b in pairwise(lower_hull(points)):
        yield points[a][0], points[b][0], slope(points[a], points[b])


def at(curve: Mapping[float, float], fraction: float) -> float:
    """Return a curve's damage between its points, which begins at (0, 0); 0 without points.

    Example:
        >>> at({0.5: 0.1, 0.9: 0.5}, 0.25), round(at({0.5: 0.1, 0.9: 0.5}, 0.8), 3)
        (0.05, 0.4)
    """
    if not curve:
        return 0.0
    points = sorted({0.0: 0.0, **curve}.items())
    above = next((k for k, point in enumerate(points) if point[0] >= fraction), len(points) - 1)
    one, other = points[max(above, 1) - 1], points[max(above, 1)]
    return one[1] + slope(one, other) * (fraction - one[0])
