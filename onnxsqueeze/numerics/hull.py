"""The lower convex hull of points: what a sum of choices is best made of."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]


def lower_hull(points: Sequence[Point]) -> list[int]:
    """Return which of the points, ascending in x, lie on their lower convex hull.

    Points on a straight piece between two others are left out.

    Example:
        >>> lower_hull([(0, 9), (1, 8), (2, 1), (3, 0)])
        [0, 2, 3]
    """
    hull: list[int] = []
    for number, point in enumerate(points):
        while len(hull) >= 2:
            before, last = points[hull[-2]], points[hull[-1]]
            if not slope(before, point) <= slope(before, last):
                break
            hull.pop()
        hull.append(number)
    return hull


def slope(one: Point, other: Point) -> float:
    """Return how much y rises from one point to another per unit of x.

    Example:
        >>> slope((1.0, 2.0), (3.0, 8.0))
        3.0
    """
    return (other[1] - one[1]) / (other[0] - one[0])
