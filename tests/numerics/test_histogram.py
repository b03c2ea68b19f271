from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxsqueeze.numerics.histogram import MAX_BINS, Histogram, coarsened, histogram

REPEATABLE = settings(deadline=None, derandomize=True)
VALUES = hnp.arrays(
    np.float32,
    st.integers(1, 30),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
SPREAD = hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(-8, 8, width=16))


def counted(values, like):
    """The counts that the values have in the bins of another histogram, by definition."""
    bins = np.floor(np.ldexp(np.asarray(values, np.float64), -like.exponent)) - like.first
    return np.bincount(bins.astype(np.int64), minlength=len(like.counts))


def same(a, b):
    assert (a.exponent, a.first) == (b.exponent, b.first)
    np.testing.assert_array_equal(a.counts, b.counts)


@REPEATABLE
@given(VALUES)
def test_every_value_is_in_its_bin(values):
    found = histogram(values)
    assert found.total == values.size
    assert len(found.counts) <= MAX_BINS
    np.testing.assert_array_equal(found.counts, counted(values, found))


@REPEATABLE
@given(st.floats(-1e6, 1e6, width=32), st.floats(2.0**-10, 2.0**20, width=32), st.integers(0, 99))
def test_a_range_is_cut_into_half_of_the_bins_or_more(low, span, seed):
    values = low + span * np.random.default_rng(seed).random(50)
    assert len(histogram(values).counts) + 1 >= MAX_BINS // 2
    assert len(histogram(values).counts) <= MAX_BINS


@REPEATABLE
@given(VALUES, VALUES)
def test_merging_is_exact_and_commutes(a, b):
    merged = histogram(a).merge(histogram(b))
    same(merged, histogram(b).merge(histogram(a)))
    assert len(merged.counts) <= MAX_BINS
    np.testing.assert_array_equal(merged.counts, counted(np.concatenate([a, b]), merged))


@REPEATABLE
@given(SPREAD, SPREAD, SPREAD)
def test_merging_is_associative(a, b, c):
    x, y, z = histogram(a), histogram(b), histogram(c)
    same(x.merge(y).merge(z), x.merge(y.merge(z)))


def test_a_small_range_keeps_its_counts_in_the_bins_of_a_large_one():
    narrow = histogram(np.linspace(0, 1e-6, 100))
    wide = histogram(np.array([-1e6, 1e6]))
    merged = narrow.merge(wide)
    assert merged.counts[-merged.first] == 100.0  # the bin that starts at 0
    assert merged.total == 102.0


def test_one_value_has_one_bin_around_it():
    (bin_count,) = histogram(np.full(5, 3.0)).counts
    assert bin_count == 5
    one = histogram(np.full(5, -3.0))
    assert abs(one.centers[0] + 3.0) <= one.width


@pytest.mark.parametrize("bad", [[], [np.nan], [1.0, np.inf]])
def test_values_must_be_there_and_finite(bad):
    with pytest.raises(ValueError, match="a histogram needs at least one value, and finite ones"):
        histogram(np.array(bad))


def test_width_and_centers():
    h = Histogram(-1, 3, np.array([1.0, 0.0, 2.0]))
    assert h.width == 0.5
    np.testing.assert_array_equal(h.centers, [1.75, 2.25, 2.75])
    assert h.total == 3.0


def test_coarsened_bins_hold_the_same_values():
    values = np.random.default_rng(0).normal(size=500)
    fine = histogram(values)
    coarse = coarsened(fine, fine.exponent + 3)
    assert coarse.total == 500
    np.testing.assert_array_equal(coarse.counts, counted(values, coarse))
    assert coarsened(fine, fine.exponent) is fine
