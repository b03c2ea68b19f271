"""Carry out a plan on a copy of the model: round, store, remove what is dead, check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze import __version__
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.grams import Gram, identity
from onnxsqueeze.facts.records import Change
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph import walk
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.numerics.error import sqnr_db
from onnxsqueeze.passes.change import done
from onnxsqueeze.passes.insert_dynamic import InsertDynamicPass
from onnxsqueeze.passes.insert_qdq import InsertQdqPass
from onnxsqueeze.passes.round_weights import Codes, codes, needed
from onnxsqueeze.passes.store_weights import StoreWeightsPass, check_fits
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
    store: Store | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Applied:
    """Return a copy of ``model`` with every decision of the plan carried out, and what was done.

    Args:
        plan: Decisions for this very model.
        model: A normalised model; it stays as it is.
        grams: Gram matrices by weight; needed where the plan says ``compensated``.
        store: Where rounded weights are kept and found again.
        progress: Called with (done, all) of the weights to be rounded.

    Raises:
        PlanError: If the plan names weights or tensors that the model lacks, or a choice does not
            fit its weight.
    """
    copy = model.clone()
    check_fits(plan, plan.weights, {value.name: value for _, value in walk.initializers(copy)})
    rounded = _rounded(plan, copy, grams, store, progress)
    for one in (
        InsertDynamicPass(plan, rounded),
        InsertQdqPass(plan, rounded),
        StoreWeightsPass(plan, rounded),
    ):
        copy = one(copy).model
    verify(copy)
    return Applied(copy, tuple(_changes(plan)), _quality(plan, model, rounded))


def _quality(plan: Plan, model: ir.Model, rounded: Mapping[str, Codes]) -> dict[str, float]:
    found = {}
    for _, value in walk.initializers(model):
        name, tensor = value.name or "", value.const_value
        if name in rounded and tensor is not None:
            before = tensor.numpy()
            after = rounded[name].values(before.shape, plan.weights[name].axis)
            found[name] = sqnr_db(before, after)
    return found


def _rounded(
    plan: Plan,
    model: ir.Model,
    grams: Mapping[str, Gram],
    store: Store | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Codes]:
    values = {value.name: value for _, value in walk.initializers(model)}
    names = needed(plan.weights)
    found: dict[str, Codes] = {}
    for number, name in enumerate(names):
        choice, tensor = plan.weights[name], values[name].const_value
        assert tensor is not None  # ONNX: an initializer has a value
        key = _key(plan, name, choice, grams)
        saved = None if store is None else store.get("codes", key)
        if saved is not None:
            arrays = {kind: np.asarray(array) for kind, array in saved.arrays.items()}
            found[name] = Codes(arrays["rows"], arrays["scale"], arrays.get("column"))
        else:
            gram = grams.get(name) if choice.rounding == "compensated" else None
            found[name] = _coded(name, tensor.numpy(), choice, gram)
            if store is not None:
                arrays = {
                    kind: array for kind, array in vars(found[name]).items() if array is not None
                }
                store.put("codes", key, {}, arrays)
        if progress is not None:
            progress(number + 1, len(names))
    return found


def _coded(name: str, weight: Array, choice: WeightChoice, gram: Gram | None) -> Codes:
    try:
        return codes(weight, choice, gram)
    except ValueError as error:
        raise PlanError(
            f"weight {name!r} of shape {list(weight.shape)} cannot be stored as planned: {error}\n"
            f"  Planned: {choice.form}, {choice.bits} bits, axis {choice.axis}, "
            f"block {choice.block}.\n  Make a plan for this model: onnxsqueeze plan MODEL"
        ) from error


def _key(
    plan: Plan, name: str, choice: WeightChoice, grams: Mapping[str, Gram]
) -> dict[str, object]:
    """What a rounded weight depends on: its choice, but for the reason and the bit mask."""
    return {
        "model": plan.model_sha256,
        "version": __version__,
        "weight": name,
        "choice": choice.model_dump(exclude={"reason", "masked"}),
        "gram": identity(grams, name) if choice.rounding == "compensated" else None,
    }


def _changes(plan: Plan) -> list[Change]:
    changes = []
    for name, choice in plan.weights.items():
        if choice.form != "float" or choice.prune_below is not None:
            after = f"{choice.form}, {choice.bits} bits" + (
                ", zeros masked" if choice.masked else ""
            )
            changes.append(done("apply", name, "float", after))
    for name, grid in plan.activations.items():
        changes.append(done("apply", name, "float", f"uint8 in [{grid.low:.6g}, {grid.high:.6g}]"))
    return changes
