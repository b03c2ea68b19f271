from __future__ import annotations

import math

import numpy as np
import pytest

from onnxsqueeze.numerics.statistics import (
    Estimate,
    decided,
    lost_fraction,
    median_interval,
    no_less_than_shown,
    paired_bootstrap,
    samples_needed,
    samples_to_decide,
)

TRIALS = 300
# A 95% interval covers in at least 91.2% of 300 trials but once in a thousand (3.09 standard
# deviations of the binomial); the percentile bootstrap is short by about one point at N = 200.
LEAST_COVERED = 0.95 - 3.09 * math.sqrt(0.95 * 0.05 / TRIALS) - 0.01


def test_nothing_lost_is_exactly_nothing():
    whole = np.random.default_rng(0).uniform(1, 2, (50, 3))

    assert paired_bootstrap(np.zeros((50, 3)), whole, seed=1) == Estimate(0.0, 0.0, 0.0)


def test_value_is_the_ratio_of_sums_not_the_mean_of_ratios():
    lost, whole = np.array([[1.0], [0.0]]), np.array([[1.0], [99.0]])

    assert paired_bootstrap(lost, whole, seed=0).value == 0.01


def test_value_is_the_largest_component():
    lost, whole = np.array([[1.0, 3.0], [1.0, 3.0]]), np.full((2, 2), 10.0)

    assert paired_bootstrap(lost, whole, seed=0) == Estimate(0.3, 0.3, 0.3)


def test_interval_covers_the_true_ratio_of_sums():
    rng = np.random.default_rng(3)
    true = 0.1  # E[lost] / E[whole] = (0.1 * 1) / 1, with lost and whole correlated
    covered = 0
    for trial in range(TRIALS):
        whole = rng.exponential(1.0, (200, 1))
        lost = whole * rng.uniform(0.0, 0.2, (200, 1))
        found = paired_bootstrap(lost, whole, seed=trial)
        covered += found.low <= true <= found.high
    assert covered / TRIALS >= LEAST_COVERED


def test_interval_is_as_wide_as_the_binomial_says():
    """Half the width of a 95% interval of a share p over N is 1.96 sqrt(p (1 - p) / N)."""
    lost = (np.arange(1000) % 4 == 0).astype(float)[:, None]

    found = paired_bootstrap(lost, np.ones((1000, 1)), seed=0)

    assert found.value == 0.25
    half = 1.96 * math.sqrt(0.25 * 0.75 / 1000)
    # 2,000 resamples know a 2.5% point to sqrt(0.025 * 0.975 / 2000) / phi(1.96) = 0.06
    # deviations.
    assert abs((found.high - found.low) / 2 - half) < 4 * 0.06 * half / 1.96


def test_seed_decides_and_memory_does_not(monkeypatch):
    rng = np.random.default_rng(5)
    lost, whole = rng.uniform(0, 1, (97, 2)), np.ones((97, 2))
    first = paired_bootstrap(lost, whole, seed=4)

    assert paired_bootstrap(lost, whole, seed=4) == first
    assert paired_bootstrap(lost, whole, seed=5) != first
    monkeypatch.setattr("onnxsqueeze.numerics.statistics._DRAWN_AT_ONCE", 1000)
    assert paired_bootstrap(lost, whole, seed=4) == first


def test_an_unusable_sample_loses_all():
    lost = np.array([[0.0], [math.inf]])

    assert paired_bootstrap(lost, np.ones((2, 1)), seed=0) == Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize("shapes", [((2, 1), (3, 1)), ((2,), (2,)), ((0, 1), (0, 1))])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="must be one shape"):
        paired_bootstrap(np.zeros(shapes[0]), np.zeros(shapes[1]), seed=0)


def test_a_gain_is_negative():
    assert lost_fraction(np.array(-0.5), np.array(1.0)) == -0.5


def test_median_interval_covers_a_skewed_median():
    rng = np.random.default_rng(11)
    true = math.log(2)
    found = [median_interval(rng.exponential(1.0, 15)) for _ in range(TRIALS)]

    covered = sum(one.low <= true <= one.high for one in found)

    assert covered / TRIALS >= LEAST_COVERED


def binomial_below(count, rank):
    return sum(math.comb(count, i) for i in range(rank)) / 2**count


