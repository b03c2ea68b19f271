from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.numerics.grid import (
    as_rows,
    from_grid,
    max_scale,
    mse_scale,
    to_bfloat16,
    to_grid,
)
from onnxsqueeze.numerics.rounding import compensated, damped, descended
from onnxsqueeze.passes.round_weights import codes, factors, from_arrays, needed, pruned
from onnxsqueeze.plan.types import WeightChoice
from tests.runtime.made import random


def choice(form="stored", bits=8, **fields):
    return WeightChoice(form=form, bits=bits, reason="test", **fields)


def gram(features, groups=1, rows=500, seed=0):
    x = np.random.default_rng(seed).normal(size=(groups, rows, features))
    x += np.random.default_rng(seed + 1).normal(size=(groups, rows, 1))
    return Gram((x.transpose(0, 2, 1) @ x / rows).astype(np.float32), rows)


def test_magnitudes_under_the_threshold_become_zero_and_the_type_stays():
    w = np.array([0.1, -0.1, 0.09, -0.05, 0.0], np.float16)
    assert pruned(w, 0.1).dtype == np.float16
    np.testing.assert_array_equal(pruned(w, float(w[0])), w * [1, 1, 0, 0, 0])
    assert pruned(w, None) is w


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8, 10, 12])
def test_stored_weights_are_the_nearest_values_on_bfloat16_scales(axis, bits):
    w = random(12, 20)
    found = codes(w, choice(bits=bits, axis=axis), None)
    np.testing.assert_array_equal(found.scale, found.scale.astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(found.rows, to_grid(as_rows(w, axis), found.scale, bits))
    back = found.values(w.shape, axis)
    assert back.shape == w.shape
    np.testing.assert_array_equal(as_rows(back, axis), from_grid(found.rows, found.scale))


def test_eight_bits_without_data_cut_nothing_off_and_four_do():
    w = random(4, 64)
    full = max_scale(w, 8)
    scale = codes(w, choice(form="qdq", axis=0), None).scale
    np.testing.assert_array_equal(scale, full)
    found = codes(w, choice(bits=4, axis=0), None).scale
    np.testing.assert_array_equal(found, to_bfloat16(mse_scale(w, 4)))
    assert (found < max_scale(w, 4)).any()


def test_blocks_have_their_own_scales():
    w = random(64, 6)
    found = codes(w, choice(bits=4, axis=1, block=16), None)
    assert (found.rows.shape, found.scale.shape) == ((6, 64), (6, 4))


def test_compensated_rounding_uses_the_gram_matrix():
    w, seen = random(24, 10), gram(24)
    planned = choice(bits=4, axis=1, rounding="compensated")
    found = codes(w, planned, seen)
    hessian = damped(seen.matrix[0].astype(np.float64), seen.rows)
    first = compensated(w.T, hessian, found.scale, 4)
    expected = descended(first, w.T, hessian, found.scale, 4)
    np.testing.assert_array_equal(found.rows, expected)
    nearest = codes(w, choice(bits=4, axis=1), seen)
    errors = [
        np.einsum("kr,kl,lr->", w - c.values(w.shape, 1), hessian, w - c.values(w.shape, 1))
        for c in (found, nearest)
    ]
    assert errors[0] < errors[1]


def test_each_group_has_its_own_gram_matrix():
    w, seen = random(8, 3, 2, 2), gram(12, groups=2)
    planned = choice(bits=4, axis=0, rounding="compensated")
    found = codes(w, planned, seen)
    for group in range(2):
        part = slice(4 * group, 4 * group + 4)
        alone = codes(w[part], planned, Gram(seen.matrix[group : group + 1], seen.rows))
        np.testing.assert_array_equal(found.rows[part], alone.rows)
        np.testing.assert_array_equal(found.scale[part], alone.scale)


def test_compensated_without_a_gram_matrix_is_nearest():
    w = random(8, 8)
    found = codes(w, choice(axis=0, rounding="compensated"), None)
    np.testing.assert_array_equal(found.rows, codes(w, choice(axis=0), None).rows)


@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
def test_pruned_values_have_code_zero(rounding):
    w = random(24, 10)
    planned = choice(bits=4, axis=1, rounding=rounding, prune_below=0.5)
    back = codes(w, planned, gram(24)).values(w.shape, 1)
    assert (back[np.abs(w) < 0.5] == 0).all()
    assert np.count_nonzero(back) > 0


def test_half_weights_are_rounded_as_their_float32_values():
    w = random(8, 16).astype(np.float16)
    a, b = codes(w, choice(axis=0), None), codes(w.astype(np.float32), choice(axis=0), None)
    np.testing.assert_array_equal(a.rows, b.rows)
    np.testing.assert_array_equal(a.scale, b.scale)


def uneven(*shape, seed=0):
    """Weights with a size of its own for each column of axis 0."""
    sizes = np.exp(1.5 * np.random.default_rng(seed + 9).standard_normal(shape[1:]))
    return random(*shape, seed=seed) * sizes.astype(np.float32)


def lost(w, found, axis, seen):
    """``Σ (w − ŵ) H (w − ŵ)ᵀ`` over all groups, in float64; without H the sum of squares."""
    error = as_rows(w, axis) - as_rows(found.values(w.shape, axis), axis).astype(np.float64)
    if seen is None:
        return np.square(error).sum()
    parts = error.reshape(len(seen.matrix), -1, error.shape[1])
    return np.einsum("grk,gkl,grl->", parts, seen.matrix.astype(np.float64), parts)


SEEN = {"no samples": None, "one group": gram(36), "two groups": gram(36, groups=2)}


@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8, 10])
@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("make", [random, uneven])
def test_scales_of_columns_are_kept_only_where_less_is_lost(make, seen, bits, rounding):
    w, moments = make(8, 4, 3, 3), SEEN[seen]
    choices = [choice(bits=bits, axis=0, rounding=rounding, columns=c) for c in (False, True)]
    plain, found = (codes(w, one, moments) for one in choices)
    if found.column is None:
        np.testing.assert_array_equal(found.rows, plain.rows)
        np.testing.assert_array_equal(found.scale, plain.scale)
    else:
        # They are compared in float32, sums of 8 × 36 × 36 products.
        assert lost(w, found, 0, moments) <= lost(w, plain, 0, moments) * (1 + 1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("form", ["rows", "blocks"])
@pytest.mark.parametrize("seen", ["no samples", "one group"])
def test_uneven_columns_lose_less_with_scales_of_their_own(seen, form, bits):
    w, moments = uneven(24, 36), SEEN[seen]
    one = choice(bits=bits, axis=0, columns=True, block=18 if form == "blocks" else None)
    plain, found = (
        codes(w, planned, moments) for planned in (one.model_copy(update={"columns": False}), one)
    )
    assert found.column is not None
    np.testing.assert_array_equal(found.column, found.column.astype(ml_dtypes.bfloat16))
    assert found.column.shape == (36,)
    assert lost(w, found, 0, moments) < lost(w, plain, 0, moments)


def test_columns_that_change_nothing_are_left_out():
    found = codes(np.ones((8, 32), np.float32), choice(bits=4, axis=0, columns=True), None)
    assert found.column is None


def test_values_of_columns_are_products_in_a_fixed_order():
    w = uneven(24, 36)
    found = codes(w.T, choice(bits=4, axis=1, block=18, columns=True), None)
    steps = np.repeat(found.scale, 18, axis=1)
    expected = (found.rows.astype(np.float32) * steps) * found.column
    np.testing.assert_array_equal(found.values((36, 24), 1), expected.T)


def test_pruned_values_stay_zero_under_columns():
    w = uneven(24, 36)
    for rounding in ("nearest", "compensated"):
        one = choice(bits=4, axis=0, columns=True, rounding=rounding, prune_below=0.5)
        found = codes(w, one, gram(36))
        assert found.column is not None
        back = found.values(w.shape, 0)
        assert (back[np.abs(w) < 0.5] == 0).all()
        assert np.count_nonzero(back) > 0


@pytest.mark.parametrize("columns", [False, True])
def test_known_factors_change_nothing(columns):
    w, seen = uneven(24, 36), gram(18, groups=2)
    w = w.reshape(24, 18, 2)[..., 0]
    planned = choice(bits=4, axis=0, rounding="compensated", columns=columns)
    fresh, found = codes(w, planned, seen), codes(w, planned, seen, known=factors(seen))
    np.testing.assert_array_equal(found.rows, fresh.rows)


def test_given_zeros_count_instead_of_small_values():
    w = random(24, 10)
    zeros = np.random.default_rng(1).random(w.shape) < 0.4
    planned = choice(bits=4, axis=1, rounding="compensated", prune_below=0.5)
    back = codes(w, planned, gram(24), zeros=zeros).values(w.shape, 1)
    assert (back[zeros] == 0).all()
    assert (back[~zeros & (np.abs(w) < 0.5)] != 0).any()


@pytest.mark.parametrize("columns", [False, True])
def test_codes_are_read_back_from_their_arrays(columns):
    found = codes(uneven(24, 36), choice(bits=4, axis=0, columns=columns), None)
    again = from_arrays(found.arrays())
    assert (again.column is not None) == columns
    np.testing.assert_array_equal(again.values((24, 36), 0), found.values((24, 36), 0))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="weights must be finite"):
        codes(np.array([[1, np.nan]], np.float32), choice(axis=0), None)


def test_only_integers_need_codes():
    forms = {
        "a": choice(), "b": choice("float", 32), "c": choice("qdq"), "d": choice("float16", 16),
    }  # fmt: skip
    assert needed(forms) == ("a", "c")
