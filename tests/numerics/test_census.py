from __future__ import annotations

import numpy as np

from onnxsqueeze.numerics.census import census, sample


def test_census_counts_all_layouts_alike():
    values = np.arange(-6.0, 6.0).reshape(3, 4)
    values[0, 0] = np.nan

    assert census(values) == census(values.T) == census(values[::-1, ::-1])
    assert census(values).finite == 11
    assert census(values).zeros == 1
    assert (census(values).minimum, census(values).maximum) == (-5.0, 5.0)


def test_census_is_exact_beyond_one_chunk():
    values = np.ones((3, 1 << 20), np.float32)
    values[2, -1] = -7.0
    values[1, ::4] = 0.0

    found = census(values)

    assert found.zeros == 1 << 18
    assert found.minimum == -7.0
    assert found.zeros_fraction == 1 / 12


def test_sample_is_bounded_repeatable_and_free_of_period():
    columns = 1024
    values = np.tile(np.arange(columns, dtype=np.float32), 512).reshape(512, columns)

    found = sample(values, limit=4096)

    assert found.size == 4096
    np.testing.assert_array_equal(found, sample(values, limit=4096))
    # A fixed stride of 128 would see 8 of the 1024 columns; 4096 fair draws miss exp(-4) of them.
    assert np.unique(found).size > 900
