from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.numerics.pruning_refit import (
    LEAST_RIDGE,
    MOST_RIDGE,
    Inputs,
    Moments,
    fitted,
    refit,
    refit_to,
    ridges,
)


def drawn(rows: int, features: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).standard_normal((features, features))
    return rng.standard_normal((rows, features)) @ mix + 1.5


def moments(x: np.ndarray, t: np.ndarray) -> Moments:
    n = len(x)
    energy = float(np.square(t).sum()) / n
    return Moments(x.T @ x / n, t.T @ x / n, t.mean(axis=0), x.mean(axis=0), energy, n)


def test_moments_of_two_sets_are_those_of_all_rows() -> None:
    x, t = drawn(50, 4), drawn(50, 3, seed=1)
    both = moments(x[:20], t[:20]) + moments(x[20:], t[20:])
    whole = moments(x, t)
    for name in ("gram", "cross", "mean_target", "mean", "energy"):
        np.testing.assert_allclose(getattr(both, name), getattr(whole, name), rtol=1e-12)
    assert both.rows == 50
    assert both.rows_per_feature == 12.5


def test_error_is_the_mean_squared_error() -> None:
    x, t = drawn(60, 4), drawn(60, 3, seed=1)
    weight = np.random.default_rng(2).standard_normal((3, 4))
    expected = np.square(t - x @ weight.T).sum() / 60
    assert moments(x, t).error(weight) == pytest.approx(expected, rel=1e-10)
    spread = np.square((t - t.mean(axis=0)) - (x - x.mean(axis=0)) @ weight.T).sum() / 60
    assert moments(x, t).centered().error(weight) == pytest.approx(spread, rel=1e-10)


def test_inputs_without_features_are_the_moments_of_the_same_rows() -> None:
    x = drawn(80, 5)
    weight = np.random.default_rng(2).standard_normal((3, 5))
    kept = np.array([0, 3, 4])
    inputs = Inputs(x[:30].T @ x[:30] / 30, x[:30].mean(axis=0), 30)
    inputs += Inputs(x[30:].T @ x[30:] / 50, x[30:].mean(axis=0), 50)
    found, expected = inputs.without(weight, kept), moments(x[:, kept], x @ weight.T)
    for name in ("gram", "cross", "mean_target", "mean", "energy", "rows"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-10)


def test_a_fit_finds_the_weight_that_made_the_targets() -> None:
    x = drawn(500, 6)
    truth = np.random.default_rng(3).standard_normal((2, 6))
    ridge = 1e-9
    found = fitted(moments(x, x @ truth.T), np.zeros((2, 6)), ridge)
    # The ridge takes λ/(λ + smallest eigenvalue) of the weight away.
    gram = x.T @ x / len(x)
    part = ridge * np.trace(gram) / 6 / np.linalg.eigvalsh(gram)[0]
    assert np.linalg.norm(found - truth) <= 2 * part * np.linalg.norm(truth)


def test_more_ridge_goes_to_the_prior() -> None:
    x, prior = drawn(50, 3), np.full((2, 3), 7.0)
    some = moments(x, drawn(50, 2, seed=1))
    errors = [np.abs(fitted(some, prior, r) - prior).max() for r in (1e-3, 1.0, 1e3, 1e6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4 * 7 * 3


def test_what_is_missing_is_made_up_for_by_its_copy() -> None:
    x = drawn(400, 4)
    x[:, 3] = x[:, 0]
    weight = np.random.default_rng(3).standard_normal((2, 4))
    kept = np.array([0, 1, 2])
    parts = [moments(rows[:, kept], rows @ weight.T) for rows in (x[:320], x[320:])]
    fit = refit(*parts, weight[:, kept], has_bias=True)
    expected = weight[:, kept].copy()
    expected[:, 0] += weight[:, 3]
    # At 100 rows per feature the smallest ridge is LEAST_RIDGE; see the test above.
    gram = np.cov(x[:, kept].T)
    part = LEAST_RIDGE * np.trace(gram) / 3 / np.linalg.eigvalsh(gram)[0]
    assert np.linalg.norm(fit.weight - expected) <= 2 * part * np.linalg.norm(expected)
    assert fit.gain < 1e-6


@pytest.mark.parametrize("has_bias", [True, False])
def test_bias_makes_the_means_equal(has_bias: bool) -> None:
    x, t = drawn(300, 3), drawn(300, 2, seed=1)
    fit = refit(
        moments(x[:200], t[:200]), moments(x[200:], t[200:]), np.zeros((2, 3)), has_bias=has_bias
    )
    made = x @ fit.weight.T + fit.bias
    np.testing.assert_allclose(made.mean(axis=0), t.mean(axis=0), rtol=0, atol=1e-9)


def test_where_no_fit_helps_the_weight_stays_as_it_was_cut() -> None:
    cut = np.random.default_rng(0).standard_normal((2, 30))
    rng = np.random.default_rng(1)
    few, rest = rng.standard_normal((5, 30)), drawn(500, 30)
    noise = 100 * rng.standard_normal((5, 2))
    fit = refit(
        moments(few, few @ cut.T + noise), moments(rest, rest @ cut.T), cut, has_bias=False
    )
    assert np.isinf(fit.ridge)
    np.testing.assert_array_equal(fit.weight, cut)
    assert fit.gain == 1.0


def test_ridges_grow_as_rows_get_fewer() -> None:
    eye = np.eye(10)
    many, few = (ridges(Moments(eye, eye, eye[0], eye[0], 1.0, rows)) for rows in (10_000_000, 1))
    assert all(a <= b for a, b in zip(many, few, strict=True))
    assert min(many) == LEAST_RIDGE
    assert max(few) == MOST_RIDGE


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("out", [3, 40])
def test_a_fit_to_the_rows_own_products_is_that_to_any_targets(out: int, has_bias: bool) -> None:
    few, rest = drawn(300, 8), drawn(100, 8, seed=1)
    weight = np.random.default_rng(2).standard_normal((out, 8))
    kept = np.array([0, 2, 3, 6, 7])
    splits = [Inputs(x.T @ x / len(x), x.mean(axis=0), len(x)) for x in (few, rest)]
    found = refit_to(*splits, weight, kept, has_bias=has_bias)
    targets = [moments(x[:, kept], x @ weight.T) for x in (few, rest)]
    expected = refit(*targets, weight[:, kept], has_bias=has_bias)
    assert found.ridge == expected.ridge
    assert found.gain == pytest.approx(expected.gain, rel=1e-6)
    # The root is exact to 1e-10 of its trace, and so are the errors; the fits to about its root.
    np.testing.assert_allclose(found.weight, expected.weight, atol=1e-4)
    np.testing.assert_allclose(found.bias, expected.bias, atol=1e-4)
