from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.measure.prune_sums import FEW_SAMPLES, HELD_OUT, Sum, Sums
from tests.runtime.made import random


def test_moments_keep_what_varies_far_from_zero() -> None:
    x = random(1, 4000, 3).astype(np.float32) + np.float32(1000)
    t = random(1, 4000, 2, seed=1).astype(np.float32) - np.float32(500)
    sums = Sums(1)
    for start in range(0, 4000, 500):
        sums.add((x[:, start : start + 500], t[:, start : start + 500]), 0)
    ((fit, held),) = sums.split(Sum.moments)
    whole = (fit + held).centered()
    rows, aims = x[0].astype(np.float64), t[0].astype(np.float64)
    # Rounding of the sums is relative to what varies, about 1; of their squares, 1e6, it is 0.1.
    expected = np.cov(rows.T, bias=True)
    np.testing.assert_allclose(whole.gram, expected, rtol=0, atol=1e-3)
    cross = (aims - aims.mean(axis=0)).T @ (rows - rows.mean(axis=0)) / 4000
    np.testing.assert_allclose(whole.cross, cross, rtol=0, atol=1e-3)
    assert whole.energy == pytest.approx(aims.var(axis=0).sum(), abs=1e-3)
    assert fit.rows + held.rows == 4000


def test_every_fifth_sample_is_held_out_or_every_fifth_row_of_few() -> None:
    many = Sums(FEW_SAMPLES)
    for index in range(FEW_SAMPLES):
        many.add((random(1, 7, 2, seed=index),), index)
    ((fit, held),) = many.split(Sum.inputs)
    assert held.rows == 7 * FEW_SAMPLES // HELD_OUT
    assert fit.rows == 7 * FEW_SAMPLES - held.rows
    few = Sums(2)
    for index in range(2):
        few.add((random(1, 7, 2, seed=index),), index)
    ((fit, held),) = few.split(Sum.inputs)
    assert (fit.rows, held.rows) == (12, 2)


def test_without_rows_to_choose_by_the_others_stand_in_and_count_once() -> None:
    sums = Sums(1)
    sums.add((random(1, 3, 2),), 0)
    ((fit, held),) = sums.split(Sum.inputs)
    assert (fit.rows, held.rows) == (3, 0)
    np.testing.assert_array_equal(fit.gram, held.gram)
    np.testing.assert_allclose((fit + held).gram, fit.gram)


def test_rows_that_are_not_finite_do_not_count() -> None:
    rows = random(1, 20, 2)
    rows[0, 3, 1] = np.nan
    rows[0, 5, 0] = np.inf
    sums = Sums(1)
    sums.add((rows,), 0)
    assert sums.rows == 18
    ((fit, held),) = sums.split(Sum.inputs)
    assert np.isfinite((fit + held).gram).all()
