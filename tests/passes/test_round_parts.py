from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.numerics.error import EXACT_DB, sqnr_db
from onnxsqueeze.passes.round_parts import channels_in_parts, codes_in_parts, sqnr_in_parts
from onnxsqueeze.passes.round_weights import Codes, codes
from onnxsqueeze.plan.types import WeightChoice

CHOICES = {
    "blocks": WeightChoice(form="blockwise", bits=4, axis=1, block=16, offset=True, reason=""),
    "no zeros": WeightChoice(form="blockwise", bits=8, axis=0, block=16, reason=""),
    "half-quadratic": WeightChoice(
        form="blockwise", bits=4, axis=1, block=16, rounding="half_quadratic", reason=""
    ),
    "stored": WeightChoice(form="stored", bits=5, axis=0, reason=""),
    "one scale": WeightChoice(form="stored", bits=8, axis=None, reason=""),
    "columns": WeightChoice(form="stored", bits=4, axis=1, columns=True, reason=""),
}


def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((64, 80)).astype(np.float32)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("part", [1, 1000, 10**9])
def test_in_parts_the_codes_are_those_of_the_whole(name: str, part: int) -> None:
    choice, whole = CHOICES[name], weight()

    made, expected = codes_in_parts(whole, choice, None, part), codes(whole, choice, None)

    assert made.arrays().keys() == expected.arrays().keys()
    for kind, array in expected.arrays().items():
        np.testing.assert_array_equal(made.arrays()[kind], array)
        assert made.arrays()[kind].dtype == array.dtype


@pytest.mark.parametrize("name", CHOICES)
def test_in_parts_the_noise_is_that_of_the_whole(name: str) -> None:
    choice, whole = CHOICES[name], weight()
    made = codes(whole, choice, None)

    found = sqnr_in_parts(whole, made, choice.axis, 300)

    # Sums of 5120 float64 squares in another order: n roundings each, of 4.3 dB per unit.
    expected = sqnr_db(whole, made.values(whole.shape, choice.axis))
    assert abs(found - expected) <= 4.35 * 2 * whole.size * 2.0**-52


def test_a_weight_that_is_kept_exactly_has_no_noise() -> None:
    made = Codes(np.array([[3, -4]], np.int8), np.ones((1, 1), np.float32))

    assert sqnr_in_parts(np.array([[3.0, -4.0]]), made, 0) == EXACT_DB


def test_pieces_are_the_channels_in_order() -> None:
    whole = weight()

    pieces = list(channels_in_parts(whole, 1, part=64 * 30))

    assert [piece.shape for piece in pieces] == [(64, 30), (64, 30), (64, 20)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)
