from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from onnxsqueeze.numerics.density import (
    CLEAR_DISTANCE,
    describe,
    histogram,
    kernel_density,
    laplace_density,
    normal_density,
    silverman_bandwidth,
)


def area(y, x):
    return float(((y[1:] + y[:-1]) * np.diff(x)).sum() / 2)


def drawn(name, size=20_000):
    rng = np.random.default_rng(7)
    return {
        "normal": rng.normal(0.1, 0.02, size),
        "laplace": rng.laplace(-3.0, 0.5, size),
        "uniform": rng.uniform(-1, 1, size),
        "two hills": np.concatenate(
            [rng.normal(-4, 0.5, size // 2), rng.normal(4, 0.5, size // 2)]
        ),
    }[name]


@pytest.mark.parametrize(
    ("name", "best"),
    [("normal", "normal"), ("laplace", "laplace"), ("uniform", "kernel"), ("two hills", "kernel")],
)
def test_best_fit_is_the_family_it_was_drawn_from(name, best):
    assert describe(drawn(name)).best_fit == best


def test_distance_of_the_true_family_is_within_sampling_error():
    """Kolmogorov's 0.1% point is 1.95/sqrt(n); fitting the parameters only brings it nearer."""
    described = describe(drawn("normal"))

    assert described.distances["normal"] < 1.95 / math.sqrt(20_000)
    # The Laplace fitted to a normal (b = std sqrt(2/pi)) is off by over 0.03.
    assert described.distances["laplace"] > 0.03


@pytest.mark.parametrize("name", ["normal", "laplace", "two hills"])
def test_kernel_estimate_follows_the_density(name):
    """Against the sum of kernels itself, within the error of binning and interpolation."""
    values = drawn(name)[:2000] if name != "two hills" else drawn(name)[::10]
    h = silverman_bandwidth(values)
    x = np.linspace(values.min() - 5 * h, values.max() + 5 * h, 501)
    peak = 1 / (h * math.sqrt(2 * math.pi))
    exact = peak * np.exp(-(((x[:, None] - values) / h) ** 2) / 2).mean(1)

    fast = kernel_density(values, x)

    # Linear binning and interpolation err by at most step^2/8 max|f''| each; max|f''| <= peak/h^2.
    # Beyond 4 bandwidths the fast one is 0, and the truth is under exp(-8) of a kernel's peak.
    step = (values.max() - values.min() + 8 * h) / 4095
    bound = peak * (2 * (step / h) ** 2 / 8 + math.exp(-8))
    assert np.abs(fast - exact).max() <= bound
    assert area(fast, x) == pytest.approx(1, abs=1e-3)


def test_densities_integrate_to_one():
    x = np.linspace(-40, 40, 80_001)

    assert area(normal_density(x, 0.3, 2.0), x) == pytest.approx(1, abs=1e-6)
    assert area(laplace_density(x, 0.3, 2.0), x) == pytest.approx(1, abs=1e-6)


def test_histogram_counts_and_density():
    found = histogram(np.array([[0.0, 0.1], [0.9, 1.0]]), bins=4)

    assert found.counts.tolist() == [2, 0, 0, 2]
    assert found.centers.tolist() == [0.125, 0.375, 0.625, 0.875]
    assert found.density.tolist() == [2.0, 0.0, 0.0, 2.0]


def test_histogram_of_nothing_counts_nothing():
    found = histogram(np.array([np.nan, np.inf]), bins=3)

    assert found.counts.tolist() == [0, 0, 0]
    assert found.density.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("value", [0.0, 1e30, -3.5, 1e-40])
def test_histogram_of_one_value_puts_all_in_the_middle(value):
    assert histogram(np.full(5, value), bins=3).counts.tolist() == [0, 5, 0]


def test_histogram_refuses_no_bins():
    with pytest.raises(ValueError, match="at least 1 bin, found 0"):
        histogram(np.ones(3), bins=0)


@pytest.mark.parametrize("dtype", [np.int8, np.float16, ml_dtypes.bfloat16, ml_dtypes.int4, bool])
def test_narrow_types_are_described(dtype):
    found = describe(np.array([0, 1, 1, 0, 1]).astype(dtype))

    assert found.census.zeros == 2
    assert found.census.maximum == 1.0
    assert found.histogram.counts.sum() == 5


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([1j]), np.array([object()])])
def test_what_is_no_real_number_is_refused(values):
    with pytest.raises(ValueError, match="values must be real numbers, found"):
        describe(values)


def test_constant_empty_and_all_nan():
    constant = describe(np.full((2, 2), 0.1, np.float32))
    assert constant.best_fit == "constant"
    assert constant.census.is_constant
    assert constant.fits == {}
    for nothing in (np.zeros(0), np.full(3, np.nan)):
        found = describe(nothing)
        assert found.best_fit == "empty"
        assert not found.census.is_constant
        assert found.histogram.counts.sum() == 0


def test_nan_and_infinity_change_no_fit():
    values = drawn("normal", 1000)
    with_holes = np.concatenate([values, [np.nan, np.inf, -np.inf]])

    clean, dirty = describe(values), describe(with_holes)

    assert dirty.distances == clean.distances
    assert dirty.census.size - dirty.census.finite == 3
    np.testing.assert_array_equal(dirty.histogram.counts, clean.histogram.counts)


def test_values_that_are_mostly_zero_are_fitted_and_counted():
    values = np.where(np.arange(1000) % 10 == 0, drawn("normal", 1000), 0.0)

    found = describe(values)

    assert found.census.zeros_fraction == 0.9
    assert found.best_fit == "kernel"
    assert all(np.isfinite(fit).all() for fit in found.fits.values())


@pytest.mark.parametrize("far", [1e30, -1e30])
def test_a_far_outlier_breaks_nothing(far):
    found = describe(np.append(drawn("normal", 1000), far))

    assert found.histogram.counts.sum() == 1001
    assert all(np.isfinite(fit).all() for fit in found.fits.values())


def test_clear_distance_parts_uniform_from_normal():
    """A normal fitted to a uniform is off by 0.057, where their densities cross."""
    assert describe(drawn("uniform")).distances["normal"] > CLEAR_DISTANCE
