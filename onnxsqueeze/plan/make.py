"""From facts and wishes to a plan."""

from __future__ import annotations

from collections.abc import Iterable

from onnxsqueeze.config import Limits, Target, Width
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.numerics.planes import planes
from onnxsqueeze.plan.choose import choose
from onnxsqueeze.plan.types import Plan

INT4_OPSET = 21
"""Cast and DequantizeLinear know 4-bit integers from here on."""


def make_plan(facts: Facts, target: Target, limits: Limits, *, damage_limit: float) -> Plan:
    """Return the smallest plan of weight forms whose expected damages sum to at most a limit.

    Args:
        facts: What was measured.
        target: What the result should be best at.
        limits: What must not be done.
        damage_limit: Relative output error energy, expected from rounding to the nearest; the
            measured damage is smaller where rounding is compensated.
    """
    notes = [f"weights chosen for an expected output error energy of at most {damage_limit:.2g}"]
    if facts.data_sha256 is None:
        notes.append(
            "no samples were given: weights only, rounded to the nearest; activations stay float"
        )
    weights = facts.weights
    if target.portable:  # DequantizeLinear has no scales of columns
        weights = tuple(weight.model_copy(update={"column_gain": 1.0}) for weight in weights)
    return Plan(
        model_sha256=facts.model_sha256,
        portable=target.portable,
        weights=choose(weights, damage_limit, limits),
        notes=tuple(notes),
    )


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
        bits &= {4, 8, 16}
    if not has_data:
        bits = {width for width in bits if width >= 8} or bits
    return tuple(sorted(bits))


def _plane_widths(bits: int) -> tuple[int, ...]:
    cut = planes(bits)
    return (cut.top, *cut.rest)
