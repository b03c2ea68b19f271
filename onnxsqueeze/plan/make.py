"""From facts and wishes to a plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from onnxsqueeze.config import Limits, Target, Width
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.numerics.grid import SIGNED_BITS
from onnxsqueeze.numerics.planes import planes
from onnxsqueeze.plan.choose import choose
from onnxsqueeze.plan.providers import options_note, why_no_integers
from onnxsqueeze.plan.sparsity import Thinning, thinnings, why_not_thinned
from onnxsqueeze.plan.types import Plan, WeightChoice, Zeros

INT4_OPSET = 21
"""Cast and DequantizeLinear know 4-bit integers from here on."""

HALF_QUADRATIC_NOTE = (
    "without samples, weights of few bits have the grid with the fewest large errors of the "
    "weights themselves (half-quadratic); nothing is known of what that does to real inputs, nor "
    "made up for: with samples they are, and the loss is measured"
)
SPARSE_NOTE = (
    "pruned weights are standard sparse initializers: each value that is left takes 8 bytes more "
    "for its index, so they are smaller from two thirds zeros on (float32), and dense otherwise; "
    "the engine makes them dense while it loads, which takes longer, and shape inference, version "
    "converters and onnx_ir do not read them"
)


def make_plan(
    facts: Facts,
    target: Target,
    limits: Limits,
    *,
    damage_limit: float,
    share: float = 1.0,
    kernels: Collection[str] = (),
) -> Plan:
    """Return the smallest plan of weight forms whose expected damages sum to at most a limit.

    Args:
        facts: What was measured.
        target: What the result should be best at.
        limits: What must not be done.
        damage_limit: Relative output error energy, expected from rounding to the nearest; the
            measured damage is smaller where rounding is compensated.
        share: Part of the sparsity asked for that is carried out.
        kernels: Weights that integer kernels will read: only the widths of their codes are chosen.
    """
    notes = [f"weights chosen for an expected output error energy of at most {damage_limit:.2g}"]
    if facts.data_sha256 is None:
        notes.append(
            "no samples were given: weights only, rounded to the nearest; activations stay float"
        )
    if target.objective != "size" and (why := why_no_integers(target.provider)):
        notes.append(f"no integer kernels for {target.provider}: {why}")
    if note := options_note(target.provider):
        notes.append(note)
    weights = facts.weights
    if target.portable:  # DequantizeLinear has no scales of columns
        weights = tuple(weight.model_copy(update={"column_gain": 1.0}) for weight in weights)
    zeros: Zeros = "initializer" if target.sparse_initializer else "mask"
    if zeros == "initializer":
        notes.append(SPARSE_NOTE)
    thinned = thinnings(weights, limits, share)
    if limits.is_sparse:
        notes.append(_sparsity_note(weights, limits, thinned, share))
    choices = choose(
        weights, damage_limit, limits, thinned, zeros, kernels, portable=target.portable
    )
    if facts.data_sha256 is None:
        choices = _without_data(choices)
        if any(one.rounding == "half_quadratic" for one in choices.values()):
            notes.append(HALF_QUADRATIC_NOTE)
    return Plan(
        model_sha256=facts.model_sha256,
        portable=target.portable,
        operators=target.operators,
        zeros=zeros,
        weights=choices,
        notes=tuple(notes),
    )


def _without_data(choices: Mapping[str, WeightChoice]) -> dict[str, WeightChoice]:
    """Return the choices with grids of few bits fitted to the weights themselves."""
    return {
        name: one.model_copy(update={"rounding": "half_quadratic"})
        if one.form == "stored" and one.bits <= SIGNED_BITS
        else one
        for name, one in choices.items()
    }


def _sparsity_note(
    weights: Sequence[WeightFacts],
    limits: Limits,
    thinned: Mapping[str, Thinning],
    share: float,
) -> str:
    counts = {weight.name: weight.count for weight in weights}
    gone = sum(one.fraction * counts[name] for name, one in thinned.items())
    able = sum(w.count for w in weights if why_not_thinned(w, limits) is None)
    wanted = limits.pattern or f"{limits.sparsity:.0%}"
    said = (
        f"sparsity {wanted} was asked for: {gone / max(able, 1):.1%} of the weights of products "
        f"become zero, {gone / max(sum(counts.values()), 1):.1%} of all"
    )
    return said if share >= 1 else f"{said}; more does not keep to the budget"


def allowed(limits: Limits, opset: int, *, has_data: bool, portable: bool) -> Limits:
    """Return the limits without what this model cannot hold, or nobody could answer for.

    Without samples nothing is known of the damage, so less than 8 bits are used only if nothing
    else is allowed. DequantizeLinear, the portable spelling, knows 4 and 8 bits.

    Example:
        >>> allowed(Limits(), opset=13, has_data=True, portable=False).bits
        (2, 3, 8, 10, 16)
    """

    def left(widths: Iterable[Width]) -> tuple[Width, ...]:
        return _possible(widths, opset, has_data=has_data, portable=portable)

    by_operator = {name: left(widths) for name, widths in limits.operator_bits.items()}
    return limits.model_copy(update={"bits": left(limits.bits), "operator_bits": by_operator})


def check_operators(limits: Limits, operators: Iterable[str]) -> None:
    """Raise PlanError for widths of an operator that reads no weight: a typo would lose them.

    Args:
        limits: What the user asked for.
        operators: Those that read the model's weights.

    Raises:
        PlanError: Naming the operators that do.
    """
    there = set(operators)
    for name in sorted(limits.operator_bits.keys() - there):
        raise PlanError(
            f"bits are given for operator {name!r}, and it reads no weight of the cleaned model\n"
            f"  Operators that do: {', '.join(sorted(there)) or 'none'}."
        )


def _possible(
    widths: Iterable[Width], opset: int, *, has_data: bool, portable: bool
) -> tuple[Width, ...]:
    bits = set(widths)
    if opset < INT4_OPSET:
        bits -= {width for width in bits if width < 16 and 4 in _plane_widths(width)}
    if portable:
        bits &= {4, 8, 16, 32}
    if not has_data:
        bits = {width for width in bits if width >= 8} or bits
    return tuple(sorted(bits))


def _plane_widths(bits: int) -> tuple[int, ...]:
    cut = planes(bits)
    return (cut.top, *cut.rest)
