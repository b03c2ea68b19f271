from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxsqueeze.numerics.columns import LARGEST_RATIO, column_scale
from onnxsqueeze.numerics.grid import from_grid, max_scale, to_grid

REPEATABLE = settings(deadline=None, derandomize=True, max_examples=50)
MATRICES = hnp.arrays(np.float32, (3, 16), elements=st.floats(-100, 100, width=16))
IMPORTANCES = st.none() | hnp.arrays(np.float32, 16, elements=st.floats(0, 100, width=16))
BITS = st.sampled_from([2, 3, 4, 6, 8, 10])
BLOCKS = st.sampled_from([None, 8])


def spread(seed=0, rows=24, features=64):
    """Weights whose columns differ in size, and importances that do."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(rows, features)) * np.exp(1.5 * rng.normal(size=features))
    return w.astype(np.float32), np.exp(2 * rng.normal(size=features)).astype(np.float32)


def weighted_error(rows, column, bits, block, importance):
    """What is lost with scales that cut nothing off, in float64."""
    even = rows / column
    scale = max_scale(even, bits, block)
    back = from_grid(to_grid(even, scale, bits), scale) * column
    return float((np.square(rows.astype(np.float64) - back) * importance).sum())


@REPEATABLE
@given(MATRICES, IMPORTANCES, BITS, BLOCKS)
def test_columns_are_finite_and_never_worse_than_equal_ones(rows, importance, bits, block):
    column, ratio = column_scale(rows, bits, block, importance)
    assert column.shape == (16,)
    assert column.dtype == np.float32
    assert (column >= np.float32(1 / LARGEST_RATIO)).all()
    assert (column <= np.float32(LARGEST_RATIO)).all()
    assert 0 <= ratio <= 1
    if ratio == 1:
        np.testing.assert_array_equal(column, np.ones(16, np.float32))


@pytest.mark.parametrize("block", [None, 16])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_ratio_is_that_of_the_errors(bits, block, weighted):
    # From 8 bits on nothing is cut off, so that the errors can be found with max_scale alone.
    rows, importance = spread()
    column, ratio = column_scale(rows, bits, block, importance if weighted else None)
    h = importance if weighted else np.ones(64)
    with_columns = weighted_error(rows, column, bits, block, h)
    plain = weighted_error(rows, np.ones(64, np.float32), bits, block, h)
    assert ratio < 1
    # Values of up to 4096 steps have float32 roundings of up to 2**-12 steps, where the errors
    # are 2**-2 steps on average; and the importances are 1e-6 of their mean higher.
    assert ratio == pytest.approx(with_columns / plain, rel=0.01)


def test_a_large_column_no_longer_takes_the_steps_of_all_others():
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (16, 63)).astype(np.float32)
    large = np.full((16, 1), 100, np.float32)
    column, ratio = column_scale(np.hstack([large, rows]), 4, None, None)
    # Without: the finest steps that are tried, 100 / 7 / 2, make all other values zero. With
    # columns of size**0.75 the rows end at 100**0.25, half a step of which is at most lost, and
    # nothing of the large column, whose codes are the ends of the grid.
    half_step = 100**0.25 / 7 / 2
    assert ratio <= half_step**2 / np.square(rows).mean()
    assert column[0] > 10 * column[1:].max()


def test_columns_that_matter_more_have_finer_steps():
    rng = np.random.default_rng(0)
    rows = np.where(rng.random((16, 64)) < 0.5, -1, 1) * rng.uniform(0.1, 1, (16, 64))
    rows[0] = 1  # all columns are of one size
    importance = np.repeat([1e4, 1], 32).astype(np.float32)
    column, ratio = column_scale(rows.astype(np.float32), 4, None, importance)
    assert ratio < 1
    assert column[:32].max() < column[32:].min()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_columns_go_with_their_values(bits, weighted):
    rows, importance = spread()
    h = importance if weighted else None
    column, ratio = column_scale(rows, bits, None, h)
    rng = np.random.default_rng(1)
    order, down = rng.permutation(64), rng.permutation(24)
    moved, moved_ratio = column_scale(
        rows[down][:, order], bits, None, None if h is None else h[order]
    )
    # Only sums are taken in another order: of 64 logarithms, and of 24 × 64 squares.
    np.testing.assert_allclose(moved, column[order], rtol=1e-4)
    assert moved_ratio == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize("factor", [2.0**-40, 16.0, 2.0**20])
def test_columns_are_relative_to_the_weight(factor):
    rows, importance = spread()
    column, ratio = column_scale(rows, 8, None, importance)
    larger, larger_ratio = column_scale(rows * np.float32(factor), 8, None, importance)
    np.testing.assert_allclose(larger, column, rtol=1e-4)
    assert larger_ratio == pytest.approx(ratio, rel=1e-2)


def test_columns_do_not_depend_on_signs():
    rows, importance = spread()
    column, ratio = column_scale(rows, 8, None, importance)
    other, other_ratio = column_scale(-rows, 8, None, importance)
    np.testing.assert_array_equal(other, column)
    assert other_ratio == ratio


def test_columns_depend_on_the_ratios_of_importances_only():
    rows, importance = spread()
    column, _ = column_scale(rows, 4, None, importance)
    np.testing.assert_allclose(column_scale(rows, 4, None, importance * 256)[0], column, rtol=1e-4)
    np.testing.assert_allclose(
        column_scale(rows, 4, None, np.full(64, 9, np.float32))[0],
        column_scale(rows, 4, None, None)[0],
        rtol=1e-4,
    )


@pytest.mark.parametrize("importance", [None, np.zeros(16, np.float32)])
def test_nothing_is_lost_where_every_value_is_on_the_grid(importance):
    rows = np.tile(np.array([7, -7, 1, 0], np.float32), (3, 4))
    column, ratio = column_scale(rows, 4, None, importance)
    np.testing.assert_array_equal(column, np.ones(16, np.float32))
    assert ratio == 1


def test_zeros_have_equal_columns():
    column, ratio = column_scale(np.zeros((3, 16), np.float32), 4, 8, None)
    np.testing.assert_array_equal(column, np.ones(16, np.float32))
    assert ratio == 1


def test_a_column_of_zeros_stays_within_reach_of_the_others():
    rows, importance = spread()
    rows[:, 3] = 0
    importance[5] = 0
    column, ratio = column_scale(rows, 4, None, importance)
    assert ratio < 1
    assert np.isfinite(rows / column).all()
