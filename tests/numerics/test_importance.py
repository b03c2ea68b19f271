from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.numerics.importance import (
    GradientSums,
    activation,
    grouped,
    l1,
    l2,
    normalised,
    obs,
)

EPS = float(np.finfo(np.float32).eps)


def test_l1_and_l2_rank_single_weights_alike() -> None:
    w = np.random.default_rng(0).normal(size=(5, 7))
    assert np.array_equal(np.argsort(l1(w), axis=None), np.argsort(l2(w), axis=None))


def test_activation_is_the_error_without_any_repair() -> None:
    """Removing w alone changes its output by w·x, of root mean square |w|·‖x‖."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(50, 6)), rng.normal(size=(3, 6))
    scores = activation(w, x.T @ x / len(x))
    for out, feature in np.ndindex(w.shape):
        error = np.sqrt(np.mean(np.square(w[out, feature] * x[:, feature])))
        assert scores[out, feature] == pytest.approx(error, rel=8 * EPS)


def test_obs_is_the_error_after_the_best_repair() -> None:
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(3, 6))
    gram, ridge = x.T @ x / len(x), 1e-9
    scores = obs(w, gram, ridge)
    # Of least squares without the feature; the ridge moves a solution by its part of the
    # condition of the matrix, which is squared in the error.
    bound = 8 * EPS + ridge * np.linalg.cond(gram)
    for feature in range(6):
        others = np.delete(x, feature, axis=1)
        residual = x[:, feature] - others @ np.linalg.lstsq(others, x[:, feature])[0]
        error = np.mean(np.square(residual))
        np.testing.assert_allclose(scores[:, feature], np.square(w[:, feature]) * error, bound)


def test_a_feature_that_is_always_zero_is_worth_nothing() -> None:
    gram = np.diag([1.0, 0.0])
    assert obs(np.array([[1.0, 100.0]]), gram)[0, 1] == 0


def test_gradient_sums_are_means() -> None:
    sums = GradientSums()
    products = np.random.default_rng(3).normal(size=(10, 4))
    for one in products:
        sums.add(one)
    np.testing.assert_allclose(sums.taylor(), np.abs(products).mean(axis=0), rtol=4 * EPS)
    np.testing.assert_allclose(sums.fisher(), np.square(products).mean(axis=0), rtol=4 * EPS)


@pytest.mark.parametrize(("how", "wanted"), [("sum", [3, 4]), ("mean", [1.5, 4]), ("max", [2, 4])])
def test_units_gather_their_weights(how: str, wanted: list[float]) -> None:
    scores, units = np.array([[1.0, 2.0], [4.0, 9.0]]), np.array([[0, 0], [1, -1]])
    assert grouped(scores, units, 2, how).tolist() == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_a_unit_without_weights_scores_nothing(how: str) -> None:
    assert grouped(np.ones(2), np.array([0, 0]), 2, how)[1] == 0  # type: ignore[arg-type]


def test_normalising_takes_away_the_scale_of_a_layer_alone() -> None:
    scores = np.array([1.0, 2.0, 6.0])
    assert normalised(scores, "layer").mean() == 1
    np.testing.assert_allclose(normalised(1000 * scores, "layer"), normalised(scores, "layer"))
    assert np.array_equal(normalised(scores, "none"), scores)
    assert np.array_equal(normalised(np.zeros(3), "layer"), np.zeros(3))
