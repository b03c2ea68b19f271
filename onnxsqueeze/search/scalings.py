"""Trials again with axes scaled before rounding, kept where held-out samples are the better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxsqueeze.measure.ranges import compared_ranges, ranges
from onnxsqueeze.measure.scalings import scalings
from onnxsqueeze.passes.scale_axes import scale_axes
from onnxsqueeze.plan.grids import GridEnds, all_grid_ends
from onnxsqueeze.plan.types import INTEGER_FORMS, ActivationChoice, Plan, ScalingChoice
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.trial import Search, Trial, gained, loses_less


@dataclass(frozen=True)
class Evening:
    """Scalings that plans with the same kernels, or fewer of them, can have.

    Attributes:
        scalings: By the tensor that is scaled.
        readers: By the same, the weights that read it.
        grids: By the same, the ends of grids with it.
        inserted: By the same, what its readers read where a product was put in.
    """

    scalings: Mapping[str, ScalingChoice] = field(default_factory=dict)
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    grids: Mapping[str, Mapping[str, GridEnds]] = field(default_factory=dict)
    inserted: Mapping[str, str] = field(default_factory=dict)

    def on(self, plan: Plan) -> Plan:
        """Return the plan with the scalings that fit it, and with grids of what is scaled.

        A product is put in only where all that reads it are integer kernels.
        """
        kernels = {name for name, one in plan.weights.items() if one.form in INTEGER_FORMS}
        chosen = {
            name: choice
            for name, choice in self.scalings.items()
            if not choice.inserted or kernels.issuperset(self.readers[name])
        }
        if not chosen:
            return plan
        grids = dict(plan.activations)
        for name in chosen:
            grids |= self._grids(name, plan.activations)
            if name in self.inserted:
                grids.pop(name, None)  # its readers were all that needed it
        note = f"{len(chosen)} axes scaled between what makes and what reads them"
        update = {"scalings": chosen, "activations": grids, "notes": (*plan.notes, note)}
        return plan.model_copy(update=update)

    def _grids(
        self, name: str, before: Mapping[str, ActivationChoice]
    ) -> dict[str, ActivationChoice]:
        """Return the grids that a scaling changes; tensors that share one share the wider."""
        if name in self.inserted:
            ends = self.grids[name].get(self.inserted[name])
            if name not in before or ends is None:
                return {}
            return {self.inserted[name]: _moved(before[name], [ends])}
        found = {tensor: ends for tensor, ends in self.grids[name].items() if tensor in before}
        return {
            tensor: _moved(
                before[tensor],
                [
                    ends
                    for other, ends in found.items()
                    if (before[other].low, before[other].high)
                    == (before[tensor].low, before[tensor].high)
                ],
            )
            for tensor in found
        }


def _moved(before: ActivationChoice, ends: list[GridEnds]) -> ActivationChoice:
    low, high = min(one.ends[0] for one in ends), max(one.ends[1] for one in ends)
    return before.model_copy(update={"low": low, "high": high})


def evening(search: Search, plan: Plan, progress: Progress | None = None) -> Evening:
    """Return scalings for the plan's kernels, chosen by what their layers lose.

    There are none for effort ``quick``, and without samples.

    Args:
        search: The search.
        plan: A plan without scalings.
        progress: Called with (stage, done, all).
    """
    tell, facts = progress or silent, search.facts
    if search.limits.effort == "quick" or facts.data_sha256 is None:
        return Evening()
    chosen = scalings(
        plan,
        search.model,
        search.samples,
        facts.shapes,
        seed=search.budget.seed,
        progress=lambda done, total: tell("scaling of axes", done, total),
    )
    if not chosen:
        return Evening()
    scaled = plan.model_copy(update={"scalings": chosen})
    made = scale_axes(scaled, search.model, facts.shapes, facts.grams)
    tensors = {
        name: [one for one in made.tensors.get(name, ()) if one in plan.activations]
        for name in chosen
    }
    for name, new in made.inserted.items():
        tensors[name] = [new] if name in plan.activations else []
    names = [one for several in tensors.values() for one in several]
    measure = compared_ranges if search.target.calibration == "auto" else ranges
    seen = measure(made.model, search.samples, names)
    ends = all_grid_ends(seen, search.target.calibration)
    grids = {
        name: {one: ends[one] for one in several if one in ends}
        for name, several in tensors.items()
    }
    return Evening(chosen, made.readers, grids, made.inserted)


def helpful(search: Search, plan: Plan, level: int, progress: Progress | None = None) -> Evening:
    """Return the plan's evening if less is lost with it on held-out samples, or an empty one.

    Args:
        search: The search.
        plan: A plan without scalings.
        level: How mild it is.
        progress: Called with (stage, done, all).
    """
    found = evening(search, plan, progress)
    if not found.scalings:
        return found
    without, scaled = (search.trial(one, level, progress) for one in (plan, found.on(plan)))
    return found if loses_less(scaled.fidelity, without.fidelity) else Evening()


def evened(search: Search, found: Trial, progress: Progress | None = None) -> Trial:
    """Return ``found`` with axes scaled before rounding, if less is lost by that.

    Args:
        search: The search.
        found: A trial; what has scalings already stays as it is.
        progress: Called with (stage, done, all).
    """
    if found.plan.scalings:
        return found
    plan = evening(search, found.plan, progress).on(found.plan)
    if not plan.scalings:
        return found
    return gained(search, found, plan, progress)
