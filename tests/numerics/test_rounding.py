from __future__ import annotations

import itertools

import numpy as np
import pytest

from onnxsqueeze.numerics import rounding
from onnxsqueeze.numerics.grid import limits, max_scale, to_grid
from onnxsqueeze.numerics.rounding import (
    COLUMNS_AT_ONCE,
    INVERTED_AT_ONCE,
    compensated,
    damped,
    descended,
    factor,
    lost,
    ridge,
    shifted,
)


def correlated(features, rows=200, seed=0):
    """A Gram matrix of inputs that share a common part, as activations do."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)) * rng.uniform(0.2, 2.0, features)
    x += 1.5 * rng.normal(size=(rows, 1))
    return damped(x.T @ x / rows, rows)


def weights(rows, features, seed=1):
    return np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)


def energy(w, codes, scale, gram):
    steps = np.repeat(scale.astype(np.float64), w.shape[1] // scale.shape[1], axis=1)
    error = w - codes * steps
    return np.einsum("rk,kl,rl->r", error, gram, error)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [None, 8])
def test_without_correlation_it_rounds_to_the_nearest(bits, block):
    w = weights(5, 32)
    gram = np.diag(np.random.default_rng(2).uniform(0.1, 9.0, 32))
    scale = max_scale(w, bits, block)
    np.testing.assert_array_equal(compensated(w, gram, scale, bits), to_grid(w, scale, bits))


def test_the_second_of_two_alike_columns_makes_up_for_the_first():
    gram = np.array([[1.0, 0.99], [0.99, 1.0]])
    w, scale = np.array([[0.4, 0.4]], np.float32), np.ones((1, 1), np.float32)
    assert to_grid(w, scale, 4).tolist() == [[0, 0]]
    assert compensated(w, gram, scale, 4).tolist() == [[0, 1]]


def test_the_column_with_the_larger_diagonal_goes_first():
    gram = np.array([[1.0, 1.1], [1.1, 1.3]])
    w, scale = np.array([[0.4, 0.4]], np.float32), np.ones((1, 1), np.float32)
    assert compensated(w, gram, scale, 4).tolist() == [[1, 0]]


def test_it_lies_between_the_optimum_and_the_nearest_on_average():
    found, nearest, best = [], [], []
    every = np.array(list(itertools.product(range(limits(4)[0], limits(4)[1] + 1), repeat=3)))
    for seed in range(40):
        gram, w = correlated(3, seed=seed), weights(1, 3, seed)
        scale = max_scale(w, 4)
        found.append(energy(w, compensated(w, gram, scale, 4), scale, gram)[0])
        nearest.append(energy(w, to_grid(w, scale, 4), scale, gram)[0])
        error = w.astype(np.float64) - every * scale.astype(np.float64)
        best.append(np.einsum("ck,kl,cl->c", error, gram, error).min())
    assert (np.array(best) <= np.array(found) * (1 + 1e-12)).all()
    assert np.mean(found) < np.mean(nearest)


@pytest.mark.parametrize("features", [5, COLUMNS_AT_ONCE, COLUMNS_AT_ONCE + 70])
def test_the_error_keeps_the_bound_of_rounding_plane_by_plane(features):
    """Each step errs by half a step at most: E = Σ (e_k / U_kk)² ≤ Σ s² / (4 U_kk²), U'U = H⁻¹."""
    gram, w = correlated(features, rows=4 * features), weights(6, features)
    scale = 1.2 * max_scale(w, 8)  # the moved values stay within the codes
    codes = compensated(w, gram, scale, 8)
    assert np.abs(codes).max() < 127
    order = np.argsort(-np.diag(gram), kind="stable")
    ordered = gram[np.ix_(order, order)]
    # 1 / U_kk² is the variance of column k given those after it: a pivot of the factorisation
    # that starts from the end.
    pivots = np.square(np.diag(np.linalg.cholesky(ordered[::-1, ::-1])))
    bound = np.square(scale[:, 0]) / 4 * pivots.sum()
    error = energy(w, codes, scale, gram)
    assert (error <= bound * (1 + 1e-3)).all()
    assert error.sum() < energy(w, to_grid(w, scale, 8), scale, gram).sum()


def test_columns_taken_in_parts_give_the_same_codes(monkeypatch):
    gram, w = correlated(64, rows=500), weights(6, 64)
    scale = max_scale(w, 4)
    at_once = compensated(w, gram, scale, 4)
    monkeypatch.setattr(rounding, "COLUMNS_AT_ONCE", 12)
    np.testing.assert_array_equal(compensated(w, gram, scale, 4), at_once)


def test_blocks_use_their_own_scale():
    gram, w = correlated(32), weights(4, 32)
    w[:, :16] *= 10
    scale = max_scale(w, 4, block=16)
    codes = compensated(w, gram, scale, 4)
    assert energy(w, codes, scale, gram).sum() < energy(w, to_grid(w, scale, 4), scale, gram).sum()


