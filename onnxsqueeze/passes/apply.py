"""Carry out a plan on a copy of the model: round, store, remove what is dead, check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze import __version__
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.grams import Gram, Grams, identity
from onnxsqueeze.facts.records import Change
from onnxsqueeze.facts.store import Key, Store
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.numerics.error import sqnr_db
from onnxsqueeze.numerics.rounding import Factor
from onnxsqueeze.passes.change import done
from onnxsqueeze.passes.insert_blockwise import InsertBlockwisePass
from onnxsqueeze.passes.insert_dynamic import InsertDynamicPass
from onnxsqueeze.passes.insert_qdq import InsertQdqPass
from onnxsqueeze.passes.round_weights import (
    Codes,
    codes,
    factors,
    from_arrays,
    needed,
    thinned,
)
from onnxsqueeze.passes.store_weights import StoreWeightsPass, check_fits
from onnxsqueeze.passes.to_float16 import ToFloat16Pass
from onnxsqueeze.passes.widen_half import widen_half
from onnxsqueeze.plan.types import Plan, WeightChoice

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Applied:
    """A model with a plan carried out.

    Attributes:
        model: The new model.
        changes: What was done.
        sqnr_db: Signal to noise ratio of each rounded weight itself, by name.
    """

    model: ir.Model
    changes: tuple[Change, ...]
    sqnr_db: Mapping[str, float]


def apply(
    plan: Plan,
    model: ir.Model,
    grams: Mapping[str, Gram],
    *,
    made: Mapping[str, Codes] | None = None,
    biases: Mapping[str, Array] | None = None,
    scores: Mapping[str, Array] | None = None,
    store: Store | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Applied:
    """Return a copy of ``model`` with every decision of the plan carried out, and what was done.

    Args:
        plan: Decisions for this very model.
        model: A normalised model; it stays as it is.
        grams: Gram matrices by weight; needed where the plan says ``compensated``.
        made: Codes of weights that were rounded before, by name; the others are rounded here.
        biases: New values of initializers that are added to products, by name.
        scores: What single weights are worth, by name, where their choice says so.
        store: Where rounded weights are kept and found again.
        progress: Called with (done, all) of the weights to be rounded.

    Raises:
        PlanError: If the plan names weights or tensors that the model lacks, or a choice does not
            fit its weight.
    """
    check_fits(plan, plan.weights, {value.name: value for _, value in walk.initializers(model)})
    given = {name: made[name] for name in plan.weights if name in made} if made else {}
    others = {name: one for name, one in plan.weights.items() if name not in given}
    left = plan.model_copy(update={"weights": others})
    every = {**given, **rounded(left, model, grams, scores=scores, store=store, progress=progress)}
    copy = carried_out(plan, model, every, biases)
    return Applied(copy, tuple(changes_of(plan)), _quality(plan, model, every))


def carried_out(
    plan: Plan,
    model: ir.Model,
    every: Mapping[str, Codes],
    biases: Mapping[str, Array] | None = None,
) -> ir.Model:
    """Return a copy of ``model`` with the plan's weights stored as the codes given for them.

    Args:
        plan: Decisions for this very model.
        model: A normalised model; it stays as it is.
        every: Codes of every weight that the plan keeps as integers.
        biases: New values of initializers, by name.

    Raises:
        PlanError: If the plan or the biases name what the model lacks.
    """
    copy = model.clone()
    values = {value.name: value for _, value in walk.initializers(copy)}
    check_fits(plan, (*plan.weights, *(biases or {})), values)
    for name, bias in (biases or {}).items():
        edit.set_value(values[name], bias)
    plan = widen_half(copy, plan)
    for one in (
        InsertDynamicPass(plan, every),
        InsertQdqPass(plan, every),
        InsertBlockwisePass(plan, every),
    ):
        copy = one(copy).model
    store_left(plan, copy, every)
    if plan.compute == "float16":
        copy = ToFloat16Pass()(copy).model
    verify(copy)
    return copy


def store_left(plan: Plan, model: ir.Model, every: Mapping[str, Codes]) -> None:
    """Store, in place, the plan's weights that no kernel has taken in integers."""
    there = {value.name for _, value in walk.initializers(model)}
    left = {name: choice for name, choice in plan.weights.items() if name in there}
    StoreWeightsPass(plan.model_copy(update={"weights": left}), every)(model)


def _quality(plan: Plan, model: ir.Model, every: Mapping[str, Codes]) -> dict[str, float]:
    found = {}
    for _, value in walk.initializers(model):
        name, tensor = value.name or "", value.const_value
        if name in every and tensor is not None:
            before = tensor.numpy()
            after = every[name].values(before.shape, plan.weights[name].axis)
            found[name] = sqnr_db(before, after)
    return found


