from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.numerics.scaling import (
    LARGEST_STEPS,
    STEPS_PER_OCTAVE,
    activation_aware,
    equalizing,
    from_steps,
    migrating,
    scaled_gram,
    to_steps,
)


def test_equalized_ranges_are_the_same_on_both_sides_up_to_one_factor() -> None:
    rng = np.random.default_rng(0)
    made, read = np.exp(rng.normal(size=(2, 50)))
    s = equalizing(made, read)
    ratio = (made / s) / (read * s)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)


def test_all_of_the_unevenness_goes_to_the_weights_at_one_and_none_of_theirs_stays_at_zero() -> (
    None
):
    seen, read = np.array([1.0, 8.0, 2.0]), np.array([3.0, 1.0, 1.0])
    np.testing.assert_allclose(np.ptp(seen / migrating(seen, read, 1.0)), 0, atol=1e-12)
    np.testing.assert_allclose(np.ptp(read * migrating(seen, read, 0.0)), 0, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_what_is_never_seen_or_never_read_stays_as_it_is(alpha: float) -> None:
    seen = np.array([0.0, 5.0, 5.0, 0.0, np.inf, 1.0])
    read = np.array([1.0, 0.0, 2.0, 0.0, 1.0, np.nan])
    assert migrating(seen, read, alpha).tolist() == [1.0] * 6
    assert activation_aware(np.zeros(3), alpha).tolist() == [1.0, 1.0, 1.0]


def test_even_activations_are_left_alone() -> None:
    assert to_steps(activation_aware(np.full(4, 7.0), 0.8)) == (0, 0, 0, 0)


def test_steps_are_within_half_a_step_of_the_scale_and_within_the_limit() -> None:
    rng = np.random.default_rng(1)
    scale = np.exp2(rng.uniform(-9, 9, 1000))
    back = from_steps(to_steps(scale))
    assert np.abs(np.log2(back / scale)).max() <= 0.5 / STEPS_PER_OCTAVE + 1e-12
    assert to_steps(np.array([1e30, 1e-30])) == (LARGEST_STEPS, -LARGEST_STEPS)


def test_a_gram_matrix_follows_its_inputs_exactly() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 6))
    factors = np.exp2(rng.integers(-3, 4, 6).astype(float))  # exact in every product
    gram = x.T @ x
    np.testing.assert_array_equal(scaled_gram(gram, factors), (x / factors).T @ (x / factors))
