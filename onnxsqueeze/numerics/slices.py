"""Outputs that hold things of different scale side by side, such as boxes next to scores.

In ``(1, 84, 8400)`` of a detector, four rows are pixels up to 640 and eighty are scores up to 1.
The relative error energy of the whole is that of the boxes: scores that are all wrong are a
millionth of it. So each scale is held against its own energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

WIDEST = 128
"""An axis with more entries than this holds places or features, not kinds of things."""
RATIO = 10.0
"""Scales that differ by more than this differ in kind."""
_TOLERANCE = 1e-3  # ONNX Runtime's Sigmoid reaches 1 + 1.2e-7, float16 rounds more


@dataclass(frozen=True, eq=False)
class Slices:
    """The scales of an output: entries of ``axis``, which has ``dim``, by group."""

    axis: int
    dim: int
    groups: tuple[Array, ...]

    def parts(self, y: Array) -> list[Array]:
        """Return the entries of each group; of an output without this axis, all for each."""
        if y.ndim <= self.axis or y.shape[self.axis] != self.dim:
            return [y] * len(self.groups)
        return [y.take(group, axis=self.axis) for group in self.groups]


def scales(looks: Sequence[Array]) -> Slices | None:
    """Return along which axis an output holds several scales, and which entries share one.

    Along an axis of 2 to 128 entries, the same number in every look, entries whose values are all
    in [0, 1] share a scale, that of scores, however rare some are. The others are sorted by their
    root mean square, and wherever the next is over 10 times larger another scale begins. Where all
    are in [0, 1] they are cut once, at the largest gap. Entries of zeros go with the smallest. The
    order must be the same in every look, and the first axis of several is that of the batch. Of
    the axes that are left, that with the largest ratio is meant.

    Args:
        looks: The output on some samples, of one rank; not finite values are left out.

    Returns:
        The scales, at least two, or None where all is of one scale.

    Example:
        >>> y = np.array([[300.0, 200.0, 0.5, 0.01]] * 2)
        >>> [group.tolist() for group in scales([y]).groups]
        [[2, 3], [0, 1]]
        >>> scales([y[:, :2]]) is None
        True
    """
    first = looks[0]
    found: list[tuple[float, Slices]] = []
    for axis, dim in enumerate(first.shape):
        is_batch = axis == 0 and first.ndim > 1
        if is_batch or not 2 <= dim <= WIDEST or len({_dim(look, axis) for look in looks}) > 1:
            continue
        energy, are_scores = _described(looks, axis)
        groups = _groups(energy, are_scores)
        if len(groups) > 1 and all(_in_order(_described([y], axis)[0], groups) for y in looks):
            seen = energy[energy > 0]
            found.append((float(seen.max() / seen.min()), Slices(axis, dim, groups)))
    return max(found, key=lambda one: one[0])[1] if found else None


def _dim(look: Array, axis: int) -> int:
    return int(look.shape[axis]) if look.ndim > axis else -1


def _described(looks: Sequence[Array], axis: int) -> tuple[Array, Array]:
    """Return the mean square of each entry, and whether all of its values are in [0, 1]."""
    lines = [np.moveaxis(look, axis, 0).reshape(look.shape[axis], -1) for look in looks]
    line = np.nan_to_num(np.concatenate(lines, axis=1), posinf=0.0, neginf=0.0)
    if line.shape[1] == 0:
        return np.zeros(len(line)), np.ones(len(line), dtype=bool)
    inside = (line.min(axis=1) >= -_TOLERANCE) & (line.max(axis=1) <= 1 + _TOLERANCE)
    return np.square(line).mean(axis=1), inside


def _groups(energy: Array, are_scores: Array) -> tuple[Array, ...]:
    """Return the entries by scale, the smallest first."""
    order = [int(k) for k in np.argsort(energy, kind="stable")]
    zeros = [k for k in order if energy[k] == 0]
    scores = [k for k in order if energy[k] > 0 and are_scores[k]]
    others = [k for k in order if energy[k] > 0 and not are_scores[k]]
    groups = [scores] if scores else []
    if scores and not others:  # boxes may be fractions of the picture
        place = int(np.argmax(np.diff(np.log(energy[scores])))) + 1 if len(scores) > 1 else 0
        parts = [scores[:place], scores[place:]]
        groups = parts if place and _differ(energy, *parts) else groups
    for k in others:
        if groups and not _differ(energy, groups[-1], [k]):
            groups[-1].append(k)
        else:
            groups.append([k])
    if groups:
        groups[0] += zeros
    return tuple(np.sort(np.array(group)) for group in groups)


def _in_order(energy: Array, groups: tuple[Array, ...]) -> bool:
    """Return whether no entry of a group is under those of the group before."""
    pairs = pairwise(groups)
    return all(energy[small].max() <= energy[large].min() for small, large in pairs)


def _differ(energy: Array, small: list[int], large: list[int]) -> bool:
    return bool(energy[large].min() > RATIO**2 * energy[small].max())
