from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxsqueeze.config import Calibration
from onnxsqueeze.facts.ranges import TensorRange
from onnxsqueeze.numerics.clipping import (
    LEVELS,
    METHODS,
    Method,
    average_range,
    density_range,
    differ,
    ends,
    entropy_range,
    is_settled,
    mse_range,
    percentile_range,
    spread,
)
from onnxsqueeze.numerics.histogram import histogram

REPEATABLE = settings(deadline=None, derandomize=True)
SPREAD = hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(-8, 8, width=16))
STEP_RATIO = (0.02 / 0.28) ** (-1 / 47)
"""Largest ratio of two fractions that follow each other in the search."""


def record(values, *, stride=1, extremes=None, samples=1):
    """What is kept of values: every stride-th of them, and the extremes of blocks of 32."""
    flat = np.asarray(values, np.float64).ravel()
    blocks = flat[: flat.size // 32 * 32].reshape(-1, 32)
    if extremes is None:
        extremes = np.concatenate([blocks.min(1), blocks.max(1)]) if blocks.size else flat
    parts = np.array_split(flat, samples)
    return TensorRange(
        count=float(flat.size),
        low=float(flat.min()),
        high=float(flat.max()),
        not_finite=0,
        sample=histogram(flat[::stride]),
        extremes=histogram(np.asarray(extremes)),
        mean=np.zeros(0),
        mean_square=np.zeros(0),
        samples=samples,
        average_low=float(np.mean([part.min() for part in parts])),
        average_high=float(np.mean([part.max() for part in parts])),
    )


def rounding_error(values, low, high, levels=LEVELS):
    """Mean square of what an even grid from low to high changes; zero is exact."""
    step = (high - low) / levels
    rounded = np.clip(np.round(values / step) * step, low, high)
    return np.square(values - rounded).mean()


def test_the_setting_knows_every_method():
    assert get_args(Calibration) == ("auto", *METHODS)
    assert get_args(Method) == METHODS


@pytest.mark.parametrize("method", METHODS)
@REPEATABLE
@given(values=SPREAD, stride=st.integers(1, 3), count=st.floats(1, 1e9))
def test_a_range_holds_zero_and_stays_within_what_was_seen(method, values, stride, count):
    seen = record(values, stride=stride)
    low, high = ends(TensorRange(**{**vars(seen), "count": max(count, seen.count)}), method)
    assert min(seen.low, 0.0) <= low <= 0.0 <= high <= max(seen.high, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_values_of_one_sign_start_at_zero(method):
    seen = record(np.linspace(2, 3, 1000))
    assert ends(seen, method)[0] == 0.0
    seen = record(np.linspace(-3, -2, 1000))
    assert ends(seen, method)[1] == 0.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [-2.5, 0.0, 4.0])
def test_one_value_is_an_end(method, value):
    assert ends(record(np.full(100, value)), method) == (min(value, 0.0), max(value, 0.0))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_seen_is_zero(method):
    seen = TensorRange(**{**vars(record([1.0])), "low": 0.0, "high": 0.0})
    assert ends(seen, method) == (0.0, 0.0)


@pytest.mark.parametrize("method", ["mse", "minmax", "average", "density"])
def test_an_even_spread_is_not_cut_off(method):
    # Every sample of the three spans all: in each, the values go once from end to end.
    seen = record(np.tile(np.linspace(-1, 1, 10001), 3), samples=3)
    assert ends(seen, method) == (-1.0, 1.0)


@pytest.mark.parametrize("span", [(-1.0, 1.0), (0.0, 1.0), (-0.25, 1.0)])
def test_entropy_keeps_an_even_spread(span):
    values = np.linspace(*span, 200_001)
    low, high = entropy_range(record(values))
    # Up to one step of the search: 1/47 of each side.
    assert span[0] <= low <= span[0] * (1 - 1 / 47)
    assert span[1] * (1 - 1 / 47) <= high <= span[1]


def test_percentile_leaves_out_half_of_the_rest_at_each_end():
    values = np.linspace(-1, 1, 100_001)
    seen = record(values, extremes=[-1.0, 1.0])
    low, high = percentile_range(seen, kept=0.9)
    # Ends lie on edges of bins: what is beyond is up to one bin less than 5%.
    assert np.mean(values < low) <= 0.05 < np.mean(values < low + seen.sample.width)
    assert np.mean(values > high) <= 0.05 < np.mean(values > high - seen.sample.width)


def test_percentile_counts_the_extremes_that_the_sample_missed():
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    few = record(values, extremes=[-1.0, 4.0])
    many = record(values, extremes=[-1.0, *np.full(500, 4.0)])
    few, many = (TensorRange(**{**vars(one), "high": 4.0}) for one in (few, many))
    assert percentile_range(few)[1] < 1.01  # 1 of 100,000 is under 0.005%
    assert percentile_range(many)[1] == 4.0


def test_average_is_the_mean_of_the_samples_and_within_them():
    seen = record([-1.0, 5.0, -3.0, 1.0], samples=2)
    assert average_range(seen) == (-2.0, 3.0)
    unknown = TensorRange(**{**vars(seen), "average_low": -math.inf, "average_high": math.inf})
    assert average_range(unknown) == (-3.0, 5.0)


@pytest.mark.parametrize("stride", [1, 7])
@pytest.mark.parametrize("method", ["mse", "density"])
def test_half_a_laplace_with_an_outlier_is_cut_near_the_best_of_all_ranges(method, stride):
    values = np.abs(np.random.default_rng(0).laplace(size=400_000))
    values[5] = 40.0  # in the extremes only, for stride 7
    low, high = ends(record(values, stride=stride), method)
    every = np.geomspace(5.0, 40.0, 200)
    best = min(rounding_error(values, 0.0, end) for end in every)
    found = rounding_error(values, 0.0, high)
    assert low == 0.0
    assert best < 0.9 * rounding_error(values, 0.0, 40.0)  # there is something to be won
    # The best end is between two that were tried. The upper one cuts off no more, and its steps
    # are wider by their ratio. The rest is what bins and step²/12 leave open: under 1% each, since
    # bins are 40/2048 and the outlier, which no other value comes near, is cut by more than 10.
    assert found <= best * STEP_RATIO**2 * 1.02


@pytest.mark.parametrize("method", ["mse", "density"])
def test_both_ends_of_a_laplace_are_cut_where_an_outlier_is_at_one(method):
    values = np.random.default_rng(0).laplace(size=400_000)
    values[5] = 40.0
    low, high = ends(record(values), method)
    assert rounding_error(values, low, high) < 0.9 * rounding_error(values, values.min(), 40.0)


@pytest.mark.parametrize("method", ["average", "percentile", "entropy"])
def test_a_lone_outlier_is_cut_off(method):
    values = np.random.default_rng(0).laplace(size=320_000)
    values[5] = 400.0
    seen = record(values, samples=10)
    assert ends(seen, "minmax")[1] == 400.0
    assert ends(seen, method)[1] < 100.0


def test_zeros_do_not_shorten_the_range_by_density():
    body = np.abs(np.random.default_rng(0).normal(size=20_000))
    zeros = np.concatenate([np.zeros(180_000), body])
    # Zeros lose nothing on any grid: the best range is that of the others alone.
    assert density_range(record(zeros)) == pytest.approx(density_range(record(body)), rel=0.02)
    assert mse_range(*_parts(record(zeros)))[1] < 0.95 * density_range(record(zeros))[1]


def _parts(seen):
    return seen.sample, seen.extremes, seen.count, seen.low, seen.high


def test_spread_has_all_values_and_no_fewer_extremes_than_were_seen():
    values = np.random.default_rng(0).normal(size=9_600)
    whole = spread(record(values))
    assert whole.total == pytest.approx(values.size)
    far = spread(record(values, stride=3, extremes=np.full(40, 9.0)))
    assert far.counts[-1] == 40
    assert far.total == pytest.approx(values.size + 40)
    assert len(spread(record(values), bins=512).counts) <= 512


def test_extremes_that_the_sample_does_not_show_are_not_settled():
    values = np.random.default_rng(0).normal(size=70_000)
    assert is_settled(record(values, stride=7))
    odd = values.copy()
    odd[1:3500:7] = 40.0  # none of them is sampled
    assert not is_settled(record(odd, stride=7))
    assert is_settled(record(odd))  # all values are counted


def test_ends_differ_by_a_part_of_the_range():
    assert not differ((-1.0, 1.0), (-1.0, 1.0))
    assert not differ((-1.0, 1.0), (-1.03, 1.0))
    assert differ((-1.0, 1.0), (-1.05, 1.0))
    assert differ((-1.0, 1.0), (-1.0, 0.9))


@REPEATABLE
@given(SPREAD, SPREAD, st.floats(1, 1e9), st.sampled_from([15, 255]))
def test_the_range_of_any_sample_and_extremes_holds_zero(a, b, count, levels):
    every = np.concatenate([a, b])
    low, high = float(every.min()), float(every.max())
    found_low, found_high = mse_range(histogram(a), histogram(b), count, low, high, levels)
    assert min(low, 0.0) <= found_low <= 0.0 <= found_high <= max(high, 0.0)


def test_an_even_spread_is_kept_whole():
    values = np.linspace(-1, 1, 10001)
    seen = histogram(values)
    assert mse_range(seen, seen, values.size, -1.0, 1.0) == (-1.0, 1.0)


def test_a_lone_outlier_goes_where_steps_are_coarse():
    values = np.append(np.random.default_rng(0).normal(size=100_000), 50.0)
    sample, extremes = histogram(values[::7]), histogram(values)
    low, high = mse_range(sample, extremes, values.size, values.min(), 50.0, levels=15)
    ends = np.linspace(low, high, 16)
    cut = np.square(values - ends[np.abs(values[:, None] - ends).argmin(axis=1)]).sum()
    full = np.linspace(values.min(), 50.0, 16)
    kept = np.square(values - full[np.abs(values[:, None] - full).argmin(axis=1)]).sum()
    assert high < 25.0
    assert cut < kept / 2


def test_an_outlier_that_the_sample_missed_is_seen_in_the_extremes():
    body = np.random.default_rng(0).uniform(-1, 1, 10_000)
    sample = histogram(body)
    far = histogram(np.array([-1.0, *np.full(500, 4.0)]))
    # To cut off d costs d² per outlier and saves 2·5·d/255²/12 per value: 500 of them end that at
    # once, a single one at d = 0.064.
    assert mse_range(sample, far, 10_000, -1.0, 4.0)[1] == 4.0
    one = histogram(np.array([-1.0, 4.0]))
    assert 3.9 < mse_range(sample, one, 10_000, -1.0, 4.0)[1] < 4.0


def test_positive_values_need_no_low_end():
    values = histogram(np.linspace(2, 3, 1000))
    assert mse_range(values, values, 1000, 2.0, 3.0)[0] == 0.0