def test_forced_zeros_stay_zero_and_are_made_up_for():
    gram, w = correlated(24), weights(8, 24)
    zeros = np.random.default_rng(3).random(w.shape) < 0.3
    scale = max_scale(w, 4)
    codes = compensated(w, gram, scale, 4, zeros)
    assert (codes[zeros] == 0).all()
    plain = np.where(zeros, 0, to_grid(w, scale, 4)).astype(np.int8)
    assert energy(w, codes, scale, gram).sum() < energy(w, plain, scale, gram).sum()
    free = compensated(w, gram, scale, 4, np.zeros_like(zeros))
    np.testing.assert_array_equal(free, compensated(w, gram, scale, 4))


def test_codes_stay_within_the_grid():
    gram, w = correlated(16), weights(8, 16)
    codes = compensated(w, gram, max_scale(w, 4) / 3, 4)
    assert codes.dtype == np.int8
    assert (codes.min(), codes.max()) == limits(4)


@pytest.mark.parametrize(
    ("rows", "ridge"), [(1, 1.0), (16, 1.0), (160, 0.1), (1600, 0.01), (10**6, 0.01)]
)
def test_the_ridge_shrinks_with_the_rows_between_one_and_a_hundred_percent(rows, ridge):
    np.testing.assert_allclose(damped(2 * np.eye(4), rows), 2 * (1 + ridge) * np.eye(4))


def test_inputs_that_are_all_zero_leave_a_matrix_that_can_be_factorised():
    np.testing.assert_array_equal(damped(np.zeros((3, 3)), 10), np.eye(3))
    w = weights(2, 3)
    scale = max_scale(w, 8)
    codes = compensated(w, damped(np.zeros((3, 3)), 10), scale, 8)
    np.testing.assert_array_equal(codes, to_grid(w, scale, 8))


@pytest.mark.parametrize("features", [1, INVERTED_AT_ONCE, INVERTED_AT_ONCE + 1, 200])
def test_the_factor_is_that_of_the_inverse_in_its_order(features):
    gram = correlated(features, rows=4 * features)
    found = factor(gram)
    assert (np.diff(np.diag(gram)[found.order]) <= 0).all()
    upper = found.upper.astype(np.float64)
    np.testing.assert_array_equal(upper, np.triu(upper))
    ordered = gram[np.ix_(found.order, found.order)]
    # U is rounded to float32 once: the product is off by 2⁻²⁴ times the condition of H, twice.
    slack = 2 * 2.0**-24 * np.linalg.cond(ordered) * features
    np.testing.assert_allclose(upper.T @ upper @ ordered, np.eye(features), rtol=0, atol=slack)


def test_a_known_factor_gives_the_same_codes():
    gram, w = correlated(48), weights(6, 48)
    scale = max_scale(w, 4)
    found = compensated(w, gram, scale, 4, known=factor(gram))
    np.testing.assert_array_equal(found, compensated(w, gram, scale, 4))


def test_scales_of_columns_are_steps_of_their_own():
    """With w / c and C H C instead of w and H, the loss of equal codes is the same."""
    w, gram = weights(6, 24), np.diag(np.random.default_rng(2).uniform(0.5, 2.0, 24))
    column = np.exp2(np.random.default_rng(3).integers(-2, 3, 24)).astype(np.float32)
    scale = max_scale(w / column, 4)
    found = compensated(w, gram, scale, 4, column=column)
    np.testing.assert_array_equal(found, to_grid(w / column, scale, 4))
    gram = correlated(24)
    codes = compensated(w, gram, scale, 4, column=column)
    nearest = to_grid(w / column, scale, 4)
    ones = np.ones((6, 1))
    losses = [energy(w, one * scale * column, ones, gram).sum() for one in (codes, nearest)]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("block", [None, 16])
@pytest.mark.parametrize("start", ["nearest", "compensated"])
def test_descent_never_loses_more_and_ends_where_no_code_alone_helps(start, block):
    gram, w = correlated(64), weights(8, 64)
    scale = 0.8 * max_scale(w, 4, block)
    first = to_grid(w, scale, 4) if start == "nearest" else compensated(w, gram, scale, 4)
    found = descended(first, w, gram, scale, 4)
    assert found.min() >= limits(4)[0]
    assert found.max() <= limits(4)[1]
    before, after = (energy(w, codes, scale, gram) for codes in (first, found))
    # The pulls are float32 sums of 64 products.
    assert (after <= before * (1 + 64 * 2.0**-22)).all()
    assert after.sum() < before.sum()
    settled = descended(first, w, gram, scale, 4, passes=40)
    least = energy(w, settled, scale, gram)
    for k, change in itertools.product(range(64), (-1, 1)):
        other = settled.copy()
        other[:, k] = np.clip(other[:, k].astype(int) + change, *limits(4))
        assert (energy(w, other, scale, gram) >= least * (1 - 64 * 2.0**-22)).all()


