from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxsqueeze.config import WIDTHS
from onnxsqueeze.numerics.grid import code_type, limits
from onnxsqueeze.numerics.planes import Planes, join, packed, planes, split

REPEATABLE = settings(deadline=None, derandomize=True)
EVERY_WIDTH = range(2, 13)

CUTS = {
    2: Planes(0, (2,), 2), 3: Planes(0, (2, 1), 4), 4: Planes(4, (), 0),
    5: Planes(4, (1,), 0), 6: Planes(4, (2,), 0), 7: Planes(4, (2, 1), 0),
    8: Planes(8, (), 0), 9: Planes(8, (1,), 0), 10: Planes(8, (2,), 0),
    11: Planes(8, (2, 1), 0), 12: Planes(8, (4,), 0),
}  # fmt: skip


@pytest.mark.parametrize("bits", EVERY_WIDTH)
def test_the_planes_of_each_width_have_its_bits(bits):
    assert planes(bits) == CUTS[bits]
    assert planes(bits).top + sum(planes(bits).rest) == bits


def test_every_width_that_a_plan_may_name_has_planes():
    assert {width for width in WIDTHS if width < 16} <= set(CUTS)


@pytest.mark.parametrize("bits", [-1, 0, 1, 13, 16])
def test_other_widths_are_refused(bits):
    with pytest.raises(ValueError, match=f"codes have 2 to 12 bits, not {bits}"):
        planes(bits)
    with pytest.raises(ValueError, match=f"not {bits}"):
        split(np.zeros(1, np.int8), bits)


def every_code(bits):
    """All values that ``bits`` bits can hold, in the type that holds codes of so many."""
    return np.arange(-(1 << (bits - 1)), 1 << (bits - 1)).astype(code_type(bits))


@pytest.mark.parametrize("bits", EVERY_WIDTH)
def test_every_code_comes_back(bits):
    codes = every_code(bits)
    assert codes.min() <= limits(bits)[0]
    assert codes.max() == limits(bits)[1]
    np.testing.assert_array_equal(join(*split(codes, bits), bits), codes)


@pytest.mark.parametrize("bits", EVERY_WIDTH)
def test_every_plane_uses_all_of_its_bits_and_no_more(bits):
    top, rest = split(every_code(bits), bits)
    cut = planes(bits)
    assert (top is None) == (cut.top == 0)
    if top is not None:
        assert top.dtype == np.int8
        assert (top.min(), top.max()) == (-(1 << (cut.top - 1)), (1 << (cut.top - 1)) - 1)
    for plane, width in zip(rest, cut.rest, strict=True):
        assert plane.dtype == np.uint8
        assert (plane.min(), plane.max()) == (0, (1 << width) - 1)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_the_planes_do_not_depend_on_the_type_of_the_codes(dtype):
    codes = np.array([-32, -17, -1, 0, 5, 31])
    top, rest = split(codes.astype(dtype), 6)
    assert top.tolist() == [-8, -5, -1, 0, 1, 7]
    assert [plane.tolist() for plane in rest] == [[0, 3, 3, 0, 1, 3]]


def test_planes_have_the_shape_of_the_codes():
    codes = np.arange(-4, 4).reshape(2, 1, 4)
    _, rest = split(codes, 3)
    assert [plane.shape for plane in rest] == [(2, 1, 4), (2, 1, 4)]
    assert join(None, rest, 3).tolist() == codes.tolist()


def test_eight_and_four_bits_stay_as_they_are():
    for bits in (4, 8):
        top, rest = split(every_code(bits), bits)
        assert rest == ()
        np.testing.assert_array_equal(top, every_code(bits))


@REPEATABLE
@given(
    st.sampled_from([1, 2]).flatmap(
        lambda width: st.tuples(
            st.just(width),
            hnp.arrays(
                np.uint8,
                hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5),
                elements=st.integers(0, (1 << width) - 1),
            ),
        )
    )
)
def test_packed_values_lie_in_the_bytes_from_the_lowest_bit_on(made):
    width, plane = made
    found = packed(plane, width)
    assert found.dtype == np.uint8
    assert found.shape == (-(-plane.size * width // 8),)
    bits = np.unpackbits(found, bitorder="little").reshape(-1, width)
    values = bits @ (1 << np.arange(width))
    assert values[: plane.size].tolist() == plane.ravel().tolist()
    assert not values[plane.size :].any()


def test_one_bit_is_packed_as_numpy_packs_it():
    plane = np.random.default_rng(0).integers(0, 2, (7, 9)).astype(np.uint8)
    np.testing.assert_array_equal(packed(plane, 1), np.packbits(plane, bitorder="little"))
