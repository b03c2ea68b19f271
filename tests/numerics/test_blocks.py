from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxsqueeze.numerics.blocks import (
    SIZES,
    block_within,
    ends,
    from_blocks,
    offset_grid,
    signed_scale,
    to_blocks,
    whole_range,
)
from onnxsqueeze.numerics.grid import max_scale

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=100)
ROWS = hnp.arrays(np.float32, (3, 32), elements=st.floats(-100, 100, width=16))


def squared_error(rows, scale, bits, zero=None):
    back = from_blocks(to_blocks(rows, scale, bits, zero), scale, zero).astype(np.float64)
    return np.square(rows - back).reshape(*scale.shape, -1).sum(axis=2)


def slack(worse):
    """The search compares errors in float32: 16 squares of values up to 100, and their sum."""
    return 1e-5 * worse + 16 * (200 * 2.0**-24) ** 2


@REPEATABLE
@given(ROWS, st.sampled_from([3, 4, 8]))
def test_either_sign_errs_no_more_than_the_plain_scale(rows, bits):
    worse = squared_error(rows, max_scale(rows, bits, 16), bits)
    assert (squared_error(rows, signed_scale(rows, bits, 16), bits) <= worse + slack(worse)).all()


@REPEATABLE
@given(ROWS, st.sampled_from([3, 4, 8]))
def test_zero_points_err_no_more_than_the_whole_range(rows, bits):
    scale, zero = whole_range(rows, bits, 16)
    worse = squared_error(rows, scale, bits, zero)
    found = squared_error(rows, *_swapped(offset_grid(rows, bits, 16), bits))
    assert (found <= worse + slack(worse)).all()


def _swapped(made, bits):
    return made[0], bits, made[1]


@REPEATABLE
@given(ROWS, st.sampled_from([4, 8]))
def test_the_whole_range_errs_by_at_most_half_a_step_and_the_rounding_of_its_zero(rows, bits):
    """Zero is on the grid, so both ends move by up to half a step, and cut off as much."""
    scale, zero = whole_range(rows, bits, 16)
    back = from_blocks(to_blocks(rows, scale, bits, zero), scale, zero)
    step = np.repeat(scale, 16, axis=1)
    assert (np.abs(rows - back) <= 0.5 * step * (1 + 1e-3) + 1e-4).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_all_codes_are_used_whichever_sign_the_largest_value_has(sign):
    rows = sign * np.arange(-7, 9, dtype=np.float32)[None] / 4
    scale = signed_scale(rows, 4, 16)
    codes = to_blocks(rows, scale, 4)
    assert sorted(codes[0].tolist()) == list(range(-8, 8))
    assert from_blocks(codes, scale).tolist() == rows.tolist()


def test_values_of_one_sign_have_all_codes_with_a_zero_point_and_half_of_them_without():
    """Uniform in [0, 15] steps: 16 codes with a zero point are exact, 9 of one sign are not."""
    rows = np.arange(16, dtype=np.float32)[None]
    assert squared_error(rows, *_swapped(offset_grid(rows, 4, 16), 4)).item() == 0
    assert squared_error(rows, signed_scale(rows, 4, 16), 4).item() > 1


def test_a_row_of_zeros_stays_zero():
    rows = np.zeros((1, 16), np.float32)
    scale, zero = offset_grid(rows, 4, 16)
    assert not from_blocks(to_blocks(rows, scale, 4, zero), scale, zero).any()
    scale = signed_scale(rows, 4, 16)
    assert scale.all()
    assert not from_blocks(to_blocks(rows, scale, 4), scale).any()


def test_what_matters_little_is_cut_off():
    rows = np.array([[8.0, *np.linspace(-2, 2, 15)]], np.float32)
    importance = np.array([0.0, *np.ones(15)], np.float32)
    assert abs(signed_scale(rows, 4, 16, importance)[0, 0]) <= 0.6 * 8 / 7
    important = np.array([1e6, *np.ones(15)], np.float32)
    assert signed_scale(rows, 4, 16, important)[0, 0] == -1  # 8 = −8 · −1


@pytest.mark.parametrize("find", [signed_scale, offset_grid, whole_range])
def test_a_block_must_divide_the_features_and_values_must_be_finite(find):
    with pytest.raises(ValueError, match="block 5 does not divide 8 features"):
        find(np.ones((2, 8), np.float32), 4, 5)
    with pytest.raises(ValueError, match="must be finite"):
        find(np.full((2, 16), np.nan, np.float32), 4, 16)


def test_sizes_are_powers_of_two_that_divide():
    assert [block_within(n, 256) for n in (16, 48, 384, 1536, 4096, 8)] == [
        16, 16, 128, 256, 256, None,
    ]  # fmt: skip
    assert all(size & (size - 1) == 0 for size in SIZES)
    assert ends(4) == (-8, 7)