def test_descent_in_parts_gives_the_same_codes(monkeypatch):
    gram, w = correlated(64, rows=500), weights(6, 64)
    scale = max_scale(w, 4)
    first = to_grid(w, scale, 4)
    at_once = descended(first, w, gram, scale, 4)
    monkeypatch.setattr(rounding, "COLUMNS_AT_ONCE", 12)
    np.testing.assert_array_equal(descended(first, w, gram, scale, 4), at_once)


def test_descent_leaves_forced_zeros():
    gram, w = correlated(24), weights(8, 24)
    zeros = np.random.default_rng(3).random(w.shape) < 0.3
    scale = max_scale(w, 4)
    first = compensated(w, gram, scale, 4, zeros)
    found = descended(first, w, gram, scale, 4, zeros)
    assert (found[zeros] == 0).all()
    assert energy(w, found, scale, gram).sum() <= energy(w, first, scale, gram).sum()


def changed(features=12, rows=4000, seed=0):
    """Rows x, and what z a lossy layer before made of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)) + rng.normal(size=(rows, 1))
    return x, x @ (np.eye(features) + 0.1 * rng.normal(size=(features, features)))


def test_the_shifted_weight_solves_the_ridge_problem():
    (x, z), w = changed(), weights(5, 12).astype(np.float64)
    gram, drift = z.T @ z / len(z), (x - z).T @ z / len(z)
    found = shifted(w, gram, drift, len(z))
    assert found.dtype == np.float32

    def loss(one):
        kept = ridge(gram, len(z), 1.0) * np.square(one - w).sum()
        return np.square(x @ w.T - z @ one.T).sum() / len(z) + kept

    # A minimum: the slope is zero in every direction, up to the float32 of the result.
    for seed in range(5):
        way = weights(5, 12, seed + 7).astype(np.float64)
        slope = (loss(found + 1e-3 * way) - loss(found - 1e-3 * way)) / 2e-3
        assert abs(slope) < 1e-5 * loss(w)
    assert loss(found) < loss(w)


def test_inputs_that_did_not_change_leave_the_weight():
    w, gram = weights(5, 12), correlated(12)
    np.testing.assert_array_equal(shifted(w, gram, np.zeros((12, 12)), 100), w)


def test_few_rows_shift_less():
    (x, z), w = changed(), weights(5, 12)
    gram, drift = z.T @ z / len(z), (x - z).T @ z / len(z)
    moves = [np.abs(shifted(w, gram, drift, rows) - w).sum() for rows in (12, 480, 10**5)]
    assert moves == sorted(moves)


@pytest.mark.parametrize("extra", ["nothing", "zeros", "column"])
def test_groups_are_done_at_once_as_each_would_be_alone(extra):
    grams = np.stack([correlated(40, seed=k) for k in range(6)])
    w, rng = weights(12, 40), np.random.default_rng(5)
    scale, zeros = max_scale(w, 4), rng.random(w.shape) < 0.2
    column = rng.uniform(0.5, 2, 40).astype(np.float32) if extra == "column" else None

    def coded(part, gram):
        some = zeros[part] if extra == "zeros" else None
        found = compensated(w[part], gram, scale[part], 4, some, column=column)
        return descended(found, w[part], gram, scale[part], 4, some, column=column)

    together = coded(slice(None), grams)
    parts = [slice(2 * k, 2 * k + 2) for k in range(6)]
    alone = np.concatenate([coded(*one) for one in zip(parts, grams, strict=True)])
    # Sums in another order may tip a code that lies between two.
    assert (together != alone).mean() <= 0.01
    if extra == "zeros":
        assert not together[zeros].any()


def test_what_groups_lose_is_the_sum_of_what_each_loses():
    grams = np.stack([correlated(8, seed=k) for k in range(3)])
    error = weights(6, 8)
    each = [error[2 * k : 2 * k + 2].astype(np.float64) for k in range(3)]
    expected = sum(np.trace(one @ gram @ one.T) for one, gram in zip(each, grams, strict=True))
    assert lost(error, grams) == pytest.approx(expected, rel=1e-5)  # float32 sums of 48 terms


def test_factors_and_shifts_of_groups_are_those_of_each():
    grams = np.stack([correlated(100, seed=k) for k in range(3)])
    both = factor(grams)
    for k, gram in enumerate(grams):
        one = factor(gram)
        np.testing.assert_array_equal(both.order[k], one.order)
        np.testing.assert_allclose(both.upper[k], one.upper, rtol=1e-5, atol=1e-7)
    w, drift = weights(6, 100).reshape(3, 2, 100), 0.1 * grams
    found = shifted(w, grams, drift, 500)
    each = [shifted(*one, 500) for one in zip(w, grams, drift, strict=True)]
    np.testing.assert_allclose(found, np.stack(each), rtol=1e-5, atol=1e-6)
