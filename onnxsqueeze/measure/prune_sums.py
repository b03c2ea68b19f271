"""Growing sums of products of rows, in two parts: to fit to, and to choose by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.pruning_refit import Inputs, Moments

Array = npt.NDArray[Any]
Kind = TypeVar("Kind", Inputs, Moments)

HELD_OUT = 5
"""One sample in 5 is for choosing the ridge."""
FEW_SAMPLES = 10
"""With fewer samples than this every fifth row is held out, not every fifth sample."""
ROWS_AT_ONCE = 1024


@dataclass
class Sum:
    """Sums over rows of one or two kinds: x xᵀ, t xᵀ, x, t, ‖t‖²; the first axis is groups.

    Rows are taken less a value near their mean, which is put back at the end in float64: of
    features far from 0 the float32 products would keep the mean and lose what varies.
    """

    shifts: tuple[Array, ...] = ()
    gram: Any = 0.0
    cross: Any = 0.0
    first: Any = 0.0
    second: Any = 0.0
    energy: Any = 0.0
    rows: int = 0

    def add(self, kinds: Sequence[Array]) -> None:
        """Add rows, (groups, rows, features) for each kind."""
        self.shifts = self.shifts or tuple(one.mean(axis=1, keepdims=True) for one in kinds)
        x, *others = (one - shift for one, shift in zip(kinds, self.shifts, strict=True))
        self.gram = self.gram + np.matmul(x.transpose(0, 2, 1), x)
        self.first = self.first + x.sum(axis=1, dtype=np.float64)
        self.rows += x.shape[1]
        for t in others:
            self.cross = self.cross + np.matmul(t.transpose(0, 2, 1), x)
            self.second = self.second + t.sum(axis=1, dtype=np.float64)
            self.energy = self.energy + np.square(t, dtype=np.float64).sum(axis=(1, 2))

    def inputs(self, group: int) -> Inputs:
        """Return the means of one matrix' rows."""
        shift, mean = self.shifts[0][group, 0].astype(np.float64), self.first[group] / self.rows
        return Inputs(
            _moved(self.gram[group] / self.rows, mean, mean, shift, shift), mean + shift, self.rows
        )

    def moments(self, group: int) -> Moments:
        """Return the means of one matrix' rows and targets."""
        inputs = self.inputs(group)
        shift, aim = (one[group, 0].astype(np.float64) for one in self.shifts)
        mean, target = self.first[group] / self.rows, self.second[group] / self.rows
        cross = _moved(self.cross[group] / self.rows, target, mean, aim, shift)
        energy = self.energy[group] / self.rows + 2 * target @ aim + aim @ aim
        return Moments(inputs.gram, cross, target + aim, inputs.mean, float(energy), self.rows)


def _moved(product: Array, left: Array, right: Array, by_left: Array, by_right: Array) -> Array:
    """Return the mean of (a + α)(b + β)ᵀ from that of a bᵀ, the means of a and b, and α and β."""
    moved: Array = product + np.outer(by_left, right + by_right) + np.outer(left, by_right)
    return moved


class Sums:
    """The sums of both parts; rows wait until there are enough for one fast product."""

    def __init__(self, samples: int) -> None:
        self.rows = 0
        self._by_sample = samples >= FEW_SAMPLES
        self._sums = {False: Sum(), True: Sum()}
        self._waiting: dict[bool, list[list[Array]]] = {False: [], True: []}

    def add(self, kinds: Sequence[Array], index: int) -> None:
        """Add a sample's rows, all finite; every fifth sample, or row, is held out."""
        finite = np.all([np.isfinite(rows).all(axis=(0, 2)) for rows in kinds], axis=0)
        number = (
            np.full(len(finite), index) if self._by_sample else self.rows + finite.cumsum() - 1
        )
        held = number % HELD_OUT == HELD_OUT - 1
        self.rows += int(finite.sum())
        for part in (False, True):
            chosen = finite & (held == part)
            if chosen.any():
                rows = [one[:, chosen].astype(np.float32, copy=False) for one in kinds]
                self._waiting[part].append(rows)
                if sum(one[0].shape[1] for one in self._waiting[part]) >= ROWS_AT_ONCE:
                    self._flush(part)

    def _flush(self, part: bool) -> None:
        if self._waiting[part]:
            kinds = zip(*self._waiting[part], strict=True)
            self._sums[part].add([np.concatenate(rows, axis=1) for rows in kinds])
            self._waiting[part] = []

    def split(self, mean: Callable[[Sum, int], Kind]) -> tuple[tuple[Kind, Kind], ...]:
        """Return for each matrix the means to fit to and to choose by.

        Where one of them has no rows it has the other's means, and still counts for no rows.
        """
        for part in (False, True):
            self._flush(part)
        fit, held = self._sums[False], self._sums[True]
        return tuple(
            (
                replace(mean(fit if fit.rows else held, group), rows=fit.rows),
                replace(mean(held if held.rows else fit, group), rows=held.rows),
            )
            for group in range(len((fit if fit.rows else held).first))
        )
