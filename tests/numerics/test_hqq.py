from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxsqueeze.numerics.blocks import ends, from_blocks, to_blocks, whole_range
from onnxsqueeze.numerics.grid import max_scale
from onnxsqueeze.numerics.hqq import POWER, half_quadratic, lost

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=60)
ROWS = hnp.arrays(np.float32, (2, 32), elements=st.floats(-50, 50, width=16))


@REPEATABLE
@given(ROWS, st.sampled_from([2, 3, 4]), st.booleans())
def test_it_is_never_worse_than_min_max_rounding_on_its_own_objective(rows, bits, has_zero):
    plain = whole_range(rows, bits, 16) if has_zero else (max_scale(rows, bits, 16), None)

    scale, zero = half_quadratic(rows, bits, 16, has_zero=has_zero)

    assert (lost(rows, scale, zero, bits) <= lost(rows, *plain, bits)).all()
    assert np.isfinite(scale).all()
    assert scale.all()
    if zero is not None:
        assert zero.dtype == np.int8
        low, high = ends(bits)
        assert ((low <= zero) & (zero <= high)).all()


def test_the_objective_is_the_sum_of_powers():
    rows = np.array([[0.25, 3.0, 0, 0]], np.float32)
    scale = np.ones((1, 1), np.float32)
    assert lost(rows, scale, None, 4)[0, 0] == pytest.approx(0.25**POWER)


@pytest.mark.parametrize("has_zero", [False, True])
def test_it_gains_where_tails_are_long(has_zero):
    """Of 64 Laplace values the largest is about 5 standard deviations, and a step as wide
    as that range wants is coarse for all others."""
    rows = np.random.default_rng(0).laplace(size=(64, 256)).astype(np.float32)
    plain = whole_range(rows, 4, 64) if has_zero else (max_scale(rows, 4, 64), None)
    before = lost(rows, *plain, 4).sum()
    after = lost(rows, *half_quadratic(rows, 4, 64, has_zero=has_zero), 4).sum()
    assert after < 0.97 * before


def test_values_on_a_grid_stay():
    codes = np.random.default_rng(0).integers(-8, 8, (4, 32)).astype(np.int8)
    codes[:, 0], codes[:, 1] = -8, 7
    rows = from_blocks(codes, np.full((4, 1), 0.5, np.float32))
    scale, zero = half_quadratic(rows, 4, has_zero=True)
    np.testing.assert_allclose(
        from_blocks(to_blocks(rows, scale, 4, zero), scale, zero), rows, rtol=1e-5, atol=1e-5
    )