@pytest.mark.parametrize("count", [6, 9, 15, 50, 301, 999, 1000, 1500])
def test_median_interval_uses_the_narrowest_ranks_that_hold_95_percent(count):
    found = median_interval(np.arange(1.0, count + 1))
    rank = int(found.low)

    assert found.high == count + 1 - rank
    assert found.value == (count + 1) / 2
    # From 1,000 values on the rank is that of the normal limit, which may be one too small.
    slack = 0 if count < 1000 else 1
    assert 2 * binomial_below(count, rank) <= 0.05
    assert 2 * binomial_below(count, rank + 1 + slack) > 0.05


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_values_give_their_range(count):
    values = np.arange(1.0, count + 1)

    assert median_interval(values)[1:] == (1.0, float(count))


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_no_median_of_nothing(values):
    with pytest.raises(ValueError, match="a median needs finite values"):
        median_interval(values)


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_a_loss_that_no_sample_shows_may_still_be_as_large_as_three_in_all(count):
    high = no_less_than_shown(Estimate(0.0, 0.0, 0.0), count).high

    # All of N samples miss a share of 3/N with probability (1 − 3/N)^N < e⁻³ < 5%.
    assert high == 3 / count
    assert (1 - high) ** count < 0.05


def test_what_is_shown_to_be_lost_stays():
    lost = Estimate(0.2, 0.1, 0.3)
    assert no_less_than_shown(lost, 100) == lost


def test_no_sample_shows_nothing():
    assert no_less_than_shown(Estimate(0.0, 0.0, 0.0), 0).high == 1.0
    assert no_less_than_shown(Estimate(0.0, 0.0, 0.0), 2).high == 1.0


@pytest.mark.parametrize("max_drop", [0.001, 0.003, 0.01, 0.02, 0.03, 0.07, 0.5])
def test_samples_that_are_needed_are_enough_and_no_fewer_would_be(max_drop):
    needed = samples_needed(max_drop)
    nothing = Estimate(0.0, 0.0, 0.0)
    assert needed is not None
    assert no_less_than_shown(nothing, needed).high <= max_drop * (1 + 1e-9)
    assert no_less_than_shown(nothing, needed - 1).high > max_drop


def test_no_number_of_samples_shows_that_nothing_can_be_lost():
    assert samples_needed(0.0) is None


@pytest.mark.parametrize(
    ("interval", "max_drop", "expected"),
    [
        ((0.01, 0.0, 0.02), 0.02, "kept"),
        ((0.01, 0.0, 0.02), 0.019, "undecided"),
        ((0.03, 0.02, 0.04), 0.02, "undecided"),
        ((0.03, 0.021, 0.04), 0.02, "broken"),
        ((0.0, 0.0, 0.0), 0.0, "kept"),
    ],
)
def test_a_budget_is_kept_only_at_the_pessimistic_end(interval, max_drop, expected):
    assert decided(Estimate(*interval), max_drop) == expected


def test_samples_to_decide_are_enough_four_times_in_five():
    """With so many normal losses the interval ends inside the budget in 80% of draws."""
    mean, sigma, count, max_drop = 0.01, 0.1, 100, 0.02
    half = 1.959964 * sigma / np.sqrt(count)
    seen = Estimate(mean, mean - half, mean + half)

    needed = samples_to_decide(seen, count, max_drop)

    assert needed == pytest.approx((2.801585 * sigma / (max_drop - mean)) ** 2, abs=1)
    draws, generator = 2000, np.random.default_rng(0)
    # The mean of that many losses, drawn as a whole, and its interval.
    means = mean + sigma / np.sqrt(needed) * generator.standard_normal(draws)
    is_kept = means + 1.959964 * sigma / np.sqrt(needed) <= max_drop
    # The share of 2000 draws has a standard deviation of 0.9%; 5 of them are never left.
    assert abs(is_kept.mean() - 0.8) < 5 * np.sqrt(0.8 * 0.2 / draws)


@pytest.mark.parametrize(
    ("interval", "max_drop"), [((0.01, 0.0, 0.02), 0.01), ((0.01, -9.0, 9.0), 0.01 + 1e-9)]
)
def test_no_number_of_samples_decides_what_lies_on_the_budget(interval, max_drop):
    assert samples_to_decide(Estimate(*interval), 100, max_drop) is None
