from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from onnxsqueeze.numerics.error import EXACT_DB, relative_energy, sqnr_db

Y = np.array([3.0, 4.0])


@pytest.mark.parametrize(
    ("result", "energy", "db"),
    [
        ([3.0, 4.0], 0.0, EXACT_DB),
        ([3.0, 4.5], 0.01, 20.0),
        ([0.0, 0.0], 1.0, 0.0),
        ([-3.0, -4.0], 4.0, -10 * math.log10(4)),
    ],
)
def test_energy_and_decibels_of_known_pairs(result, energy, db):
    assert relative_energy(Y, np.array(result)) == pytest.approx(energy, abs=1e-15)
    assert sqnr_db(Y, np.array(result)) == pytest.approx(db, abs=1e-9)


def test_nothing_but_noise_is_infinitely_bad():
    zeros = np.zeros(2)
    assert relative_energy(zeros, zeros) == 0.0
    assert relative_energy(zeros, Y) == math.inf
    assert sqnr_db(zeros, Y) == -EXACT_DB


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int8])
def test_narrow_types_do_not_overflow(dtype):
    large = np.full(4096, 100, dtype)  # its energy, 4e7, is beyond float16 and int8
    assert relative_energy(large, np.zeros_like(large)) == 1.0


def test_values_that_are_not_finite_have_the_worst_ratio():
    assert sqnr_db(Y, np.array([3.0, np.inf])) == -EXACT_DB
    assert sqnr_db(Y, np.array([3.0, np.nan])) == -EXACT_DB
