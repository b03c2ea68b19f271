"""Rows of a report that follow from one decision or fact each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.units import dependencies
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.numerics.density import describe
from onnxsqueeze.numerics.histogram import Histogram
from onnxsqueeze.numerics.scaling import from_steps
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.report.types import (
    ActivationRow,
    Distribution,
    FrozenRow,
    ScalingRow,
    WidthRow,
)

DRAWN = 12
"""Tensors whose distributions are drawn: weights the largest, activations the most clipped."""
_QUANTILES = 8192


def distribution(values: npt.NDArray[np.generic]) -> Distribution:
    """Return how values are spread, with the densities fitted to them."""
    described = describe(values)
    return Distribution(
        centers=tuple(described.histogram.centers.tolist()),
        density=tuple(described.histogram.density.tolist()),
        fits={name: tuple(fit.tolist()) for name, fit in described.fits.items()},
        best_fit=described.best_fit,
        distances=dict(described.distances),
    )


def distribution_of(counted: Histogram) -> Distribution | None:
    """Return how counted values are spread, told by 8192 of their quantiles; None without any."""
    if not counted.total:
        return None
    below = np.cumsum(counted.counts)
    wanted = (np.arange(_QUANTILES) + 0.5) / _QUANTILES * counted.total
    return distribution(counted.centers[np.searchsorted(below, wanted)])


def activation_rows(plan: Plan, facts: Facts) -> Iterator[ActivationRow]:
    """Yield the grid of each activation; those that are clipped most with their distribution."""
    ranges = {name: seen for name, seen in facts.ranges.items() if name not in plan.scalings}
    clipped = {
        name: (ranges[name].high - ranges[name].low) / max(grid.high - grid.low, 1e-30)
        for name, grid in plan.activations.items()
        if name in ranges
    }
    drawn = set(sorted(clipped, key=lambda name: -clipped[name])[:DRAWN])
    for name, grid in plan.activations.items():
        seen = ranges.get(name)
        yield ActivationRow(
            name=name,
            low=grid.low,
            high=grid.high,
            minimum=None if seen is None else seen.low,
            maximum=None if seen is None else seen.high,
            reason=grid.reason,
            distribution=distribution_of(seen.sample) if seen and name in drawn else None,
        )


def width_rows(plan: Plan) -> Iterator[WidthRow]:
    """Yield how many channels, neurons or heads each group kept."""
    for name, choice in plan.units.items():
        yield WidthRow(name=name, kept=len(choice.kept), count=choice.count, reason=choice.reason)


def scaling_rows(plan: Plan) -> Iterator[ScalingRow]:
    """Yield by which factors the entries of each scaled axis are divided."""
    for name, choice in plan.scalings.items():
        factors = from_steps(choice.steps)
        yield ScalingRow(
            name=name,
            entries=len(choice.steps),
            low=float(factors.min()),
            high=float(factors.max()),
            inserted=choice.inserted,
            reason=choice.reason,
        )


def frozen_rows(model: ir.Model, facts: Facts) -> Iterator[FrozenRow]:
    """Yield the axes of weights that cannot be cut, those of one weight and reason together."""
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for frozen in dependencies(model, [facts.shapes]).frozen:
        found[frozen.weight, frozen.reason].append(frozen.axis)
    for (weight, reason), axes in found.items():
        yield FrozenRow(weight=weight, axes=tuple(axes), reason=reason)
