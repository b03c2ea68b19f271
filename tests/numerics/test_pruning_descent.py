"""Where rows and features allow it, the descent finds what the normal equations do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsqueeze.numerics import pruning_descent
from onnxsqueeze.numerics.pruning_descent import Rows, descended

Array = np.ndarray[Any, Any]


def problem(rows: int, noise: float = 0.0, seed: int = 0) -> tuple[Array, Array]:
    """Rows of 6 features with scales from 1 to 32 and means of 5, and 3 targets."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 6)) * 2.0 ** np.arange(6) + 5
    weight = np.random.default_rng(77).standard_normal((3, 6))
    return x, x @ weight.T + 3 + noise * rng.standard_normal((rows, 3))


def in_float32(x: Array, t: Array) -> Rows:
    return Rows(x.astype(np.float32), t.astype(np.float32))


def test_the_weight_and_bias_that_made_the_targets_are_found() -> None:
    x, t = problem(200)
    others = in_float32(*problem(50, seed=1))
    found = descended(in_float32(x, t), others, np.zeros((3, 6)), has_bias=True)
    # float32 rows of up to 100 leave about 1e-5 of a target of up to 300.
    np.testing.assert_allclose(x @ found.weight.T + found.bias, t, atol=0.01)
    assert found.gain < 1e-6


def test_without_a_bias_the_rows_are_taken_as_they_are() -> None:
    x, t = problem(400, noise=1.0)
    split = in_float32(x, t)
    found = descended(split, split, np.zeros((3, 6)), has_bias=False)
    exact = np.linalg.lstsq(x, t, rcond=None)[0].T
    errors = [float(np.square(t - x @ w.T).sum()) for w in (found.weight, exact)]
    assert errors[0] == pytest.approx(errors[1], rel=1 - pruning_descent.WORTH)


def test_a_start_that_nothing_improves_stays() -> None:
    x, t = problem(100, noise=1.0)
    other, right = problem(50, seed=1)
    start = np.linalg.lstsq(other - other.mean(axis=0), right - right.mean(axis=0), rcond=None)[
        0
    ].T
    found = descended(in_float32(x, t), in_float32(other, right), start, has_bias=True)
    np.testing.assert_array_equal(found.weight, start.astype(np.float32))
    assert found.gain == 1.0


def test_it_stops_before_it_fits_what_few_rows_say_by_chance() -> None:
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((2, 60))
    x, other = rng.standard_normal((2, 70, 60)) * np.linspace(0.1, 3, 60)
    t, right = (rows @ weight.T + 5 * rng.standard_normal((70, 2)) for rows in (x, other))
    start = np.zeros((2, 60))
    found = descended(in_float32(x, t), in_float32(other, right), start, has_bias=False)
    exact = np.linalg.lstsq(x, t, rcond=None)[0].T
    errors = [float(np.square(right - other @ w.T).sum()) for w in (found.weight, start, exact)]
    assert errors[0] < min(errors[1:])
