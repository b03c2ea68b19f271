"""From facts and wishes to a plan."""

from __future__ import annotations

from onnxsqueeze.config import Limits, Target
from onnxsqueeze.facts.bundle import Facts
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
    return Plan(
        model_sha256=facts.model_sha256,
        portable=target.portable,
        weights=choose(facts.weights, damage_limit, limits),
        notes=tuple(notes),
    )


def allowed(limits: Limits, opset: int, *, has_data: bool) -> Limits:
    """Return the limits without what this model cannot hold, or nobody could answer for.

    Without samples nothing is known of the damage, so 4 bits are used only if nothing else is
    allowed.

    Example:
        >>> allowed(Limits(), opset=13, has_data=True).bits
        (8, 16)
    """
    bits = limits.bits
    if opset < INT4_OPSET or (not has_data and bits != (4,)):
        bits = tuple(width for width in bits if width != 4)
    return limits.model_copy(update={"bits": bits})
