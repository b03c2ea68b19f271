"""The curve of damage against saving follows from the measured damage of each weight."""

from __future__ import annotations

import itertools
import math

import pytest

from onnxsqueeze.config import WIDTHS
from onnxsqueeze.numerics.error import at_bits
from onnxsqueeze.report.tradeoff import tradeoff
from tests.report import fixture


def row(count, damage, bits, bytes_after):
    return fixture.weights(1)[0].model_copy(
        update={
            "shape": (count,),
            "bytes_before": 4 * count,
            "bytes_after": bytes_after,
            "bits": bits,
            "damage": damage,
        }
    )


def test_points_are_choices_that_no_other_choice_beats():
    rows = [row(1000, 0.01, 4, 500), row(3000, 0.0005, 8, 3000)]
    widths = [bits for bits in WIDTHS if bits < 16]
    options = [
        [(0.0, 0.0), *((at_bits(one.damage, b), one.bytes_before - math.prod(one.shape) * b / 8)
        for b in widths)]
        for one in rows
    ]  # fmt: skip
    every = [
        (sum(part[0] for part in choice), sum(part[1] for part in choice))
        for choice in itertools.product(*options)
    ]

    found = tradeoff(rows)

    assert len(found.curve) > 5
    for point in found.curve:
        near = [one for one in every if math.isclose(one[1], point.saved_bytes)]
        assert any(math.isclose(one[0], point.damage) for one in near)
        assert not [one for one in every if one[0] < point.damage and one[1] > point.saved_bytes]


def test_chosen_point_is_what_was_written():
    found = tradeoff([row(1000, 0.01, 4, 520), row(3000, 0.0005, 32, 12000)])

    assert found.chosen.saved_bytes == 4000 - 520
    assert found.chosen.damage == 0.01


@pytest.mark.parametrize("damage", [None, 0.0, math.inf, math.nan])
def test_nothing_tried_no_curve(damage):
    assert tradeoff([row(1000, damage, 4, 500)]) is None
