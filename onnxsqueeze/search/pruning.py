"""The most pruned model within a share of the budget: rank, allocate, cut, repair, measure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsqueeze.analysis.units import Units, dependencies
from onnxsqueeze.facts.records import Fidelity
from onnxsqueeze.measure.fidelity import fidelity_against
from onnxsqueeze.measure.prune_moments import input_moments
from onnxsqueeze.measure.prune_readers import readers
from onnxsqueeze.measure.prune_repair import (
    Cut,
    Kept,
    Known,
    Repair,
    Repaired,
    repaired,
    sequential,
)
from onnxsqueeze.measure.prune_rows import mask_input
from onnxsqueeze.measure.prune_widths import curves, removals, work
from onnxsqueeze.numerics.pruning import Criterion, Removal
from onnxsqueeze.numerics.pruning_widths import narrowed
from onnxsqueeze.passes.cut_units import cut_units
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.runtime.shapes import measured_shapes
from onnxsqueeze.search.trial import Search, deadline

LADDER = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Parts of the work that are tried to go."""
STAGES = 16


@dataclass(frozen=True)
class Pruned:
    """A pruned and repaired model, and what it keeps.

    Attributes:
        model: The model.
        kept: Units that stay, by group; groups that stay whole are absent.
        reasons: Why, by group.
        removed: Part of the work that went.
        fidelity: What it keeps of the original, on the held-out samples.
        repairs: How each weight was refitted.
        repairs_in_sequence: Whether that was done layer by layer, each on the layers before it.
    """

    model: ir.Model
    kept: Kept
    reasons: Mapping[str, str]
    removed: float
    fidelity: Fidelity
    repairs: tuple[Repair, ...]
    repairs_in_sequence: bool

    @property
    def short(self) -> tuple[str, ...]:
        """Weights that were refitted to too few rows."""
        return tuple(one.weight for one in self.repairs if one.is_short)


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


@dataclass(frozen=True)
class Ranking:
    """What is the same for all trials of one model.

    Attributes:
        cutting: How units are removed.
        order: By group, the order in which units go.
        widths: For each part of ``LADDER`` the widths.
        removed: For each part of ``LADDER`` the part of the work that really goes.
    """

    cutting: Cutting
    order: Mapping[str, Removal]
    widths: Sequence[Mapping[str, int]]
    removed: Sequence[float]

    def kept(self, rung: int) -> Kept:
        """Return the units that stay on a rung of the ladder."""
        counts = {one.name: one.count for one in self.cutting.units}
        return {
            name: self.order[name].kept(width)
            for name, width in self.widths[rung].items()
            if width < counts[name]
        }


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


def ranking(
    search: Search,
    cuts: Cutting,
    *,
    criterion: Criterion = "obs",
    node_costs: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Ranking:
    """Return in which order units go, and the widths for each part of the work.

    Args:
        search: The search.
        cuts: What may be removed, and how.
        criterion: What ranks the units of a group.
        node_costs: Cost of each node by name, for one in milliseconds; None for multiply-adds.
        progress: Called with (stage, done, all).
    """
    tell, model, units = progress or silent, search.model, cuts.units
    found = curves(
        model,
        units,
        removals(model, units, cuts.known, criterion),
        cuts.cut,
        cuts.known,
        search.reference,
        progress=lambda a, b: tell("damage of narrower layers", a, b),
    )
    order = {name: best for name, (_, best) in found.items()}
    cost = work(model, units, search.facts.shapes, node_costs)
    damage = {name: curve for name, (curve, _) in found.items()}
    widths = narrowed(damage, cost, [1 - part for part in LADDER])
    whole = cost({})
    removed = [1 - cost(one) / whole if whole > 0 else 0.0 for one in widths]
    return Ranking(cuts, order, widths, removed)


def pruned(
    search: Search,
    units: Sequence[Units],
    cut: Cut,
    *,
    share: float = 0.5,
    criterion: Criterion = "obs",
    node_costs: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Pruned | None:
    """Return the most pruned model whose drop keeps to a share of the budget, or None.

    The rungs of ``LADDER`` are bisected; what counts is the pessimistic end of the drop on the
    held-out samples. Each trial is cut and refitted layer by layer to the calibration samples.

    Args:
        search: The search; nothing is pruned that its limits keep.
        units: What may be removed.
        cut: Removes it, and fits nothing.
        share: Part of the budget that pruning may spend, from 0 to 1; the rest is for rounding.
        criterion: What ranks the units of a group.
        node_costs: Cost of each node by name; None for multiply-adds.
        progress: Called with (stage, done, all).
    """
    tell, end = progress or silent, deadline(search)
    cuts = cutting(search, units, cut, progress)
    ranks = ranking(
        search,
        cuts,
        criterion=criterion,
        node_costs=node_costs,
        progress=progress,
    )
    rungs = sum(part <= search.limits.max_prune for part in LADDER)
    best, low, high, stages = None, 0, rungs - 1, STAGES
    while low <= high and time.monotonic() < end:
        rung = (low + high + 1) // 2
        made = at_rung(search, ranks, rung, stages=stages, progress=progress)
        if made is not None and not made.repairs_in_sequence:
            stages = 0
        if made is not None and made.fidelity.drop.high <= share * search.budget.max_drop:
            best, low = made, rung + 1
        else:
            high = rung - 1
        tell("pruning within the budget", len(LADDER) - (high - low + 1), len(LADDER))
    return best


def at_rung(
    search: Search,
    ranks: Ranking,
    rung: int,
    *,
    stages: int = STAGES,
    progress: Progress | None = None,
) -> Pruned | None:
    """Return the model of one rung of the ladder, repaired and measured; None if nothing goes.

    Refitting layer by layer is kept where it is better than all layers at once: at half of all
    widths it gave a small CNN 7 dB, and MiniLM 0.2 dB.

    Args:
        search: The search.
        ranks: See ``ranking``.
        rung: Position in ``LADDER``.
        stages: Most passes over the samples of a repair layer by layer; 0 for none.
        progress: Called with (stage, done, all).
    """
    kept = ranks.kept(rung)
    if not kept:
        return None
    found = refitted(search, ranks.cutting, kept, stages=0)
    measured, in_sequence = fidelity_against(search.reference, found.model), False
    if stages:
        again = refitted(
            search, ranks.cutting, kept, start=found, stages=stages, progress=progress
        )
        fidelity = fidelity_against(search.reference, again.model)
        if fidelity.drop.high < measured.drop.high:
            found, measured, in_sequence = again, fidelity, True
    reasons = {name: _reason(ranks, name, len(stay)) for name, stay in kept.items()}
    removed = ranks.removed[rung]
    return Pruned(found.model, kept, reasons, removed, measured, found.repairs, in_sequence)


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


def _reason(ranks: Ranking, name: str, width: int) -> str:
    count = len(ranks.order[name].order)
    loss = float(ranks.order[name].losses[count - width])
    text = np.format_float_positional(100 * loss, precision=2, unique=False, fractional=False)
    return f"{width} of {count} kept: the others can be made up for but for {text}% of the output"
