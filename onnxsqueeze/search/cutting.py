"""How a model is cut and refitted, whatever stays of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.analysis.summary import multiply_adds
from onnxsqueeze.analysis.units import Units, dependencies
from onnxsqueeze.data.samples import Samples, evenly
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
FEWEST_SAMPLES = 64
"""Samples that a repair layer by layer needs; with fewer than there are it takes two passes."""


@dataclass(frozen=True)
class Walk:
    """How a repair layer by layer goes: on which samples, and in how many passes over them."""

    samples: Samples
    stages: int


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
    walk: Walk | None = None,
    progress: Progress | None = None,
) -> Repaired:
    """Return the model with only what is kept, its readers refitted.

    Args:
        search: The search.
        cuts: What may be removed, and how.
        kept: What stays, by group.
        walk: How each is refitted to what it reads behind the layers before it; None: all at once.
        progress: Called with (stage, done, all).
    """
    tell = progress or silent
    made = repaired(search.model, cuts.units, kept, cuts.cut, cuts.known)
    if walk is None:
        return made
    return sequential(
        search.model,
        made,
        cuts.units,
        kept,
        cuts.cut,
        walk.samples,
        stages=walk.stages,
        mask=cuts.mask,
        seed=search.budget.seed,
        progress=lambda done, total: tell("repair of pruned layers", done, total),
    )


def affordable_stages(search: Search) -> int:
    """Return the passes over all samples that a repair layer by layer may take, 0 for none.

    With less than a pass for two parts of the model, there are none.
    """
    stages = _affordable_runs(search) / max(len(search.samples), 1)
    return min(int(stages), STAGES) if stages >= 2 else 0


def affordable_walk(search: Search) -> Walk | None:
    """Return a repair layer by layer that takes about a minute, or None where none does.

    Where two passes over all samples take longer, it goes over as many as it may.
    """
    stages = affordable_stages(search)
    if stages:
        return Walk(search.samples, stages)
    count = min(int(_affordable_runs(search) / 2), len(search.samples))
    if count < FEWEST_SAMPLES:
        return None
    return Walk(search.samples.subset(evenly(len(search.samples), count)), 2)


def _affordable_runs(search: Search) -> float:
    """Return how many samples both the original and the changed model may be run on."""
    once = sum(multiply_adds(search.model, search.facts.shapes).multiply_adds.values())
    return REPAIR_WORK / max(2 * once, 1)
