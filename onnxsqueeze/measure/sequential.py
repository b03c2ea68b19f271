"""Rounding in the order of the graph: each weight makes up for what those before it have done.

Rounded each by itself, weights are fitted to inputs that they never see: all before them was
rounded, too. Here they are walked through in the order of the graph. The model with all weights
so far compressed runs beside the original (measure/streams.py), and a weight becomes the one that
gives the original's outputs from the inputs that it will really have:

* the target is ``W* = W + W·E[(x − z) zᵀ]·(E[z zᵀ] + λI)⁻¹``, and it is rounded with compensation;
* a bias takes the mean that is still missing, ``b + E[W x] − E[Ŵ z]``, and the moments above are
  then those about the means.

Source:
    Rounding on inputs as the layers before have made them: Frantar et al. 2023, GPTQ
    (arXiv:2210.17323). The target is the asymmetric reconstruction of Nagel et al. 2020, AdaRound
    (arXiv:2004.10568), in closed form; the bias is corrected as in Nagel et al. 2019
    (arXiv:1906.04721), with measured means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze import __version__
from onnxsqueeze.analysis.weights import Weight, weights
from onnxsqueeze.facts.grams import Gram, identity
from onnxsqueeze.facts.store import Fact, Key, Store
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.measure.grams import Samples
from onnxsqueeze.measure.refine import correctable, missing, read_in, refined
from onnxsqueeze.measure.steps import Step, steps, taken
from onnxsqueeze.measure.streams import Stream, Streams, streams
from onnxsqueeze.passes.apply import carried_out, rounded
from onnxsqueeze.passes.round_weights import Codes, from_arrays, needed
from onnxsqueeze.plan.types import INTEGER_FORMS, Plan
from onnxsqueeze.progress import tell_of_part
from onnxsqueeze.runtime.shapes import Shape

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Refined:
    """What ``apply`` takes beside the plan.

    Attributes:
        codes: Codes of every weight that the plan keeps as integers, by name.
        biases: New values of initializers that are added to products, by name.
    """

    codes: Mapping[str, Codes]
    biases: Mapping[str, Array]


def sequential(
    plan: Plan,
    model: ir.Model,
    grams: Mapping[str, Gram],
    samples: Samples,
    shapes: Mapping[str, Shape],
    *,
    store: Store,
    key: Key,
    seed: int = 0,
    bias_correction: bool = True,
    shift: bool = True,
    scores: Mapping[str, Array] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Refined:
    """Return the plan's codes, each fitted to inputs as they are with all before it compressed.

    Weights that the plan rounds ``compensated`` are refined; the others are rounded as ``apply``
    rounds them. A bias is corrected where it is a constant vector that one product alone adds.

    Args:
        plan: Decisions for this very model.
        model: A normalised model; it stays as it is.
        grams: Gram matrices of the original's inputs; weights that have none are not refined.
        samples: Feeds.
        shapes: Measured shape of every tensor.
        store: Where the result is kept, or found.
        key: What makes model and samples what they are.
        seed: Seed of the choice of rows.
        bias_correction: Whether biases are corrected.
        shift: Whether targets make up for changed inputs.
        scores: What single weights are worth, by name, where their choice says so.
        progress: Called with (done, all) of samples times steps.

    Raises:
        PlanError: If the plan does not fit the model.
    """
    whole = {
        **key,
        "version": __version__,
        "plan": plan.model_dump(mode="json", exclude={"notes"}),
        "grams": sorted({identity(grams, name) or "" for name in plan.weights}),
        "seed": seed,
        "bias correction": bias_correction,
        "shift": shift,
    }
    saved = store.get("sequential", whole)
    if saved is not None:
        return _from_record(saved)
    found = [one for one in weights(model)[0] if _is_refined(plan, one, grams)]
    names = {one.name for one in found}
    others = {name: one for name, one in plan.weights.items() if name not in names}
    alone = plan.model_copy(update={"weights": others})
    work = _Work(plan, model, rounded(alone, model, grams, scores=scores, store=store))
    work.scores = scores or {}
    if bias_correction:
        work.correctable = correctable(model)
    every = steps(plan, model, found, shapes)
    _walk(work, every, taken(samples, every, shapes), seed, shift, progress)
    _save(store, whole, work.made, work.biases)
    return Refined(work.made, work.biases)


def _is_refined(plan: Plan, weight: Weight, grams: Mapping[str, Gram]) -> bool:
    choice = plan.weights.get(weight.name)
    if choice is None or weight.linear is None or weight.name not in grams:
        return False
    return choice.rounding == "compensated" and weight.name in needed({weight.name: choice})


@dataclass
class _Work:
    """The walk so far: codes and biases by name, and the model with them in floats."""

    plan: Plan
    model: ir.Model
    made: dict[str, Codes]
    biases: dict[str, Array] = field(default_factory=dict)
    correctable: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._floats = self.model.clone()
        self._values = {str(value.name): value for _, value in walk.initializers(self._floats)}
        for name in self.made:
            self._set(name)

    def _set(self, name: str) -> Array:
        value, choice = self._values[name], self.plan.weights[name]
        assert value.const_value is not None  # ONNX: an initializer has a value
        old = value.const_value.numpy()
        now = self.made[name].values(old.shape, choice.axis)
        if choice.form not in INTEGER_FORMS:
            edit.set_value(value, now.astype(old.dtype))
        return now

    def so_far(self) -> ir.Model:
        """Return the model with all weights so far as they will be, integer kernels included."""
        integers = {
            name: choice
            for name, choice in self.plan.weights.items()
            if name in self.made and choice.form in INTEGER_FORMS
        }
        if not integers:
            return self._floats
        plan = self.plan.model_copy(update={"weights": integers})
        return carried_out(plan, self._floats, self.made)

    def refine(self, weight: Weight, seen: Streams, *, shift: bool) -> None:
        """Add a weight's codes, and its bias."""
        choice, bias = self.plan.weights[weight.name], self.correctable.get(weight.name)
        fitted_to = seen if bias is None else seen.centred()
        scores = self.scores.get(weight.name)
        self.made[weight.name] = refined(weight, choice, fitted_to, shift=shift, scores=scores)
        now = self._set(weight.name)
        if bias is not None:
            value = self._values[bias]
            assert value.const_value is not None  # ONNX: an initializer has a value
            old = value.const_value.numpy()
            lacking = missing(weight, now, seen).reshape(old.shape)
            self.biases[bias] = (old + lacking).astype(old.dtype)
            edit.set_value(value, self.biases[bias])


