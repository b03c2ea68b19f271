"""Which form each weight takes, so that the file is smallest for a given damage."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from onnxsqueeze.config import Limits
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.plan.forms import Form, forms
from onnxsqueeze.plan.types import WeightChoice


def choose(
    weights: Sequence[WeightFacts], damage_limit: float, limits: Limits
) -> dict[str, WeightChoice]:
    """Return a form for each weight: the fewest bytes for a sum of expected damages.

    All weights start in their smallest form; the step to a milder form that takes most damage
    away per byte is taken until the sum is within the limit. This is the Lagrangian solution on
    the convex hull of each weight's (bytes, damage) points, and off it by at most one step.

    Source:
        Shoham and Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers".
    """
    options = {weight.name: _hull(forms(weight, limits)) for weight in weights}
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
        weight.name: _choice(weight, options[weight.name][taken[weight.name]], limits)
        for weight in weights
    }


def _rate(options: Sequence[Form], at: int) -> float:
    """Return minus the damage taken away per byte by the step from option ``at`` to the next."""
    here, there = options[at], options[at + 1]
    return -(here.damage - there.damage) / (there.size_bytes - here.size_bytes)


def _hull(options: Sequence[Form]) -> list[Form]:
    """Return the options on the lower convex hull of (bytes, damage), smallest first."""
    hull: list[Form] = []
    for option in options:
        while len(hull) >= 2 and _rate([hull[-2], option], 0) <= _rate([hull[-2], hull[-1]], 0):
            hull.pop()
        hull.append(option)
    return hull


def _choice(weight: WeightFacts, form: Form, limits: Limits) -> WeightChoice:
    kept = limits.is_kept(weight.name, weight.node)
    return WeightChoice.model_validate(
        {
            "form": form.form,
            "bits": form.bits,
            "axis": weight.axis if form.form == "stored" else None,
            "block": form.block,
            "columns": form.columns,
            "rounding": "compensated" if form.form == "stored" and weight.rows else "nearest",
            "prune_below": None if kept or weight.not_finite else limits.prune_below,
            "masked": form.masked,
            "reason": _reason(weight, form, limits),
        }
    )


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
