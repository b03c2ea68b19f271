"""The forms that a weight may take, with their bytes and the damage to be expected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from onnxsqueeze.config import Limits
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.numerics.error import at_bits
from onnxsqueeze.numerics.planes import planes
from onnxsqueeze.plan.types import CODE_BITS, MASKED_WIDTHS, Zeros

FLOAT16_LARGEST = 65504.0
NODE_BYTES = 90
"""What one restoring node takes in the file: operator, attributes, and three names."""
MOST_BITS_IN_BLOCKS = 5
"""With more bits than this, more scales cost more bytes than another bit."""
INDEX_BYTES = 8
"""What the place of a value takes in a sparse initializer."""
MASK_NODES = 10
"""Nodes that spread the values that are not zero over the places that a bit mask names."""
MOST_DAMAGE = 1e6
"""Stands for an infinite damage, so that sums of damages can be told apart."""
NEVER_REACHED_BITS = 8
"""A weight that no sample reaches is not stored in fewer bits: nothing was measured about it."""


@dataclass(frozen=True)
class Form:
    """One possible form of one weight.

    Attributes:
        form: As in ``WeightChoice``.
        bits: As in ``WeightChoice``.
        block: As in ``WeightChoice``.
        columns: As in ``WeightChoice``.
        masked: As in ``WeightChoice``.
        size_bytes: What it takes in the file, restoring nodes included.
        damage: Relative output error energy to be expected from this weight alone.
    """

    form: str
    bits: int
    block: int | None
    columns: bool
    masked: bool
    size_bytes: int
    damage: float


def forms(
    weight: WeightFacts, limits: Limits, thinned: float = 0.0, zeros: Zeros = "mask"
) -> tuple[Form, ...]:
    """Return the forms that a weight may take under the limits, smallest first.

    ``float`` is always among them; a form that is no smaller than a less damaging one is left out.

    Args:
        weight: What is known of it.
        limits: What must not be done.
        thinned: Part of its values that becomes zero before it is stored.
        zeros: As in ``Plan``; a weight that gets sparse by pruning is float if sparse initializers
            are asked for.
    """
    if weight.not_finite or limits.is_kept(weight.name, weight.node):
        return (Form("float", 32, None, False, False, weight.count * weight.item_bytes, 0.0),)
    weight = weight.model_copy(update={"zeros": max(weight.zeros, int(thinned * weight.count))})
    if zeros == "initializer" and (thinned or limits.prune_below is not None):
        return (_sparse_initializer(weight),)
    options, widths = [_form(weight, "float", 32, None)], limits.bits_of(weight.operator)
    if 16 in widths and weight.item_bytes > 2 and weight.largest <= FLOAT16_LARGEST:
        options.append(_form(weight, "float16", 16, None))
    for bits in sorted({*widths} - {16, 32}, reverse=True):
        never_reached = weight.damage == 0 and NEVER_REACHED_BITS in widths
        if bits >= NEVER_REACHED_BITS or not never_reached:
            options += [
                _form(weight, "stored", bits, block, columns=columns)
                for block in _blocks(weight, bits)
                for columns in {False, weight.column_gain < 1}
            ]
    return _without_larger(options)


def _without_larger(options: Iterable[Form]) -> tuple[Form, ...]:
    """Return the forms that are smaller than all that damage less, smallest first."""
    smaller: list[Form] = []
    for option in sorted(options, key=lambda option: (option.damage, option.size_bytes)):
        if not smaller or option.size_bytes < smaller[-1].size_bytes:
            smaller.append(option)
    return tuple(reversed(smaller))


def kernel_forms(weight: WeightFacts, limits: Limits, *, portable: bool) -> tuple[Form, ...]:
    """Return the forms of a weight that an integer kernel of 8 bits reads, smallest first.

    They are ``stored`` ones without blocks and scales of columns, which no such kernel has. Their
    damage is what they lose beyond 8 bits, since the kernel has no more.

    Args:
        weight: What is known of it.
        limits: What must not be done.
        portable: Whether codes of fewer bits are stored in 8.
    """
    widths = {8, *limits.bits_of(weight.operator)} & set(CODE_BITS)
    if portable or not weight.damage or weight.not_finite:
        widths = {8}
    found = [_form(weight, "stored", bits, None) for bits in sorted(widths)]
    return _without_larger(replace(one, damage=one.damage - found[-1].damage) for one in found)


def _sparse_initializer(weight: WeightFacts) -> Form:
    """Return float with the zeros left out, or with them where indices take more than they do."""
    dense = weight.count * weight.item_bytes
    some = (weight.count - weight.zeros) * (weight.item_bytes + INDEX_BYTES)
    return Form("float", 32, None, False, some < dense, min(some, dense), 0.0)


def _form(
    weight: WeightFacts, form: str, bits: int, block: int | None, *, columns: bool = False
) -> Form:
    damage = 1.0 if weight.damage is None else weight.damage
    if not damage <= MOST_DAMAGE:  # NaN too
        damage = MOST_DAMAGE
    # float16 keeps 11 bits of each value by itself: its noise lies below that of a 12-bit grid.
    expected = {"float": 0.0, "float16": damage * 4.0**-8.5}.get(form, at_bits(damage, bits))
    if block is not None:
        expected *= weight.block_gain.get(block, 1.0)
    width = 8 * weight.item_bytes if form == "float" else bits
    scales, nodes = 0, 0 if form == "float" else 1
    if form == "stored":
        scales = weight.channels * (weight.features // block if block else 1)
        nodes = _nodes(bits) + (2 if block else 0)
        if columns:
            scales, nodes = scales + weight.features, nodes + 2
            expected *= weight.column_gain
    rest = 2 * scales + nodes * NODE_BYTES
    dense = (weight.count * width + 7) // 8 + rest
    some = (weight.count - weight.zeros) * width
    sparse = (some + weight.count + 7) // 8 + rest + MASK_NODES * NODE_BYTES
    is_masked = sparse < dense and (form != "stored" or bits in MASKED_WIDTHS)
    return Form(form, bits, block, columns, is_masked, sparse if is_masked else dense, expected)


def _nodes(bits: int) -> int:
    """Return the nodes that make values of codes: two casts and a product, and those of planes."""
    cut = planes(bits)
    per_plane = {4: 3, 2: 9, 1: 9}
    return 3 + sum(per_plane[width] for width in cut.rest) + (1 if cut.offset else 0)


def _blocks(weight: WeightFacts, bits: int) -> tuple[int | None, ...]:
    """Return the values per scale that are possible: matrices of few bits may have blocks."""
    if bits > MOST_BITS_IN_BLOCKS:
        return (None,)
    return (None, *weight.block_gain)
