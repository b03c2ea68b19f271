from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.numerics.blocks import ends
from onnxsqueeze.passes.round_weights import codes, from_arrays
from onnxsqueeze.plan.types import WeightChoice

CHANNELS, FEATURES, BLOCK = 12, 64, 16


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def choice(**fields):
    base = {"form": "blockwise", "bits": 4, "block": BLOCK, "axis": 1, "reason": "test"}
    return WeightChoice(**{**base, **fields})


def gram():
    x = drawn(500, 40) @ drawn(40, FEATURES, seed=1) + 0.2 * drawn(500, FEATURES, seed=2)
    return Gram((x.T @ x / len(x))[None], len(x))


def steps(made):
    return np.repeat(np.abs(made.scale), BLOCK, axis=1)


@pytest.mark.parametrize("rounding", ["nearest", "half_quadratic", "compensated"])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_on_the_grid_and_stand_for_the_values(bits, offset, rounding):
    weight = drawn(FEATURES, CHANNELS)
    plan = choice(bits=bits, offset=offset, rounding=rounding)
    made = codes(weight, plan, gram() if rounding == "compensated" else None)

    low, high = ends(bits)
    assert made.rows.shape == (CHANNELS, FEATURES)
    assert made.rows.dtype == np.int8
    assert ((low <= made.rows) & (made.rows <= high)).all()
    assert made.scale.shape == (CHANNELS, FEATURES // BLOCK)
    assert (made.zero is not None) == offset
    zero = np.zeros_like(made.scale) if made.zero is None else made.zero
    above = made.rows.astype(np.float32) - np.repeat(zero, BLOCK, axis=1)
    wanted = above * np.repeat(made.scale, BLOCK, axis=1)
    assert (made.values(weight.shape, 1) == wanted.astype(np.float32).T).all()
    again = from_arrays(made.arrays())
    assert (again.values(weight.shape, 1) == made.values(weight.shape, 1)).all()


@pytest.mark.parametrize("offset", [False, True])
def test_the_nearest_code_is_within_half_a_step_unless_it_is_the_last(offset):
    weight = drawn(FEATURES, CHANNELS)
    made = codes(weight, choice(offset=offset), None)

    away = np.abs(weight.T - made.values(weight.shape, 1).T)
    is_last = np.isin(made.rows, ends(4))
    assert (away <= steps(made) / 2 * (1 + 1e-5))[~is_last].all()
    assert is_last.any()


@pytest.mark.parametrize("offset", [False, True])
def test_compensation_loses_less_of_the_product(offset):
    weight, known = drawn(FEATURES, CHANNELS), gram()

    def lost(rounding):
        made = codes(weight, choice(offset=offset, rounding=rounding), known)
        error = weight.T - made.values(weight.shape, 1).T
        return float(np.einsum("ck,kl,cl->", error, known.matrix[0], error))

    assert lost("compensated") < 0.8 * lost("nearest")


@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
@pytest.mark.parametrize("offset", [False, True])
def test_what_is_pruned_is_exactly_zero(offset, rounding):
    weight = drawn(FEATURES, CHANNELS) + 0.5
    plan = choice(offset=offset, rounding=rounding, prune_below=0.4)
    made = codes(weight, plan, gram() if rounding == "compensated" else None)

    assert not made.values(weight.shape, 1)[np.abs(weight) < 0.4].any()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"block": None}, "form blockwise has blocks of"),
        ({"block": 24}, "form blockwise has blocks of"),
        ({"bits": 6}, "form blockwise has 4 or 8 bits, not 6"),
        ({"axis": None}, "a block needs an axis"),
        ({"form": "stored", "offset": True}, "zero points of blocks go with form blockwise"),
    ],
)
def test_choices_that_cannot_be_carried_out_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        choice(**fields)
