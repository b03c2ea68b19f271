"""How many units each group keeps, so that a given part of the work goes at the least damage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Widths = Mapping[str, int]

STEPS = 32
"""Widths that are tried of a group that may have any: steps of 1/32 of its units."""


@dataclass(frozen=True)
class Curve:
    """What a group loses at each width.

    Attributes:
        damage: ``damage[n]``: expected damage with n units gone, from 0, not falling, shape
            (units + 1,).
        multiple: Widths under the whole are multiples of this.
    """

    damage: Array
    multiple: int

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.damage) - 1

    def widths(self) -> list[int]:
        """Return the widths that may be chosen, falling, the whole first, none of them 0.

        Example:
            >>> import numpy as np
            >>> Curve(np.zeros(21), multiple=8).widths()
            [20, 16, 8]
        """
        step = max(self.multiple, self.count // STEPS // self.multiple * self.multiple)
        first = (self.count - 1) // step * step
        return [self.count, *range(first, 0, -step)]


def narrowed(
    curves: Mapping[str, Curve], cost: Callable[[Widths], float], goals: Sequence[float]
) -> list[dict[str, int]]:
    """Return for each goal the widths of least damage that bring the cost down to it.

    From the whole width on, the step with the least damage for each unit of cost that it saves
    is taken, again and again. A step may pass over widths: a curve need not be convex.

    Args:
        curves: By group.
        cost: Cost of a choice of widths; not rising as widths fall.
        goals: Costs to reach, falling, as parts of the whole's cost. One that is out of reach
            gets the narrowest widths.

    Example:
        Both groups cost the same; ``a`` loses less until half of it is gone.

        >>> import numpy as np
        >>> a, b = np.array([0, 1, 2, 9, 20.0]), np.array([0, 3, 6, 9, 12.0])
        >>> curves = {"a": Curve(a, 1), "b": Curve(b, 1)}
        >>> narrowed(curves, lambda widths: sum(widths.values()), [0.75, 0.5])
        [{'a': 2, 'b': 4}, {'a': 2, 'b': 2}]
    """
    now = {name: curve.count for name, curve in curves.items()}
    whole = cost(now)
    current, found = whole, []
    for goal in goals:
        while current > goal * whole and (step := _best_step(curves, cost, now, current)):
            name, width = step
            now[name] = width
            current = cost(now)
        found.append(dict(now))
    return found


def _best_step(
    curves: Mapping[str, Curve],
    cost: Callable[[Widths], float],
    now: Mapping[str, int],
    current: float,
) -> tuple[str, int] | None:
    """Return the group and its next width, or None where all are as narrow as they may be."""
    best, step = float("inf"), None
    for name, curve in curves.items():
        own = curve.damage[curve.count - now[name]]
        for width in curve.widths():
            if width >= now[name]:
                continue
            saved = current - cost({**now, name: width})
            added = max(float(curve.damage[curve.count - width] - own), 0.0)
            if saved > 0 and added / saved < best:
                best, step = added / saved, (name, width)
    return step
