from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxsqueeze.numerics.grid import (
    SMALLEST_SCALE,
    as_rows,
    from_grid,
    from_rows,
    largest_block,
    limits,
    max_scale,
    mse_scale,
    to_bfloat16,
    to_grid,
)

REPEATABLE = settings(deadline=None, derandomize=True)
MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 3).map(lambda n: 8 * n)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


def squared_error(rows, scale, bits, importance):
    back = from_grid(to_grid(rows, scale, bits), scale)
    return (np.square(rows.astype(np.float64) - back) * importance).sum(axis=1)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -3])
def test_rows_come_back_as_the_tensor(axis):
    tensor = np.arange(24).reshape(2, 3, 4)
    rows = as_rows(tensor, axis)
    assert rows.shape == (
        (1, 24) if axis is None else (tensor.shape[axis], 24 // tensor.shape[axis])
    )
    np.testing.assert_array_equal(from_rows(rows, tensor.shape, axis), tensor)


def test_row_r_holds_entry_r_of_the_axis():
    tensor = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(as_rows(tensor, 1)[2], tensor[:, 2].ravel())


def test_limits_of_the_codes():
    assert limits(8) == (-127, 127)
    assert limits(4) == (-8, 7)


@pytest.mark.parametrize(
    ("features", "wanted", "block"),
    [(384, 128, 128), (27, 16, 9), (7, 16, None), (8, 8, 8), (13, 12, None), (384, None, None)],
)
def test_largest_block(features, wanted, block):
    assert largest_block(features, wanted) == block


@REPEATABLE
@given(MATRICES, st.sampled_from([4, 8]), st.sampled_from([None, 8]))
def test_max_scale_cuts_nothing_off_and_rounds_by_half_a_step(rows, bits, block):
    scale = max_scale(rows, bits, block)
    back = from_grid(to_grid(rows, scale, bits), scale)
    steps = np.repeat(scale, rows.shape[1] // scale.shape[1], axis=1).astype(np.float64)
    # Half a step, and a float32 rounding each of the scale (127 times), the quotient (127 steps)
    # and the product.
    assert (np.abs(rows - back.astype(np.float64)) <= steps * (0.5 + 3 * 127 * 2.0**-24)).all()


def test_eight_bits_are_symmetric():
    rows = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    scale = max_scale(rows, 8)
    np.testing.assert_array_equal(to_grid(-rows, scale, 8), -to_grid(rows, scale, 8))


@REPEATABLE
@given(MATRICES, st.sampled_from([4, 8]))
def test_values_on_the_grid_keep_their_codes(rows, bits):
    scale = max_scale(rows, bits)
    codes = to_grid(rows, scale, bits)
    np.testing.assert_array_equal(to_grid(from_grid(codes, scale), scale, bits), codes)


@pytest.mark.parametrize("value", [1e-44, 1e-38, 1e-36])
def test_a_scale_is_never_zero(value):
    rows = np.full((1, 4), value, np.float32)
    assert max_scale(rows, 8) == SMALLEST_SCALE
    assert mse_scale(rows, 8) >= np.finfo(np.float32).tiny
    assert (
        np.abs(from_grid(to_grid(rows, max_scale(rows, 8), 8), max_scale(rows, 8))) < 1e-35
    ).all()


def test_zeros_have_scale_one_and_blocks_have_their_own():
    rows = np.array([[0, 0, 7, 0], [14, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(max_scale(rows, 4, block=2), [[1, 1], [2, 1]])
    np.testing.assert_array_equal(max_scale(rows, 4), [[1], [2]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("find", [max_scale, mse_scale])
def test_values_that_are_not_finite_are_refused(find, bad):
    with pytest.raises(ValueError, match="weights must be finite, and hold NaN or infinity"):
        find(np.array([[1, bad]], np.float32), 8)


@pytest.mark.parametrize("find", [max_scale, mse_scale])
def test_a_block_must_divide_the_features(find):
    with pytest.raises(ValueError, match="block 5 does not divide 8 features"):
        find(np.ones((2, 8), np.float32), 8, 5)


@REPEATABLE
@given(
    hnp.arrays(np.float32, (3, 16), elements=st.floats(-100, 100, width=16)),
    hnp.arrays(np.float32, 16, elements=st.floats(0, 100, width=16)),
    st.sampled_from([4, 8]),
    st.sampled_from([None, 8]),
    st.booleans(),
)
def test_mse_scale_errs_no_more_than_max_scale(rows, importance, bits, block, weighted):
    found = mse_scale(rows, bits, block, importance if weighted else None)
    h = importance if weighted else np.ones(16)
    full = max_scale(rows, bits, block)
    better, worse = (squared_error(rows, scale, bits, h) for scale in (found, full))
    # The search compares errors in float32: 16 squares, each of two float32 roundings of values
    # up to 100, and their sum.
    slack = 1e-5 * worse + h.sum() * (200 * 2.0**-24) ** 2
    assert (better <= worse + slack).all()
    least = full / 2 if bits == 8 else full * 7 / 8 / 2  # −8 takes the largest value, not 7
    assert (np.abs(found) >= least * (1 - 1e-6)).all()
    assert (np.abs(found) <= full).all()
    assert bits == 4 or (found > 0).all()


def test_the_lowest_code_goes_to_the_largest_value_whatever_its_sign():
    """Whole numbers from −7 to 8 times 0.5 have 16 codes, which only a negative scale has."""
    rows = np.arange(-7, 9, dtype=np.float32)[None] / 2

    scale = mse_scale(rows, 4)

    assert scale.tolist() == [[-0.5]]
    assert from_grid(to_grid(rows, scale, 4), scale).tolist() == rows.tolist()


def test_negative_scales_are_rounded_away_from_zero_too():
    assert to_bfloat16(np.array([-1.001], np.float32)).tolist() == [-1.0078125]


def test_mse_scale_sacrifices_an_outlier_that_matters_little():
    rows = np.array([[8.0, *np.linspace(-4, 4, 31)]], np.float32)
    importance = np.array([0.0, *np.ones(31)], np.float32)
    # Without the outlier the values end at 4: half of 8, the smallest scale that is tried.
    assert mse_scale(rows, 4, None, importance)[0, 0] < 0.6 * max_scale(rows, 4)[0, 0]
    important = np.array([1e6, *np.ones(31)], np.float32)
    assert mse_scale(rows, 4, None, important)[0, 0] == -1.0  # 8 = −8 · −1, exactly


@REPEATABLE
@given(hnp.arrays(np.float32, 8, elements=st.floats(2.0**-100, 2.0**100, width=32)))
def test_bfloat16_scales_are_rounded_up_by_at_most_one_step(scale):
    up = to_bfloat16(scale)
    np.testing.assert_array_equal(up.astype(ml_dtypes.bfloat16).astype(np.float32), up)
    assert (up >= scale).all()
    assert (up <= scale.astype(np.float64) * (1 + 2.0**-7)).all()
    np.testing.assert_array_equal(to_bfloat16(up), up)
