"""Where the grids of activations end, by the calibration method that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxsqueeze.config import Calibration
from onnxsqueeze.facts.ranges import Ranges, TensorRange
from onnxsqueeze.numerics.clipping import Ends, ends
from onnxsqueeze.plan.types import ActivationChoice


@dataclass(frozen=True)
class GridEnds:
    """The ends of one grid, and why they are there."""

    ends: Ends
    reason: str


def grid_ends(seen: TensorRange, calibration: Calibration) -> GridEnds:
    """Return the ends of one tensor's grid; ``auto`` is the method that was measured to be best.

    Source:
        ``numerics.clipping.ends``; ``measure.calibrate`` for ``auto``.
    """
    if calibration == "auto":
        return GridEnds(ends(seen, seen.method), f"range by {seen.method}: {seen.reason}")
    return GridEnds(ends(seen, calibration), f"range by {calibration}, as asked for")


def all_grid_ends(ranges: Ranges, calibration: Calibration) -> dict[str, GridEnds]:
    """Return the ends of the grid of each tensor that was finite."""
    return {
        name: grid_ends(seen, calibration) for name, seen in ranges.items() if not seen.not_finite
    }


def explained(
    activations: Mapping[str, ActivationChoice], grids: Mapping[str, GridEnds]
) -> dict[str, ActivationChoice]:
    """Return the activations with the reasons of their ends after their own."""
    return {
        name: choice.model_copy(update={"reason": f"{choice.reason}; {grids[name].reason}"})
        for name, choice in activations.items()
    }
