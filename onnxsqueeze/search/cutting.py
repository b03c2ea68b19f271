"""How a model is cut and refitted, whatever stays of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.analysis.summary import multiply_adds
from onnxsqueeze.analysis.units import Units, dependencies
from onnxsqueeze.measure.prune_moments import input_moments
from onnxsqueeze.measure.prune_readers import readers
from onnxsqueeze.measure.prune_repair import Cut, Kept, Known, Repaired, repaired, sequential
from onnxsqueeze.measure.prune_rows import mask_input
from onnxsqueeze.passes.cut_units import cut_units
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.runtime.shapes import measured_shapes
from onnxsqueeze.search.trial import Search

STAGES = 16
"""Most passes over the samples in a repair layer by layer."""
REPAIR_WORK = 1e12
"""Multiply-adds that one such repair may take: about a minute on one core."""


@dataclass(frozen=True)
class Cutting:
    """How a model is cut and refitted, whatever stays.

    Attributes:
        units: What may be removed.
        cut: Removes it.
        known: Moments of what weights read.
        mask: Input that tells which places count, or None.
    """

    units: Sequence[Units]
    cut: Cut
    known: Known
    mask: str | None


def prunable(search: Search) -> tuple[tuple[Units, ...], Cut]:
    """Return all units of a model that can be removed, and what removes them.

    Shapes of the first and the last calibration sample tell which axes have a fixed length.
    """
    shapes = search.facts.shapes
    last = measured_shapes(search.model, search.samples[len(search.samples) - 1])
    units = dependencies(search.model, [shapes, last]).units

    def cut(model: ir.Model, kept: Kept) -> ir.Model:
        return cut_units(model, units, kept, shapes)

    return units, cut


def cutting(
    search: Search, units: Sequence[Units], cut: Cut, progress: Progress | None = None
) -> Cutting:
    """Return how units are cut, with the moments that their readers are refitted to.

    Args:
        search: The search; units that its limits keep are left out.
        units: What may be removed.
        cut: Removes it, and fits nothing.
        progress: Called with (stage, done, all).
    """
    tell = progress or silent
    model, samples, seed = search.model, search.samples, search.budget.seed
    units = [one for one in units if not any(search.limits.is_kept(n) for n, _ in one.entries)]
    read = [
        reader
        for reader in readers(model).values()
        if any(reader.unit_of_feature(one) is not None for one in units)
    ]
    # Channels of a kernel with places come before the places, where a mask would look for its own.
    has_places = any(len(reader.shape) > 2 for reader in read)
    mask = None if has_places else mask_input(model, samples, seed)
    known = input_moments(
        model,
        read,
        samples,
        mask=mask,
        seed=seed,
        progress=lambda a, b: tell("what weights read", a, b),
    )
    return Cutting(units, cut, known, mask)


def refitted(
    search: Search,
    cuts: Cutting,
    kept: Kept,
    *,
    start: Repaired | None = None,
    stages: int = STAGES,
    progress: Progress | None = None,
) -> Repaired:
    """Return the model with only what is kept, its readers refitted.

    Args:
        search: The search.
        cuts: What may be removed, and how.
        kept: What stays, by group.
        start: The same, refitted all at once; None if that is still to be done.
        stages: Most passes over the samples of a repair layer by layer; 0 for all at once.
        progress: Called with (stage, done, all).
    """
    tell = progress or silent
    made = start or repaired(search.model, cuts.units, kept, cuts.cut, cuts.known)
    if not stages:
        return made
    return sequential(
        search.model,
        made,
        cuts.units,
        kept,
        cuts.cut,
        search.samples,
        stages=stages,
        mask=cuts.mask,
        seed=search.budget.seed,
        progress=lambda done, total: tell("repair of pruned layers", done, total),
    )


def affordable_stages(search: Search) -> int:
    """Return the passes over the samples that a repair layer by layer may take, 0 for none.

    With less than a pass for two parts of the model, nothing is repaired in sequence.
    """
    once = sum(multiply_adds(search.model, search.facts.shapes).multiply_adds.values())
    stages = REPAIR_WORK / max(2 * once * len(search.samples), 1)
    return min(int(stages), STAGES) if stages >= 2 else 0
