"""What stands between the stages: a measured model, and a search in it or in a narrower one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph import io, walk
from onnxsqueeze.measure.collect import Subject, collect
from onnxsqueeze.measure.fidelity import Reference, reference
from onnxsqueeze.measure.load import Loaded
from onnxsqueeze.measure.memory import needed
from onnxsqueeze.measure.ranges import cores
from onnxsqueeze.outcome import clear
from onnxsqueeze.plan.make import INT4_OPSET, allowed, check_operators
from onnxsqueeze.plan.providers import measures_integers, plans_integers
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.memory import available_bytes
from onnxsqueeze.runtime.shapes import measured_shapes
from onnxsqueeze.search import Narrowed, Search, narrow, narrowed_by


@dataclass(frozen=True)
class Measured:
    """A loaded model and what was measured about it, kept in a run folder.

    Attributes:
        loaded: The cleaned model with its samples.
        facts: What was measured.
        store: Where facts are kept.
        seed: Seed of the choice of rows.
    """

    loaded: Loaded
    facts: Facts
    store: Store
    seed: int = 0


def measured_of(
    loaded: Loaded,
    store: Store,
    seed: int,
    target: Target,
    limits: Limits,
    progress: Progress | None,
) -> Measured:
    """Return the facts of a loaded model, measured or found in the store.

    Args:
        loaded: The model with its samples.
        store: Where facts are kept.
        seed: Seed of the choice of rows.
        target: For ``size`` activations are not calibrated.
        limits: ``prune_below`` counts the weights that it would make zero.
        progress: Called with (stage, done, all).
    """
    subject = Subject(
        model=loaded.model,
        model_sha256=loaded.sha256,
        samples=loaded.calibration,
        is_synthetic=loaded.is_synthetic,
        prune_below=limits.prune_below,
        is_thinned=limits.is_sparse,
        seed=seed,
        is_large=loaded.is_large,
        times_nodes=measures_integers(target),
        compares_ranges=target.calibration == "auto",
    )
    wanted = (target.objective != "size" or target.npu) and plans_integers(target)
    integers = wanted and not loaded.is_synthetic
    facts = collect(subject, store, with_integers=integers, progress=progress)
    return Measured(loaded, facts, store, seed)


def said_of_memory(loaded: Loaded, progress: Progress | None) -> Loaded:
    """Say what a large model takes before the work starts, and return it with that as a note."""
    if not loaded.is_large:
        return loaded
    words = needed(loaded.model, has_data=not loaded.is_synthetic).words(available_bytes())
    if progress is not None:
        progress(words, 0, 0)
    return replace(loaded, notes=(*loaded.notes, words))


def check_kept(loaded: Loaded, limits: Limits) -> None:
    """Raise PlanError for a pattern or operator that is not there: a typo would lose the wish."""
    names = set[str]()
    for model in (loaded.model, io.read(loaded.path)):
        names.update(value.name or "" for _, value in walk.initializers(model))
        names.update(node.name or "" for node in walk.nodes(model))
    for pattern in limits.keep:
        if not any(Limits(keep=(pattern,)).is_kept(name) for name in names):
            raise PlanError(
                f"keep pattern {pattern!r} matches no initializer and no node of the model\n"
                "  It must match a whole name; 'onnxsqueeze inspect MODEL' lists them."
            )
    check_operators(limits, (weight.node.op_type for weight in weights(loaded.model)[0]))


def store_in(run: Path) -> Store:
    """Return the store of a run folder, which is made if it is not there."""
    clear(run)
    return Store(run / "facts")


def reference_of(loaded: Loaded, budget: Budget, target: Target) -> Reference:
    """Return the original's outputs on its held-out samples, judged by the budget's metric."""
    for other in target.providers[1:]:  # what is not there is told before all that takes long
        ort.session(loaded.path, provider=other)
    return reference(
        loaded.path,
        loaded.held_out,
        budget.metric,
        provider=target.providers[0],
        threads=cores(),
        seed=budget.seed,
    )


def search_in(
    measured: Measured, known: Reference, budget: Budget, target: Target, limits: Limits
) -> Search:
    """Return a search in a measured model, for what it can hold of the limits.

    Raises:
        PlanError: If integers of 16 bits are asked for, and the model's opset has none.
    """
    loaded = measured.loaded
    opset = loaded.model.graph.opset_imports.get("", 0)
    if target.npu and opset < INT4_OPSET:
        raise PlanError(
            f"activations of 16 bits need opset {INT4_OPSET}, and the model has {opset}, "
            "which could not be raised\n  Export it with a newer opset, or leave out --npu."
        )
    possible = allowed(limits, opset, has_data=not loaded.is_synthetic, portable=target.portable)
    return Search(
        loaded.model,
        measured.facts,
        known,
        budget,
        target,
        possible,
        measured.store,
        loaded.calibration,
        is_large=loaded.is_large,
    )


def may_prune(loaded: Loaded, target: Target, limits: Limits) -> bool:
    """Return whether channels, neurons and heads may go.

    What is pruned is fitted anew, which takes samples, and all of its weights in memory.
    """
    is_possible = not loaded.is_synthetic and not loaded.is_large
    return is_possible and limits.prunes(target.objective)


def unmeasured(loaded: Loaded, store: Store, seed: int) -> Measured:
    """Return a model of which nothing is known but the shapes: pruning needs no more."""
    known = Facts(
        loaded.sha256,
        None if loaded.is_synthetic else loaded.calibration.fingerprint,
        measured_shapes(loaded.model, loaded.calibration[0]),
        weights=(),
        left_alone={},
        grams={},
    )
    return Measured(loaded, known, store, seed)


def narrower(
    measured: Measured, search: Search, progress: Progress | None = None
) -> tuple[Measured, Search] | str:
    """Return the pruned model with its own facts, and a search in it; or why nothing went."""
    found = narrow(search, progress)
    return found if isinstance(found, str) else _inside(found, measured, search, progress)


def narrower_by(
    plan: Plan, measured: Measured, search: Search, progress: Progress | None = None
) -> tuple[Measured, Search] | None:
    """Return the model pruned as a plan says, with a search in it; None for a plan without units.

    Raises:
        PlanError: If the units of the plan are not those of the model.
    """
    found = narrowed_by(search, plan, progress)
    return None if found is None else _inside(found, measured, search, progress)


def _inside(
    found: Narrowed, measured: Measured, search: Search, progress: Progress | None
) -> tuple[Measured, Search]:
    limits, target, loaded = search.limits, search.target, measured.loaded
    loaded = replace(loaded, model=found.model, notes=(*loaded.notes, found.note))
    keyed = replace(loaded, sha256=found.sha256)  # facts of the one are not those of the other
    seed, store = measured.seed, measured.store
    facts = measured_of(keyed, store, seed, target, limits, progress).facts
    narrowed = Measured(loaded, replace(facts, model_sha256=loaded.sha256), store, seed)
    known, budget = search.reference, search.budget
    inner = search_in(narrowed, known, budget, target, limits)
    return narrowed, replace(inner, units=found.units, refit=found.refit)
