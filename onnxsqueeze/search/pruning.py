"""The most pruned model within a share of the budget: rank, allocate, cut, repair, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.config import Importance
from onnxsqueeze.facts.records import Fidelity
from onnxsqueeze.measure.fidelity import fidelity_against
from onnxsqueeze.measure.importance import unit_importance
from onnxsqueeze.measure.prune_repair import Kept, Repair
from onnxsqueeze.measure.prune_widths import curves, removals, work
from onnxsqueeze.numerics.pruning import CRITERIA, Criterion, Removal
from onnxsqueeze.numerics.pruning_widths import narrowed
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.cutting import Cutting, Walk, affordable_walk, refitted
from onnxsqueeze.search.trial import Search, deadline, loses_less

LADDER = tuple(step / 20 for step in range(1, 18))
"""Parts of the work that are tried to go."""
PARTS_LEFT = tuple(1 - part for part in LADDER)


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
class Ranking:
    """What is the same for all trials of one model.

    Attributes:
        cutting: How units are removed.
        order: By group, the order in which units go.
        widths: For each part of ``LADDER`` the widths.
        damage: For each part of ``LADDER`` the relative error energy to be expected.
        removed: For each part of ``LADDER`` the part of the work that really goes.
    """

    cutting: Cutting
    order: Mapping[str, Removal]
    widths: Sequence[Mapping[str, int]]
    damage: Sequence[float]
    removed: Sequence[float]

    def kept(self, rung: int) -> Kept:
        """Return the units that stay on a rung of the ladder."""
        counts = {one.name: one.count for one in self.cutting.units}
        return {
            name: self.order[name].kept(width)
            for name, width in self.widths[rung].items()
            if width < counts[name]
        }


def ranking(
    search: Search,
    cuts: Cutting,
    *,
    criterion: Importance = "obs",
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
    scores: Mapping[str, npt.NDArray[Any]] = {}
    if criterion not in CRITERIA:
        scores = unit_importance(
            model,
            units,
            search.samples,
            criterion,
            seed=search.budget.seed,
            progress=lambda a, b: tell(f"importance by {criterion}", a, b),
        )
    found = curves(
        model,
        units,
        removals(model, units, cuts.known, _told_by_moments(criterion), scores),
        cuts.cut,
        cuts.known,
        search.reference,
        progress=lambda a, b: tell("damage of narrower layers", a, b),
    )
    order = {name: best for name, (_, best) in found.items()}
    cost = work(model, units, search.facts.shapes, node_costs)
    losses = {name: curve for name, (curve, _) in found.items()}
    widths = narrowed(losses, cost, PARTS_LEFT)
    whole = cost({})
    removed = [1 - cost(one) / whole if whole > 0 else 0.0 for one in widths]
    damage = [
        sum(float(losses[name].damage[losses[name].count - width]) for name, width in one.items())
        for one in widths
    ]
    return Ranking(cuts, order, widths, damage, removed)


def _told_by_moments(criterion: Importance) -> Criterion:
    """Return the criterion, or that of groups which another cannot rank."""
    return next((one for one in CRITERIA if one == criterion), "obs")


def pruned(
    search: Search,
    cuts: Cutting,
    *,
    share: float = 0.5,
    criterion: Importance = "obs",
    node_costs: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Pruned | None:
    """Return the most pruned model whose drop keeps to a share of the budget, or None.

    The rungs of ``LADDER`` are tried from that on which the curves foretell, upwards or downwards,
    each cut and refitted to the calibration samples; what counts is the pessimistic end of the
    drop on the held-out samples. Repair layer by layer takes longer, so it begins where the quick
    one ends: on the rungs above, or, where that fails, on the same one.

    Args:
        search: The search.
        cuts: What may be removed, and how.
        share: Part of the budget that pruning may spend, from 0 to 1; the rest is for rounding.
        criterion: What ranks the units of a group.
        node_costs: Cost of each node by name; None for multiply-adds.
        progress: Called with (stage, done, all).
    """
    tell, end = progress or silent, deadline(search)
    ranks = ranking(
        search,
        cuts,
        criterion=criterion,
        node_costs=node_costs,
        progress=progress,
    )
    allowed, high = share * search.budget.max_drop, rungs(search) - 1
    first = max(sum(damage <= allowed for damage in ranks.damage[: high + 1]) - 1, 0)

    def highest(low: int, first: int, walk: Walk | None) -> tuple[Pruned, int] | None:
        make = partial(at_rung, search, ranks, walk=walk, progress=progress)
        return _highest(make, range(low, high + 1), first, allowed, end, tell)

    quick, walk = highest(0, first, None), affordable_walk(search)
    if quick is None:
        return None
    best, rung = quick
    if walk is None or time.monotonic() >= end:
        return best
    slow = highest(rung + 1, rung + 1, walk)
    if slow is not None:
        return slow[0]
    again = at_rung(search, ranks, rung, walk=walk, progress=progress)
    return again if again is not None and loses_less(again.fidelity, best.fidelity) else best


def rungs(search: Search) -> int:
    """Return how many rungs of the ladder the limits allow."""
    return sum(part <= search.limits.max_prune for part in LADDER)


def _highest(
    make: Callable[[int], Pruned | None],
    tried: range,
    first: int,
    allowed: float,
    end: float,
    tell: Progress,
) -> tuple[Pruned, int] | None:
    """Return the model of the highest rung within the drop allowed, and that rung, or None.

    Steps double until the drop is passed, and are halved from there.

    Args:
        make: Makes and measures the model of a rung; None where nothing goes.
        tried: Rungs that may be.
        first: The rung to begin with.
        allowed: What the drop's pessimistic end may be.
        end: When it must end, by ``time.monotonic``.
        tell: Called with (stage, done, all).
    """
    low, high = tried.start, tried.stop - 1
    best, is_bounded, step, rung = None, False, 1, first
    while low <= high and time.monotonic() < end:
        made = make(rung)
        if made is not None and made.fidelity.drop.high <= allowed:
            best, low = (made, rung), rung + 1
        else:
            high, is_bounded = rung - 1, True
        if is_bounded and best is not None:
            rung = (low + high + 1) // 2
        else:
            to = rung - step if is_bounded else rung + step
            rung, step = min(max(to, low), high), 2 * step
        tell("pruning within the budget", len(tried) - (high - low + 1), len(tried))
    return best


def at_rung(
    search: Search,
    ranks: Ranking,
    rung: int,
    *,
    walk: Walk | None = None,
    progress: Progress | None = None,
) -> Pruned | None:
    """Return the model of one rung of the ladder, repaired and measured; None if nothing goes.

    At half of all widths, repair layer by layer gave a small CNN 7 dB, and MiniLM 0.2 dB.

    Args:
        search: The search.
        ranks: See ``ranking``.
        rung: Position in ``LADDER``.
        walk: How it is repaired layer by layer; None for all layers at once.
        progress: Called with (stage, done, all).
    """
    kept = ranks.kept(rung)
    if not kept:
        return None
    found = refitted(search, ranks.cutting, kept, walk=walk, progress=progress)
    measured = fidelity_against(search.reference, found.model)
    reasons = {name: _reason(ranks, name, len(stay)) for name, stay in kept.items()}
    return Pruned(
        found.model,
        kept,
        reasons,
        ranks.removed[rung],
        measured,
        found.repairs,
        repairs_in_sequence=walk is not None,
    )


def _reason(ranks: Ranking, name: str, width: int) -> str:
    count = len(ranks.order[name].order)
    loss = float(ranks.order[name].losses[count - width])
    text = np.format_float_positional(100 * loss, precision=2, unique=False, fractional=False)
    return f"{width} of {count} kept: the others can be made up for but for {text}% of the output"
