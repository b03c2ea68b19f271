"""Graphs put together at random: where units are silent or copies, cutting changes nothing.

The operator table, the solver, the cut, the refit, the checker and ONNX Runtime agree on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from onnxsqueeze.analysis.units import dependencies
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.measure.prune_sums import ROWS_AT_ONCE
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.models import RESIDUAL, build, feed
from tests.passes import cut_images as images
from tests.passes import cut_sequences as sequences
from tests.passes.cut_kinds import KINDS, SEQUENCES, Kind
from tests.passes.cut_text import Text
from tests.passes.cut_without_loss import (
    ROUNDING,
    Start,
    copied,
    largest_difference,
    lost_by_the_cut,
    ready,
    repair,
    silent,
)

EXAMPLES = 2000 if settings.get_current_profile_name() == "full" else 100
REFITTED = 10
"""One graph in so many is refitted, too: that takes longer than the rest."""
MOVED = 8 * ROWS_AT_ONCE * 2**-24
"""Part of a weight's products, as energy, that a repair may miss where a weight without error is.

An error as computed has four terms, of Gram matrices that are float32 sums, and two such errors
are compared. A ridge of λ leaves at most λ/4 of what must change: half of this, for the least
that is tried with one row per feature.
"""


def _check_refit(kind: Kind, start: Start, batch: int) -> None:
    made = repair(start, [feed(one, x=(batch, *kind.dims)) for one in range(10)])
    event(f"refitted: {len(made.moved)}")
    verify(made.model)
    assert all(part <= MOVED for part in made.moved.values()), made.moved
    samples = [feed(x=(batch, *kind.dims))]
    assert largest_difference(start.model, made.model, samples) <= np.sqrt(MOVED)


OF_EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
NUMBERS = st.lists(st.integers(0, 9999), max_size=5).map(lambda numbers: [0, *numbers])
"""Of blocks, of which the first makes units."""


@OF_EACH_KIND
@settings(max_examples=EXAMPLES, deadline=None)
@given(numbers=NUMBERS, seed=st.integers(0, 999))
def test_silent_units_go_without_loss(kind: Kind, numbers: list[int], seed: int) -> None:
    start = silent(kind.model(numbers), kind.dims, seed)
    event(f"groups: {len(start.kept)}")
    assert lost_by_the_cut(start, kind.dims) <= ROUNDING
    if seed % REFITTED == 1:
        _check_refit(kind, start, 8)


@OF_EACH_KIND
@settings(max_examples=EXAMPLES // REFITTED, deadline=None)
@given(numbers=NUMBERS, seed=st.integers(0, 999))
def test_copies_go_without_loss_where_what_reads_them_is_refitted(
    kind: Kind, numbers: list[int], seed: int
) -> None:
    start = copied(kind.model(numbers), kind.dims, seed)
    event(f"groups: {len(start.kept)}")
    assert lost_by_the_cut(start, kind.dims) <= ROUNDING
    _check_refit(kind, start, 64)


def test_parts_of_one_channel_are_no_units_of_one_group() -> None:
    """Three Conv of one channel each, side by side: without its channel a Conv has no output.

    The depthwise Conv that follows has a weight that makes all three and another reads them.
    """
    g = Text((3, 4, 4))
    x, c = images.depthwise(g, *images.single_channels(g, "x", 3))
    model = g.model(g.line(f"Conv ({x}, {g.weight(2, c, 1, 1)})"), 21)
    units = dependencies(model, [measured_shapes(model, feed(x=(2, 3, 4, 4)))]).units
    assert units == ()


def test_heads_and_neurons_are_found() -> None:
    """The features of the stream that both add to are the model's input, so they stay."""
    blocks: list[Any] = [sequences.attention, sequences.neurons]
    model = ready(SEQUENCES.model(list(map(SEQUENCES.blocks.index, blocks))), (4, 5))
    units = dependencies(model, [measured_shapes(model, feed(x=(2, 4, 5)))]).units
    assert sorted(one.count for one in units) == [3, 6]


def test_residual_channels_are_one_group() -> None:
    model = ir.from_proto(build(RESIDUAL))
    (units,) = dependencies(model, [measured_shapes(model, feed(x=(2, 3, 8, 8)))]).units
    assert units.count == 4
    assert {"w1", "w2", "w3"} <= {name for name, _ in units.entries}
