"""Signed codes whose neighbours fit in 16 bits together."""

from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.numerics.grid import as_rows, max_scale, to_grid
from onnxsqueeze.numerics.pairs import LARGEST_SUM, paired_scale, partners, within_pairs


def sums(codes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    padded = np.concatenate([codes.astype(int), np.zeros((len(codes), 1), int)], axis=1)
    return padded[:, pairs].sum(axis=2)


SHAPES = [((6, 8, 3, 3), 0), ((6, 3, 3, 3), 0), ((4, 5, 1), 0), ((33, 6), 1), ((6, 32), 0)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_every_feature_has_one_place(shape, axis):
    pairs = partners(shape, axis)
    features = int(np.prod(shape)) // shape[axis]
    assert sorted(pairs[pairs >= 0]) == list(range(features))
    assert (pairs < 0).sum() == features % 2


def test_partners_of_a_convolution_are_channels_of_one_place():
    pairs = partners((2, 4, 3, 3), 0)
    channel, place = np.divmod(pairs, 9)
    assert np.array_equal(place[:, 0], place[:, 1])
    assert set(map(tuple, channel)) == {(0, 1), (2, 3)}


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("spread", [1e-30, 1.0, 1e30])
def test_nearest_codes_at_the_paired_scale_fit(shape, axis, spread):
    weight = (np.random.default_rng(0).uniform(-1, 1, shape) * spread).astype(np.float32)
    rows, pairs = as_rows(weight, axis), partners(shape, axis)
    scale = paired_scale(rows, pairs)
    codes = to_grid(rows, scale, 8)
    assert np.abs(sums(codes, pairs)).max() <= LARGEST_SUM
    assert np.array_equal(within_pairs(codes, pairs), codes)
    # nothing is cut off, and no row is coarser than half the largest sum of two needs
    assert np.abs(codes * scale - rows).max() <= scale.max() / 2 * (1 + 1e-5)
    assert (scale >= max_scale(rows, 8) * (1 - 1e-6)).all()
    assert (scale <= 2 * max_scale(rows, 8) * (1 + 1e-6)).all()


def test_unlike_signs_cost_nothing():
    rows = np.array([[1.0, -1.0, 0.5, -0.5]], np.float32)
    assert paired_scale(rows, partners((4, 1), 1)) == max_scale(rows, 8)


def test_zeros_have_a_scale():
    assert paired_scale(np.zeros((2, 4), np.float32), partners((4, 2), 1)).tolist() == [[1], [1]]


@pytest.mark.parametrize("seed", range(3))
def test_codes_beyond_are_brought_to_the_limit_and_no_further(seed):
    codes = np.random.default_rng(seed).integers(-127, 128, (5, 31)).astype(np.int8)
    pairs = partners((31, 5), 1)
    found = within_pairs(codes, pairs)
    before, after = sums(codes, pairs), sums(found, pairs)
    over = np.abs(before) > LARGEST_SUM
    assert over.any()
    assert (np.abs(after[over]) == LARGEST_SUM).all()
    assert np.array_equal(after[~over], before[~over])
    # no code changes its sign or grows
    assert (np.sign(found) * np.sign(codes) >= 0).all()
    assert (np.abs(found.astype(int)) <= np.abs(codes.astype(int))).all()
