from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.numerics.information import (
    binned,
    bins_for,
    components,
    feature_information,
    information,
)


def test_a_code_tells_its_own_entropy() -> None:
    code = np.repeat(np.arange(4), 250)
    # log 4, and 3 / 2n of each marginal less that of the joint: one correction is left.
    assert information(code, code) == pytest.approx(np.log(4) + 3 / 2000, abs=1e-12)


def test_independent_codes_tell_nothing() -> None:
    a, b = np.divmod(np.arange(1600), 40)
    assert information(a % 4, b % 4) == 0


def test_the_correction_takes_away_the_bias_of_few_samples() -> None:
    """Plug-in information of independent codes is (a - 1)(b - 1) / 2n too high in the mean."""
    rng = np.random.default_rng(0)
    samples, values, runs = 200, 5, 200
    found = np.mean([information(*rng.integers(0, values, (2, samples))) for _ in range(runs)])
    bias = (values - 1) ** 2 / (2 * samples)
    # 2n·I is chi² with 16 degrees of freedom, of deviation √32, and what is under zero is cut:
    # what is left is at most the mean of the positive half, under half of the deviation.
    assert found <= 0.5 * np.sqrt(2) * (values - 1) / (2 * samples) * 1.2
    assert found < bias


def test_information_of_normal_pairs_is_near_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    rho, count = 0.8, 20000
    x = rng.normal(size=count)
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=count)
    exact = -0.5 * np.log(1 - rho**2)
    bins = bins_for(count)
    found = information(binned(x, bins), binned(y, bins))
    assert found < exact  # data processing: bins never tell more
    assert found > 0.9 * exact


def test_equal_values_share_a_bin() -> None:
    values = np.concatenate([np.zeros(60), np.linspace(1, 2, 40)])
    codes = binned(values, 10)
    assert len(np.unique(codes[:60])) == 1
    assert codes[0] not in codes[60:]


def test_components_are_the_directions_of_most_variance() -> None:
    rng = np.random.default_rng(2)
    output = rng.normal(size=(300, 6)) * np.array([10, 5, 1, 1, 1, 1])
    scores, energies = components(output)
    assert scores.shape == (300, 4)
    assert (np.diff(energies) <= 0).all()
    assert abs(np.corrcoef(scores[:, 0], output[:, 0])[0, 1]) > 0.99


def test_vectors_count_by_what_they_vary_in() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(500, 3))
    output = np.column_stack([20 * features[:, 0], features[:, 1], rng.normal(size=500)])
    found = feature_information(features, output)
    assert found[0] > 10 * max(found[1], found[2])


def test_a_constant_feature_tells_nothing() -> None:
    assert feature_information(np.ones((100, 1)), np.arange(100) % 2)[0] == 0