def _walk(
    work: _Work,
    every: Sequence[Step],
    samples: Samples,
    seed: int,
    shift: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    before, after = Stream(samples), Stream(samples)
    for number, step in enumerate(every):
        changed = work.so_far()
        moments = streams(
            (before, work.model),
            (after, changed),
            [read_in(changed, work.plan, job) for job in step.jobs],
            step.kept,
            seed=seed,
            step=partial(tell_of_part, progress, number * len(samples), len(every) * len(samples)),
        )
        for job, seen in zip(step.jobs, moments, strict=True):
            for weight in job.weights:
                work.refine(weight, seen, shift=shift)


def _save(store: Store, key: Key, made: Mapping[str, Codes], biases: Mapping[str, Array]) -> None:
    arrays = {
        f"{index}.{kind}": array
        for index, one in enumerate(made.values())
        for kind, array in one.arrays().items()
    }
    arrays |= {f"bias.{index}": bias for index, bias in enumerate(biases.values())}
    store.put("sequential", key, {"weights": list(made), "biases": list(biases)}, arrays)


def _from_record(saved: Fact) -> Refined:
    made: dict[str, dict[str, Array]] = {name: {} for name in saved.values["weights"]}
    for index, name in enumerate(made):
        for kind in ("rows", "scale", "column", "zero"):
            if f"{index}.{kind}" in saved.arrays:
                made[name][kind] = saved.arrays[f"{index}.{kind}"]
    biases = {
        name: np.asarray(saved.arrays[f"bias.{index}"])
        for index, name in enumerate(saved.values["biases"])
    }
    return Refined({name: from_arrays(one) for name, one in made.items()}, biases)
