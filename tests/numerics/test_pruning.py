"""Losses of removal against the least squares solution itself, for every order and block size."""

from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.numerics.pruning import (
    Consumer,
    ranked,
    removal,
    ridged,
    unit_scores,
)

RIDGE = 1e-3
ROUNDING = 1e-9
"""Conditions are under 1e4 with this ridge, so float64 results agree to 1e-16 · 1e4 · sums."""


def consumer(features: int, block: int = 1, out: int = 3, seed: int = 0) -> Consumer:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((400, features)) @ rng.standard_normal((features, features))
    weight = rng.standard_normal((out, features))
    return Consumer(weight, x.T @ x / len(x), np.arange(features) // block)


def best_loss(one: Consumer, gone: list[int]) -> float:
    """Loss of the best weight without the units, by solving for it, as a part of the energy."""
    gram = ridged(one.gram, RIDGE)
    kept = np.flatnonzero(~np.isin(one.units, gone))
    left = np.zeros_like(one.weight)
    solution = np.linalg.solve(gram[np.ix_(kept, kept)], gram[kept] @ one.weight.T)
    left[:, kept] = solution.T
    error = one.weight - left
    return float(np.vdot(error @ gram, error)) / one.energy


@pytest.mark.parametrize(("block", "out"), [(1, 3), (3, 3), (1, 40)])
def test_losses_are_those_of_the_best_weight(block: int, out: int) -> None:
    one = consumer(12, block, out)
    count = 12 // block
    found = removal([one], count, RIDGE)
    assert sorted(found.order.tolist()) == list(range(count))
    expected = [best_loss(one, found.order[:n].tolist()) for n in range(count)]
    np.testing.assert_allclose(found.losses[:-1], expected, rtol=0, atol=ROUNDING)
    assert found.losses[0] == 0
    assert (np.diff(found.losses) >= 0).all()


def test_many_units_go_at_once_and_their_joint_loss_is_exact() -> None:
    one = consumer(96)  # 3 in the first round
    found = removal([one], 96, RIDGE)
    for n in (1, 2, 3, 50, 95):
        expected = best_loss(one, found.order[:n].tolist())
        assert found.losses[n] == pytest.approx(expected, rel=1e-6)


def test_a_given_order_has_the_losses_of_that_order() -> None:
    one = consumer(70)
    order = np.random.default_rng(1).permutation(70)
    found = removal([one], 70, RIDGE, order)
    np.testing.assert_array_equal(found.order, order)
    for n in (1, 2, 69):
        expected = best_loss(one, order[:n].tolist())
        assert found.losses[n] == pytest.approx(expected, rel=1e-6)


def test_losses_of_consumers_add_up_each_as_a_part_of_its_own_output() -> None:
    one, other = consumer(8, seed=0), consumer(8, seed=1)
    large = Consumer(1000 * other.weight, other.gram, other.units)
    order = np.arange(8)
    both = removal([one, large], 8, RIDGE, order).losses
    alone = [removal([each], 8, RIDGE, order).losses for each in (one, other)]
    np.testing.assert_allclose(both, alone[0] + alone[1], rtol=0, atol=ROUNDING)


def test_a_copy_goes_first_at_no_loss() -> None:
    x = np.random.default_rng(0).standard_normal((300, 6))
    x[:, 4] = x[:, 1]
    one = Consumer(np.ones((2, 6)), x.T @ x / 300, np.arange(6))
    found = removal([one], 6, 1e-6)
    assert found.order[0] in (1, 4)
    # What is left of the copy is the ridge's part of an energy that is about the features' sum.
    assert found.losses[1] < 1e-5
    assert set(found.kept(5).tolist()) == set(range(6)) - {int(found.order[0])}


def test_features_of_no_unit_stay_and_take_over() -> None:
    x = np.random.default_rng(0).standard_normal((300, 2))
    x = np.concatenate([x, x], axis=1)
    one = Consumer(np.ones((1, 4)), x.T @ x / 300, np.array([0, 1, -1, -1]))
    found = removal([one], 2, 1e-6)
    assert found.losses[-1] < 1e-4


def test_a_unit_that_a_consumer_does_not_read_costs_nothing_there() -> None:
    one = consumer(4)
    found = removal([one], 6, RIDGE)
    assert set(found.order[:2].tolist()) == {4, 5}
    assert found.losses[2] == 0


def test_dead_input_has_no_loss() -> None:
    one = Consumer(np.ones((2, 3)), np.zeros((3, 3)), np.arange(3))
    np.testing.assert_array_equal(removal([one], 3, RIDGE).losses, np.zeros(4))


@pytest.mark.parametrize(
    ("criterion", "expected"), [("l1", [2.0, 1.0]), ("l2", [5**0.5, 1.0]), ("activation", [2, 9])]
)
def test_scores_are_means_over_a_units_weights(criterion: str, expected: list[float]) -> None:
    weight = np.array([[1.0, 3.0, 1.0, 1.0]])
    gram = np.diag([1.0, 1.0, 81.0, 81.0])
    one = Consumer(weight, gram, np.array([0, 0, 1, 1]))
    found = unit_scores([one], 2, criterion)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, np.asarray(expected) / np.mean(expected), rtol=1e-12)


def test_a_feature_that_is_always_zero_goes_first_at_no_loss() -> None:
    one = consumer(6)
    gram = one.gram.copy()
    gram[3], gram[:, 3] = 0, 0
    found = removal([Consumer(one.weight, gram, one.units)], 6, 0.1)
    assert found.order[0] == 3
    assert found.losses[1] == 0


def test_scores_of_obs_are_the_losses_of_single_units() -> None:
    one = consumer(6, block=2)
    found = unit_scores([one], 3, "obs")
    for unit in range(3):
        order = np.array([unit, *(u for u in range(3) if u != unit)])
        assert found[unit] == pytest.approx(removal([one], 3, 0.01, order).losses[1], rel=1e-9)


def test_obs_loses_no_more_than_magnitude() -> None:
    one = consumer(24)
    obs, l1 = (ranked([one], 24, RIDGE, kind).losses for kind in ("obs", "l1"))
    assert obs[1] <= l1[1] + ROUNDING
    assert obs[12] < l1[12]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="must agree"):
        Consumer(np.ones((2, 3)), np.eye(3), np.arange(2))
    with pytest.raises(ValueError, match="ridge over 0"):
        removal([consumer(4)], 4, 0.0)
    with pytest.raises(ValueError, match="needs consumers"):
        removal([], 4, RIDGE)
