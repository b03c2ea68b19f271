"""Carry out a plan on a model whose weights lie on disk, in the memory of one weight.

Each weight is rounded, put into the graph and moved to a file before the next. Its codes are kept
in the store, too, so that a run that was killed goes on behind the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.graph.mapped import DataFile, release, spill
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes.apply import Applied, changes_of, codes_key, store_left
from onnxsqueeze.passes.insert_blockwise import InsertBlockwisePass
from onnxsqueeze.passes.round_parts import PART_ELEMENTS, codes_in_parts, sqnr_in_parts
from onnxsqueeze.passes.round_weights import Codes, from_arrays, needed
from onnxsqueeze.passes.store_weights import check_fits
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.runtime.memory import release as free

FREED_BYTES = 64 * 1024 * 1024
"""Memory is given back when weights of so many bytes were rounded: it goes through all objects."""


def apply_large(
    plan: Plan,
    model: ir.Model,
    grams: Mapping[str, Gram],
    file: DataFile,
    *,
    store: Store | None = None,
    part: int = PART_ELEMENTS,
    progress: Callable[[int, int], None] | None = None,
) -> Applied:
    """Return a copy of ``model`` with the weights of the plan as it says, and what was done.

    What ``apply`` makes, but that constants which it shares between weights are there for each.
    Forms that need activations (``qdq``, ``dynamic``) are none of this.

    Args:
        plan: Decisions for this very model.
        model: A normalised model, its weights in external data; it stays as it is.
        grams: Gram matrices by weight; needed where the plan says ``compensated``.
        file: Where new weights are moved to; the copy reads them there.
        store: Where rounded weights are kept and found again.
        part: See ``codes_in_parts``.
        progress: Called with (done, all) of the weights.

    Raises:
        PlanError: If the plan does not fit the model.
    """
    values = {value.name: value for _, value in walk.initializers(model)}
    check_fits(plan, plan.weights, values)
    free()  # sessions that measured the model, and what they had laid out
    copy, quality = model.clone(), dict[str, float]()
    coded, held = frozenset(needed(plan.weights)), 0
    for number, (name, choice) in enumerate(plan.weights.items()):
        tensor = values[name].const_value
        assert tensor is not None  # ONNX: an initializer has a value
        every: dict[str, Codes] = {}
        if name in coded:
            made = _codes(plan, name, tensor, grams, store, part)
            quality[name] = sqnr_in_parts(tensor.numpy(), made, choice.axis, part)
            every = {name: made}
        _put(plan.model_copy(update={"weights": {name: choice}}), copy, every)
        release(tensor)
        spill(copy, file)
        del every
        held += tensor.nbytes
        if held >= FREED_BYTES:
            free()
            held = 0
        if progress is not None:
            progress(number + 1, len(plan.weights))
    edit.remove_unused(copy)
    verify(copy)
    return Applied(copy, tuple(changes_of(plan)), quality)


def _codes(
    plan: Plan,
    name: str,
    tensor: ir.TensorProtocol,
    grams: Mapping[str, Gram],
    store: Store | None,
    part: int,
) -> Codes:
    choice = plan.weights[name]
    key = {**codes_key(plan, name, choice, grams), "large": True}
    saved = None if store is None else store.get("codes", key)
    if saved is not None:
        return from_arrays(saved.arrays)
    gram = grams.get(name) if choice.rounding == "compensated" else None
    made = codes_in_parts(tensor.numpy(), choice, gram, part)
    if store is not None:
        store.put("codes", key, {}, made.arrays())
    return made


def _put(plan: Plan, model: ir.Model, every: Mapping[str, Codes]) -> None:
    """Let the nodes that read the plan's one weight read it in its form."""
    if not InsertBlockwisePass(plan, every)(model).modified:
        store_left(plan, model, every)
