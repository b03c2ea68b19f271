"""Which form each weight takes, so that the file is smallest for a given damage."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence

from onnxsqueeze.config import Limits
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.numerics.hull import lower_hull, slope
from onnxsqueeze.plan.forms import Form, forms, kernel_forms
from onnxsqueeze.plan.sparsity import Thinning, why_not_thinned
from onnxsqueeze.plan.types import WeightChoice, Zeros


def choose(
    weights: Sequence[WeightFacts],
    damage_limit: float,
    limits: Limits,
    thinned: Mapping[str, Thinning] | None = None,
    zeros: Zeros = "mask",
    kernels: Collection[str] = (),
    *,
    portable: bool = False,
) -> dict[str, WeightChoice]:
    """Return a form for each weight: the fewest bytes for a sum of expected damages.

    All weights start in their smallest form; the step to a milder form that takes most damage
    away per byte is taken until the sum is within the limit. This is the Lagrangian solution on
    the convex hull of each weight's (bytes, damage) points, and off it by at most one step. What
    ``thinned`` weights give up is not part of the damage: it is the same in every form.

    Args:
        weights: What is known of each.
        damage_limit: Most that the expected damages may sum to.
        limits: What must not be done.
        thinned: What becomes zero first, by name.
        zeros: As in ``Plan``.
        kernels: Weights that integer kernels read; they have the width of their codes chosen.
        portable: As in ``Plan``.

    Source:
        Shoham and Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers".
    """
    thinned = thinned or {}
    gone = {name: one.fraction for name, one in thinned.items()}
    options = {
        weight.name: _hull(
            kernel_forms(weight, limits, portable=portable)
            if weight.name in kernels
            else forms(weight, limits, gone.get(weight.name, 0.0), zeros)
        )
        for weight in weights
    }
    taken = dict.fromkeys(options, 0)
    total = sum(option[0].damage for option in options.values())
    steps = [(_rate(option, 0), name) for name, option in options.items() if len(option) > 1]
    heapq.heapify(steps)
    while total > damage_limit and steps:
        _, name = heapq.heappop(steps)
        at = taken[name]
        total += options[name][at + 1].damage - options[name][at].damage
        taken[name] = at + 1
        if at + 2 < len(options[name]):
            heapq.heappush(steps, (_rate(options[name], at + 1), name))
    return {
        weight.name: _choice(
            weight, options[weight.name][taken[weight.name]], limits, thinned.get(weight.name)
        )
        for weight in weights
    }


def _rate(options: Sequence[Form], at: int) -> float:
    """Return minus the damage taken away per byte by the step from option ``at`` to the next."""
    here, there = options[at], options[at + 1]
    return slope((here.size_bytes, here.damage), (there.size_bytes, there.damage))


def _hull(options: Sequence[Form]) -> list[Form]:
    """Return the options on the lower convex hull of (bytes, damage), smallest first."""
    points = [(option.size_bytes, option.damage) for option in options]
    return [options[number] for number in lower_hull(points)]


def _choice(
    weight: WeightFacts, form: Form, limits: Limits, thin: Thinning | None
) -> WeightChoice:
    kept = limits.is_kept(weight.name, weight.node) or weight.not_finite > 0
    below = None if kept or thin is not None else limits.prune_below
    makes_zeros = thin is not None or (below is not None and weight.zeros > 0)
    is_fitted = weight.rows > 0 and (form.form == "stored" or makes_zeros)
    return WeightChoice.model_validate(
        {
            "form": form.form,
            "bits": form.bits,
            "axis": weight.axis if form.form == "stored" or makes_zeros else None,
            "block": form.block,
            "columns": form.columns,
            "rounding": "compensated" if is_fitted else "nearest",
            "prune_below": below,
            **_zeros(thin, limits),
            "masked": form.masked,
            "reason": _reason(weight, form, limits) + _thin_words(weight, form, limits, thin),
        }
    )


def _zeros(thin: Thinning | None, limits: Limits) -> dict[str, object]:
    if thin is None:
        return {}
    amount = {"sparsity": thin.fraction} if thin.pattern is None else {"pattern": thin.pattern}
    return {**amount, "shrink": limits.shrink, "importance": limits.importance}


def _thin_words(weight: WeightFacts, form: Form, limits: Limits, thin: Thinning | None) -> str:
    """Return what a reason adds where a part of the single weights was asked to go."""
    if thin is None:
        why = why_not_thinned(weight, limits) if limits.is_sparse else None
        return "" if why is None else f"; no sparsity: {why}"
    what = thin.pattern or f"{thin.fraction:.0%}"
    loss = f", about {thin.damage:.2g} of the output's energy" if thin.damage else ""
    place = "not stored" if form.masked else "saving no bytes in this form"
    return f"; sparsity {what}{loss}, zeros {place}"


def _reason(weight: WeightFacts, form: Form, limits: Limits) -> str:
    if weight.not_finite:
        return f"holds {weight.not_finite} NaN or infinite values, so it stays as it is"
    if limits.is_kept(weight.name, weight.node):
        return "named by --keep"
    if weight.damage is None:
        return f"{_words(form)} without data: only its own rounding error is known"
    if weight.damage == 0:
        return f"{_words(form)}: no sample reaches it, so nothing is known of its damage"
    return (
        f"{_words(form)}: at 4 bits it alone changes {weight.damage:.2g} of the output's energy, "
        f"in this form about {form.damage:.2g}, for {form.size_bytes} of "
        f"{weight.count * weight.item_bytes} bytes"
    )


def _words(form: Form) -> str:
    if form.form == "stored":
        return f"{form.bits}-bit stored"
    return {"float": "kept in float", "float16": "float16 stored"}[form.form]


def changes_file(choice: WeightChoice) -> bool:
    """Return whether a choice stores its weight in another way than as it came.

    Example:
        >>> changes_file(WeightChoice(form="float", bits=32, reason=""))
        False
        >>> changes_file(WeightChoice(form="float", bits=32, masked=True, reason=""))
        True
    """
    return choice.form != "float" or choice.masked


def counts(choices: Mapping[str, WeightChoice]) -> dict[str, int]:
    """Return how many weights take each form.

    Example:
        >>> counts({"w": WeightChoice(form="stored", bits=8, reason="")})
        {'stored 8': 1}
    """
    found: dict[str, int] = {}
    for choice in choices.values():
        name = f"{choice.form} {choice.bits}" if choice.form == "stored" else choice.form
        found[name] = found.get(name, 0) + 1
    return found
