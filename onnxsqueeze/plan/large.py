"""The plan of a model that is too large to be tried often: products in blocks of 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxsqueeze.config import Limits, Target
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.numerics.blocks import USUAL, block_within
from onnxsqueeze.plan.make import make_plan
from onnxsqueeze.plan.types import Plan, WeightChoice

BLOCK_WIDTHS = (4, 8)
FINE = {**USUAL, 4: 32}
"""Values per scale by bits where latency is not all: of 4 bits, more scales cost less per dB than
8 bits would."""
OFFSET_BITS = 4
"""Blocks of so many bits have zero points: half a bit more, and about 1 dB."""
SPARED_SHARE = 0.002
"""Part of the weights' bytes that stay float, smallest lookups first: tables of positions, which
every layer reads, would save next to nothing."""

LARGE_NOTE = (
    "the model is large: its weights were rounded one by one, and not each was tried by itself"
)
NO_DATA_NOTE = (
    "no samples were given: weights only, to the nearest code of grids with the least squared "
    "error; what that does to real inputs is not known, so no budget was held (--max-drop holds "
    "one on random inputs)"
)


@dataclass(frozen=True)
class Blocks:
    """Which weights a kernel reads in blocks: axis of channels, and features, by name."""

    axes: Mapping[str, int]
    features: Mapping[str, int]


def large_plan(
    facts: Facts,
    target: Target,
    limits: Limits,
    blocks: Blocks,
    milder: frozenset[str] = frozenset(),
) -> Plan:
    """Return the plan with the fewest bits per weight, but for the ``milder`` ones.

    Weights that no kernel reads in blocks are stored in the smallest form that the limits allow.

    Args:
        facts: What was measured.
        target: Where the result will run.
        limits: What must not be done.
        blocks: The weights that can be kept in blocks.
        milder: Those that take the most bits that a block may have.
    """
    base = make_plan(facts, target, limits, damage_limit=float("inf"))
    choices = dict(base.weights)
    spared = _spared(facts.weights)
    sizes = USUAL if target.objective == "latency" else FINE
    for weight in facts.weights:
        choice = _in_blocks(weight, limits, blocks, weight.name in milder, sizes)
        if weight.name in spared and choices[weight.name].form != "float":
            reason = "a table too small to save anything beside the others"
            choice = WeightChoice(form="float", bits=32, reason=reason)
        if choice is not None:
            choices[weight.name] = choice
    notes = (LARGE_NOTE, *([NO_DATA_NOTE] if facts.data_sha256 is None else []))
    return base.model_copy(update={"weights": choices, "notes": notes})


def ranked(facts: Facts, limits: Limits, blocks: Blocks) -> tuple[str, ...]:
    """Return the weights that may take more bits, those first that lose most per byte."""
    spared = _spared(facts.weights)
    able: Sequence[WeightFacts] = [
        weight
        for weight in facts.weights
        if weight.name not in spared
        and len(_widths(weight, limits)) > 1
        and _in_blocks(weight, limits, blocks)
    ]

    def loses(weight: WeightFacts) -> float:
        return (1.0 if weight.damage is None else weight.damage) / weight.count

    return tuple(weight.name for weight in sorted(able, key=loses, reverse=True))


def _spared(weights: Sequence[WeightFacts]) -> frozenset[str]:
    """Return the smallest tables that rows are looked up in, up to ``SPARED_SHARE`` of all."""
    left = SPARED_SHARE * sum(weight.count * weight.item_bytes for weight in weights)
    found = set[str]()
    tables = (weight for weight in weights if weight.role == "lookup")
    for weight in sorted(tables, key=lambda one: one.count):
        left -= weight.count * weight.item_bytes
        if left < 0:
            break
        found.add(weight.name)
    return frozenset(found)


def _widths(weight: WeightFacts, limits: Limits) -> tuple[int, ...]:
    return tuple(sorted(set(limits.bits_of(weight.operator)).intersection(BLOCK_WIDTHS)))


def _in_blocks(
    weight: WeightFacts,
    limits: Limits,
    blocks: Blocks,
    is_milder: bool = False,
    sizes: Mapping[int, int] = FINE,
) -> WeightChoice | None:
    """Return the choice of a weight that can be kept in blocks; None for others."""
    widths = _widths(weight, limits)
    kept = limits.is_kept(weight.name, weight.node) or weight.not_finite > 0
    if kept or not widths or weight.name not in blocks.axes:
        return None
    bits = widths[-1] if is_milder else widths[0]
    block = block_within(blocks.features[weight.name], sizes[bits])
    if block is None:
        return None
    return WeightChoice.model_validate(
        {
            "form": "blockwise",
            "bits": bits,
            "axis": blocks.axes[weight.name],
            "block": block,
            "offset": bits == OFFSET_BITS,
            "rounding": "compensated" if weight.rows else "nearest",
            "reason": f"a kernel reads it as it is, {bits} bits with a scale per {block} values",
        }
    )
