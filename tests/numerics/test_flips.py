from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.numerics.flips import background, expected_flips
from onnxsqueeze.numerics.special import erf, normal_cdf


def scores(rows, classes, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, classes)) * 3


@pytest.mark.parametrize("classes", [2, 3, 5, 40])
@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_the_mean_is_near_the_share_that_is_counted(classes, noise):
    """Errors are normal here, as the model assumes; what is left is the second rival's chance."""
    y = scores(20_000, classes)
    other = y + np.random.default_rng(1).normal(size=y.shape) * noise
    counted = (y.argmax(1) != other.argmax(1)).mean()

    expected = expected_flips(y, other).mean()

    assert 0.6 * counted <= expected <= 1.4 * counted


def test_equal_scores_never_flip_and_neither_do_shifted_ones():
    y = scores(50, 7)
    assert not expected_flips(y, y).any()
    assert expected_flips(y, y + 4.0).max() < 1e-12


def test_a_larger_margin_is_safer_and_a_larger_error_is_not():
    y = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -1.0]])
    error = np.array([0.3, -0.3, 0.0])

    near, far = expected_flips(y, y + error)
    near_more, _ = expected_flips(y, y + 2 * error)

    assert 0 < far < near < near_more < 0.5


def test_distributions_are_compared_by_their_logarithms():
    y = scores(30, 4)
    other = y + np.random.default_rng(2).normal(size=y.shape) * 0.2

    def softmax(z):
        powers = np.exp(z - z.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    # Logarithms of the smallest probabilities are cut off; none here is that small.
    np.testing.assert_allclose(
        expected_flips(softmax(y), softmax(other)), expected_flips(y, other), atol=1e-6
    )


def test_background_is_the_class_of_over_half_of_the_rows():
    assert background(np.array([2, 2, 2, 1])) == 2
    assert background(np.array([2, 2, 1, 1])) == -1
    assert background(np.array([], np.int64)) == -1


def test_erf_is_within_its_stated_error():
    import math

    x = np.linspace(-4, 4, 801)
    exact = np.array([math.erf(value) for value in x])
    assert np.abs(erf(x) - exact).max() <= 1.5e-7
    assert (np.diff(normal_cdf(x)) >= 0).all()
