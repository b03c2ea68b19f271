from __future__ import annotations

import itertools

import numpy as np
import pytest

from onnxsqueeze.numerics.rounding import damped
from onnxsqueeze.numerics.sparsity import (
    Wanted,
    energy_lost,
    losses,
    proximal,
    repaired,
    soft_threshold,
    sparse,
    worth_after,
)


def gram(features, seed=0, rows=500):
    """Second moments of features that share a part, so that some can stand in for others."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)) * np.exp(rng.normal(size=features) / 2)
    x += rng.normal(size=(rows, 1))
    return damped(x.T @ x / rows, rows)


def weights(rows, features, seed=1):
    return np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)


def best_on(row, kept, matrix):
    """The least squares solution where ``kept``, by a direct solve in float64."""
    found = np.zeros(len(row))
    found[kept] = np.linalg.solve(matrix[np.ix_(kept, kept)], (matrix @ row)[kept])
    return found


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.77, 0.95])
@pytest.mark.parametrize("shrink", [None, "l1", "l2"])
def test_exactly_the_fraction_goes_and_less_is_lost_than_by_zeroing(fraction, shrink):
    w, h = weights(12, 40), gram(40)
    found = sparse(w, Wanted(fraction), h, shrink=shrink)
    assert np.count_nonzero(~found.kept) == int(fraction * w.size)
    assert (found.rows[~found.kept] == 0).all()
    zeroed = np.where(found.kept, w, 0)
    assert energy_lost(w, found.rows, h) < energy_lost(w, zeroed, h)


def test_it_loses_less_than_magnitudes_that_are_repaired_too():
    w, h = weights(12, 40), gram(40)
    by_size = repaired(w, Wanted(0.5).kept(np.abs(w)), h)
    assert energy_lost(w, sparse(w, Wanted(0.5), h).rows, h) < energy_lost(w, by_size.rows, h)


def test_with_independent_inputs_of_one_size_it_is_magnitude_pruning():
    w = weights(9, 16)
    found, plain = sparse(w, Wanted(0.6), 2 * np.eye(16)), sparse(w, Wanted(0.6))
    np.testing.assert_array_equal(found.kept, plain.kept)
    np.testing.assert_array_equal(found.rows, plain.rows)  # and nothing is there to be repaired
    np.testing.assert_array_equal(plain.rows, np.where(plain.kept, w, 0))
    assert np.abs(w[~plain.kept]).max() <= np.abs(w[plain.kept]).min()


@pytest.mark.parametrize("matrix", [None, gram(8)])
@pytest.mark.parametrize("shrink", [None, "l1", "l2"])
def test_where_nothing_goes_nothing_changes(matrix, shrink):
    w = weights(3, 8)
    np.testing.assert_array_equal(sparse(w, Wanted(0.0), matrix, shrink=shrink).rows, w)


@pytest.mark.parametrize(("stay", "of"), [(2, 4), (1, 4), (4, 8)])
@pytest.mark.parametrize("matrix", [None, gram(32)])
@pytest.mark.parametrize("shrink", [None, "l1", "l2"])
def test_a_pattern_holds_in_each_group(stay, of, matrix, shrink):
    w = weights(6, 32)
    found = sparse(w, Wanted.of_pattern(stay, of), matrix, shrink=shrink)
    counts = found.kept.reshape(6, -1, of).sum(2)
    assert (counts == stay).all()
    assert (np.count_nonzero(found.rows.reshape(6, -1, of), axis=2) <= stay).all()


def test_a_pattern_that_does_not_divide_the_features_is_refused():
    with pytest.raises(ValueError, match="pattern 2:4 does not divide 6 features"):
        sparse(weights(2, 6), Wanted.of_pattern(2, 4))


@pytest.mark.parametrize("seed", range(6))
def test_one_weight_that_goes_is_the_best_one_with_the_best_repair(seed):
    """Brute force: every weight of a row in turn, the others by least squares."""
    w, h = weights(1, 10, seed), gram(10, seed)
    tried = []
    for k in range(10):
        kept = np.arange(10) != k
        tried.append(best_on(w[0].astype(np.float64), kept, h))
    energies = [energy_lost(w, row[None], h) for row in tried]
    prices = np.square(w[0]) / np.diag(np.linalg.inv(h))
    np.testing.assert_allclose(energies, prices, rtol=1e-5)  # w² / (H⁻¹)_kk is exact
    found = sparse(w, Wanted(0.1), h)
    assert np.flatnonzero(~found.kept).tolist() == [np.argmin(energies)]
    # 36 steps solve 9 unknowns; what is left is float32's, times the matrix's condition.
    slack = np.finfo(np.float32).eps * np.linalg.cond(h) * np.abs(w).max()
    np.testing.assert_allclose(found.rows[0], tried[np.argmin(energies)], atol=slack)


@pytest.mark.parametrize("seed", range(3))
def test_what_stays_is_the_least_squares_solution(seed):
    w, h = weights(5, 12, seed), gram(12, seed)
    kept = np.random.default_rng(seed).random(w.shape) < 0.6
    found = repaired(w, kept, h).rows
    expected = [best_on(w[r].astype(np.float64), kept[r], h) for r in range(5)]
    slack = np.finfo(np.float32).eps * np.linalg.cond(h) * np.abs(w).max()
    np.testing.assert_allclose(found, expected, atol=slack)


def test_of_a_tiny_row_it_comes_near_the_best_of_all_choices():
    """All 70 ways to keep 4 of 8: the way taken may not be worse than half of them."""
    for seed in range(8):
        w, h = weights(1, 8, seed), gram(8, seed)
        ways = itertools.combinations(range(8), 4)
        energies = sorted(
            energy_lost(w, best_on(w[0].astype(np.float64), np.isin(range(8), way), h)[None], h)
            for way in ways
        )
        found = energy_lost(w, sparse(w, Wanted(0.5), h).rows, h)
        assert found < energies[35]
        assert found >= energies[0] * (1 - 1e-4)


def test_other_scores_choose_what_goes_and_the_rest_makes_up_for_it():
    w, h = weights(4, 8), gram(8)
    scores = np.random.default_rng(5).random(w.shape)
    found = sparse(w, Wanted(0.5), h, scores=scores)
    assert scores[found.kept].min() > scores[~found.kept].max()
    assert energy_lost(w, found.rows, h) < energy_lost(w, np.where(found.kept, w, 0), h)


def test_losses_rise_with_the_fraction_and_agree_with_what_is_made():
    w, h = weights(12, 40), gram(40)
    found = losses(w, h, (0.0, 0.2, 0.5, 0.8, 1.0))
    assert found[0] == 0
    assert (np.diff(found) > 0).all()
    assert found[-1] == pytest.approx(energy_lost(w, np.zeros_like(w), h))


def test_the_first_loss_lies_between_the_best_repair_and_none():
    w, h = weights(12, 40), gram(40)
    kept = Wanted(0.5).kept(np.square(w) / np.diag(np.linalg.inv(h)).astype(np.float32))
    best = [best_on(w[r].astype(np.float64), kept[r], h) for r in range(12)]
    (found,) = losses(w, h, (0.5,))
    rounding = 1 + 1e-4  # float32 against float64, over 480 values
    assert energy_lost(w, np.array(best), h) <= found * rounding
    assert found < energy_lost(w, np.where(kept, w, 0), h)


def test_proximal_steps_never_raise_the_penalised_energy_and_end_where_nothing_pulls():
    w, h, penalty = weights(4, 10).astype(np.float64), gram(10), 0.3

    def objective(v):
        return 0.5 * energy_lost(w, v, h) + penalty * np.abs(v).sum()

    now, seen = w, [objective(w)]
    for _ in range(8):
        now = proximal(w, h, penalty, now, steps=3)
        seen.append(objective(now))
    rounding = np.finfo(np.float32).eps * seen[0] * w.size
    assert (np.diff(seen) <= rounding).all()
    end = proximal(w, h, penalty, now, steps=3000)
    pull = (end - w) @ h  # optimality: −pull is λ·sign where not zero, within ±λ where zero
    slack = 1e-3 * penalty
    np.testing.assert_allclose(pull[end != 0], -penalty * np.sign(end[end != 0]), atol=slack)
    assert (np.abs(pull[end == 0]) <= penalty + slack).all()
    assert 0 < np.count_nonzero(end == 0) < end.size


def test_with_independent_inputs_a_proximal_step_is_the_soft_threshold():
    w = weights(3, 6)
    np.testing.assert_allclose(
        proximal(w, np.eye(6), 0.4, w), soft_threshold(w, 0.4), rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(worth_after(w, np.eye(6), 0.5, "l2"), np.abs(w) / 2, rtol=1e-6)
    kept = Wanted(0.5).kept(worth_after(w, np.eye(6), 0.5, "l1"))
    np.testing.assert_array_equal(kept, Wanted(0.5).kept(np.abs(w)))


def test_all_zeros_stay_zeros():
    w = np.zeros((2, 8), np.float32)
    for shrink in (None, "l1", "l2"):
        np.testing.assert_array_equal(sparse(w, Wanted(0.5), gram(8), shrink=shrink).rows, w)