def rounded(
    plan: Plan,
    model: ir.Model,
    grams: Mapping[str, Gram],
    *,
    scores: Mapping[str, Array] | None = None,
    store: Store | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Codes]:
    """Return the codes of every weight that the plan keeps as integers, each by itself.

    Arguments and errors are those of ``apply``.
    """
    values = {value.name: value for _, value in walk.initializers(model)}
    names = needed(plan.weights)
    found: dict[str, Codes] = {}
    for number, name in enumerate(names):
        choice, tensor = plan.weights[name], values[name].const_value
        assert tensor is not None  # ONNX: an initializer has a value
        key = codes_key(plan, name, choice, grams)
        saved = None if store is None else store.get("codes", key)
        if saved is not None:
            found[name] = from_arrays(saved.arrays)
        else:
            gram = grams.get(name) if choice.rounding == "compensated" else None
            known = None
            if gram is not None and choice.form not in ("float", "float16"):
                known = _factors(grams, name, gram, store)
            with _told(name, tensor, choice):
                weight, thin = tensor.numpy(), None
                worth = (scores or {}).get(name)
                if choice.prunes and store is not None:
                    thin = _thin(weight, choice, gram, worth, store, key)
                found[name] = codes(weight, choice, gram, known=known, thin=thin, scores=worth)
            if store is not None:
                store.put("codes", key, {}, found[name].arrays())
        if progress is not None:
            progress(number + 1, len(names))
    return found


def _factors(
    grams: Mapping[str, Gram], name: str, gram: Gram, store: Store | None
) -> Factor | None:
    """Return the factor of a measured Gram matrix, kept on disk: every trial needs them again."""
    if store is None or not isinstance(grams, Grams):
        return None
    key = {"version": __version__, "gram": grams.record, "array": grams.array(name)}
    saved = store.get("factor", key)
    if saved is None:
        found = factors(gram)
        store.put("factor", key, {}, dict(vars(found)))
        return found
    return Factor(np.asarray(saved.arrays["order"]), np.asarray(saved.arrays["upper"]))


def _thin(
    weight: Array,
    choice: WeightChoice,
    gram: Gram | None,
    scores: Array | None,
    store: Store,
    key: Key,
) -> Array:
    """Return the weight with its zeros, kept on disk: every form of it is made of the same."""
    fields = {"axis", "rounding", "prune_below", "sparsity", "pattern", "shrink", "importance"}
    same = {**key, "choice": choice.model_dump(include=fields)}
    saved = store.get("thin", same)
    if saved is None:
        rows = thinned(weight.astype(np.float32), choice, gram, scores=scores)
        saved = store.put("thin", same, {}, {"rows": rows})
    return np.asarray(saved.arrays["rows"])


@contextmanager
def _told(name: str, tensor: ir.TensorProtocol, choice: WeightChoice) -> Iterator[None]:
    """Raise what a weight has against its choice as PlanError, with the weight's name."""
    try:
        yield
    except ValueError as error:
        raise PlanError(
            f"weight {name!r} of shape {list(tensor.shape.numpy())} cannot be stored "
            f"as planned: {error}\n"
            f"  Planned: {choice.form}, {choice.bits} bits, axis {choice.axis}, "
            f"block {choice.block}, pattern {choice.pattern}.\n"
            "  Make a plan for this model: onnxsqueeze plan MODEL"
        ) from error


def codes_key(
    plan: Plan, name: str, choice: WeightChoice, grams: Mapping[str, Gram]
) -> dict[str, object]:
    """Return what a rounded weight depends on: its choice, but for the reason and the bit mask."""
    return {
        "model": plan.model_sha256,
        "version": __version__,
        "units": {group: choice.kept for group, choice in plan.units.items()},
        "scalings": {tensor: choice.steps for tensor, choice in plan.scalings.items()},
        "refit": plan.refit,
        "weight": name,
        "choice": choice.model_dump(exclude={"reason", "masked"}),
        "gram": identity(grams, name) if choice.rounding == "compensated" else None,
    }


def changes_of(plan: Plan) -> list[Change]:
    """Return what carrying out a plan changes, weight by weight and grid by grid."""
    changes = []
    for name, choice in plan.weights.items():
        if choice.form != "float" or choice.prunes:
            after = f"{choice.form}, {choice.bits} bits" + (
                ", zeros masked" if choice.masked else ""
            )
            changes.append(done("apply", name, "float", after))
    for name, grid in plan.activations.items():
        changes.append(done("apply", name, "float", f"uint8 in [{grid.low:.6g}, {grid.high:.6g}]"))
    return changes
