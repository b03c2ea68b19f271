"""Pruning as the first step of a search: the narrower model, made once and kept in the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxsqueeze import __version__
from onnxsqueeze.analysis.units import Units
from onnxsqueeze.errors import ModelError, PlanError
from onnxsqueeze.graph import io
from onnxsqueeze.measure.prune_widths import work
from onnxsqueeze.passes.fix_reshapes import fix_reshapes
from onnxsqueeze.plan.types import Order, Plan, UnitsChoice
from onnxsqueeze.progress import Progress
from onnxsqueeze.runtime.shapes import Shape, measured_shapes
from onnxsqueeze.search.cutting import (
    STAGES,
    Walk,
    affordable_walk,
    cutting,
    prunable,
    refitted,
)
from onnxsqueeze.search.pruning import pruned
from onnxsqueeze.search.pruning_screen import Saving, foretold_saving, value_counts
from onnxsqueeze.search.pruning_time import (
    ASK,
    NONE,
    pruning_seconds,
    screening_seconds,
    too_long,
)
from onnxsqueeze.search.trial import Search

SHARE = 0.7
"""Part of the budget that pruning may spend; the rest is for rounding."""
QUICK_SECONDS = 60.0
"""Pruning that is estimated to take less is tried, whatever is foretold of it."""


@dataclass(frozen=True)
class Narrowed:
    """A model without the units that matter least, what reads them fitted to what is left.

    Attributes:
        model: The model.
        units: What stays of each group that was narrowed.
        refit: As in ``Plan``.
        removed: Part of the multiply-adds that went.
        sha256: Fingerprint of the original and of what was removed.
    """

    model: ir.Model
    units: Mapping[str, UnitsChoice]
    refit: Order
    removed: float
    sha256: str

    @property
    def note(self) -> str:
        """What was done, in words."""
        gone = sum(one.count - len(one.kept) for one in self.units.values())
        of = sum(one.count for one in self.units.values())
        return (
            f"pruned: {gone} of {of} channels, neurons or heads in {len(self.units)} groups, "
            f"{self.removed:.0%} of the multiply-adds; what reads them was refitted"
        )


def narrow(search: Search, progress: Progress | None = None) -> Narrowed | str:
    """Return the most pruned model whose drop keeps to its share of the budget, or why none is.

    Where bytes count first and pruning was not asked for, it is tried only if that is quick, or
    foretold to pay and not to take too long.

    Args:
        search: The search; its limits tell what must stay, and how much may go.
        progress: Called with (stage, done, all).
    """
    key = {
        "model": search.facts.model_sha256,
        "data": search.samples.fingerprint,
        "held out": search.reference.samples.fingerprint,
        "metric": search.reference.metric.name,
        "budget": search.budget.model_dump(mode="json"),
        "keep": search.limits.keep,
        "most": search.limits.max_prune,
        "importance": search.limits.importance,
        "asked for": _is_asked_for(search),
        "version": __version__,
    }
    saved = search.store.get("narrow", key)
    kept = None if saved is None else saved.values["kept"]
    found = None if kept is None else _from_store(search, kept)
    if found is not None:
        return found
    if saved is None or kept is not None:
        made = _found(search, progress)
        kept, reason = (None, made) if isinstance(made, str) else (made, "")
        saved = search.store.put("narrow", key, {"kept": kept, "reason": reason})
        found = None if kept is None else _from_store(search, kept)
    return found or str(saved.values["reason"])


def _is_asked_for(search: Search) -> bool:
    return search.limits.prunes_however_long(search.target.objective)


def _found(search: Search, progress: Progress | None) -> dict[str, object] | str:
    """Put the most pruned model into the store and return its key, or why there is none."""
    is_asked_for = _is_asked_for(search)
    if not is_asked_for and (words := too_long(screening_seconds(search))):
        return words
    fixed = _with_fixed_reshapes(search)
    units, cut = prunable(fixed)
    cuts = cutting(fixed, units, cut, progress)
    seconds = pruning_seconds(fixed, len(cuts.units))
    if not is_asked_for and seconds > QUICK_SECONDS:
        saving = foretold_saving(fixed, cuts, SHARE * search.budget.max_drop)
        if words := _too_little(saving) or too_long(seconds):
            return words
    criterion = search.limits.importance
    found = pruned(fixed, cuts, share=SHARE, criterion=criterion, progress=progress)
    if found is None:
        return f"{NONE}: none can go within {SHARE:.0%} of the budget"
    before, after = (sum(value_counts(model).values()) for model in (search.model, found.model))
    gone = Saving(1 - after / before, found.removed)
    if not is_asked_for and (words := _too_little(gone)):
        return words
    counts = {one.name: one.count for one in units}
    choices = {
        name: UnitsChoice(
            kept=tuple(int(one) for one in stay), count=counts[name], reason=found.reasons[name]
        )
        for name, stay in found.kept.items()
    }
    refit: Order = "sequential" if found.repairs_in_sequence else "each"
    key = _key(search, choices, refit)
    _put(search, key, found.model, choices, found.removed)
    return key


def _too_little(saving: Saving) -> str:
    """Return in words that too little can go to be worth the budget, or nothing."""
    if saving.is_enough:
        return ""
    return (
        f"{NONE}: {saving.weights:.0%} of the weights and {saving.work:.0%} of the multiply-adds "
        f"could go with them for {SHARE:.0%} of the budget, of which rounding makes more; {ASK}"
    )


def narrowed_by(search: Search, plan: Plan, progress: Progress | None = None) -> Narrowed | None:
    """Return the model with the units that a plan keeps, refitted as it says; None without units.

    One that ``narrow`` has made is not made again.

    Args:
        search: The search, in the whole model.
        plan: Decisions, edited by hand perhaps.
        progress: Called with (stage, done, all).

    Raises:
        PlanError: If the model has no such group, or it has another number of units.
    """
    if not plan.units:
        return None
    key = _key(search, plan.units, plan.refit)
    known = _from_store(search, key)
    if known is not None:
        return known
    fixed = _with_fixed_reshapes(search)
    units, cut = prunable(fixed)
    _check_units(plan, units)
    walk = None
    if plan.refit == "sequential":
        walk = affordable_walk(fixed) or Walk(fixed.samples, STAGES)
    kept = {name: np.array(one.kept, np.int64) for name, one in plan.units.items()}
    cuts = cutting(fixed, units, cut, progress)
    made = refitted(fixed, cuts, kept, walk=walk, progress=progress)
    cost = work(fixed.model, units, fixed.facts.shapes)
    removed = 1 - cost({name: len(stay) for name, stay in kept.items()}) / cost({})
    _put(search, key, made.model, plan.units, removed)
    return _from_store(search, key)


def _check_units(plan: Plan, units: Sequence[Units]) -> None:
    counts = {one.name: one.count for one in units}
    for name, choice in plan.units.items():
        if name not in counts:
            raise PlanError(
                f"the plan narrows the group {name!r}, and the model has no such group\n"
                f"  It has: {', '.join(sorted(counts)) or 'none that can be narrowed'}."
            )
        if choice.count != counts[name]:
            raise PlanError(
                f"the plan takes group {name!r} to have {choice.count} units, "
                f"and it has {counts[name]}\n  Make a plan for this model: onnxsqueeze plan MODEL"
            )


def _key(search: Search, choices: Mapping[str, UnitsChoice], refit: Order) -> dict[str, object]:
    """Return what a narrower model depends on."""
    return {
        "model": search.facts.model_sha256,
        "data": search.samples.fingerprint,
        "kept": {name: [choice.count, *choice.kept] for name, choice in choices.items()},
        "refit": refit,
        "seed": search.budget.seed,
        "version": __version__,
    }


def _put(
    search: Search,
    key: Mapping[str, object],
    model: ir.Model,
    choices: Mapping[str, UnitsChoice],
    removed: float,
) -> None:
    """Write a narrower model into the store."""
    sha256 = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    search.store.folder.mkdir(parents=True, exist_ok=True)
    file = search.store.folder / f"narrow-{sha256[:12]}.onnx"
    io.write(model, file)
    values = {
        "file": file.name,
        "sha256": sha256,
        "removed": removed,
        "refit": key["refit"],
        "units": {name: choice.model_dump(mode="json") for name, choice in choices.items()},
    }
    search.store.put("narrowed", dict(key), values)


def _from_store(search: Search, key: Mapping[str, object]) -> Narrowed | None:
    saved = search.store.get("narrowed", key)
    if saved is None:
        return None
    values = saved.values
    units = {
        name: UnitsChoice.model_validate_json(json.dumps(one))
        for name, one in values["units"].items()
    }
    refit: Order = "sequential" if values["refit"] == "sequential" else "each"
    model = io.read(search.store.folder / str(values["file"]))
    return Narrowed(model, units, refit, float(values["removed"]), str(values["sha256"]))


def _with_fixed_reshapes(search: Search) -> Search:
    model = fix_reshapes(search.model, _batched_shapes(search))
    facts = replace(search.facts, shapes=measured_shapes(model, search.samples[0]))
    return replace(search, model=model, facts=facts)


def _batched_shapes(search: Search) -> Mapping[str, Shape]:
    """Return shapes of a run on two samples at once where that runs: axes of 1 tell little."""
    first = search.samples[0]
    try:
        doubled = {name: np.concatenate([value, value]) for name, value in first.items()}
        return measured_shapes(search.model, doubled)
    except (ModelError, ValueError):  # a fixed batch, or inputs without one
        return measured_shapes(search.model, first)
