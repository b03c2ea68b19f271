"""The blocks of the generated graphs: each row with ties is in one, and lets units through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from onnxsqueeze.ops import OP_TABLE, row_of
from onnxsqueeze.ops.row import Row
from tests.passes.cut_kinds import KINDS, Kind
from tests.passes.cut_without_loss import ROUNDING, lost_by_the_cut, silent

IN_NO_BLOCK = {
    "QuantizeLinear": "what holds integers stays as it is",
    "DequantizeLinear": "what holds integers stays as it is",
}
KEEPS = {
    "_shuffled": "of six channels as two by three the pairs go on, not the threes",
    "_centred": "the channels' mean is of all of them",
    "_gathered": "channels by number",
    "_local": "neighbouring channels divide each other",
    "_group_normalised": "the channels of a group are normalized together",
    "_layer_normalised": "features are normalized together",
}
"""Blocks that keep all channels or features that they read."""

EVERY = [(kind, name, number) for kind in KINDS for name, number in kind.every_block()]


def _rows() -> Iterator[Row]:
    for kind, _, number in EVERY:
        yield from filter(None, map(row_of, kind.model([0, number]).graph))


def _named(row: Row) -> str:
    return f"{row.op_type}-{row.since}"


def test_every_row_with_ties_is_in_a_block() -> None:
    in_blocks = set(map(_named, _rows()))
    tied = [row for row in OP_TABLE if row.ties is not None]
    assert {row.op_type for row in tied if _named(row) not in in_blocks} == IN_NO_BLOCK.keys()


@pytest.mark.parametrize(
    ("kind", "name", "number"), EVERY, ids=lambda one: getattr(one, "name", str(one))
)
def test_units_go_through_a_block_or_it_says_why_not(kind: Kind, name: str, number: int) -> None:
    """Those that the block before it makes, and the block behind it reads."""
    start = silent(kind.model([0, number, 0]), kind.dims, seed=0, part=1)
    places = {place for one in start.units for place in one.entries}
    made = ("w0", 0 if len(kind.dims) == 3 else 1)
    assert (made in places) == (name not in KEEPS)
    assert lost_by_the_cut(start, kind.dims) <= ROUNDING
