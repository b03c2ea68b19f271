"""What the nodes that restore a weight compute, as written, and what they take in the file."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.graph import walk
from onnxsqueeze.numerics.grid import code_type
from onnxsqueeze.numerics.planes import planes
from onnxsqueeze.passes.chain import Chain
from tests.runtime.made import made, random, run

EMPTY = "g (float[1] x) => (float[1] y) { y = Identity (x) }"
WIDTHS = range(2, 13)


def begun(name="w", opset=21):
    model = made(EMPTY, opset=opset)
    return model, Chain(model.graph, name, walk.value_names(model), {})


def computed(model, chain, output):
    """Run the nodes of a chain."""
    model.graph.extend(chain.nodes)
    model.graph.outputs[:] = [output]
    return run(model, {"x": np.zeros(1, np.float32)}, "off")[output.name]


def sizes(model):
    """Bytes of each initializer."""
    return {
        name: value.const_value.nbytes
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


def codes_of(bits, *shape):
    """Codes from end to end of the grid, the ends among them."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    codes = np.random.default_rng(0).integers(low, high + 1, shape).astype(code_type(bits))
    codes.ravel()[:2] = low, high
    return codes


@pytest.mark.parametrize("shape", [(8, 4), (3, 7), (2,), (5, 1, 3, 1)])
@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_of_every_width_come_back_as_floats(bits, shape):
    model, chain = begun()
    codes = codes_of(bits, *shape)
    found = computed(model, chain, chain.coded(codes, bits))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, codes)


@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_take_their_bits_in_the_file(bits):
    model, chain = begun()
    chain.coded(codes_of(bits, 16, 10), bits)
    own = [size for name, size in sizes(model).items() if name.startswith("w.")]
    assert sum(own) == 160 * bits // 8


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_last_byte_is_filled_up_for_each_plane(bits):
    model, chain = begun()
    chain.coded(codes_of(bits, 3, 7), bits)
    cut = planes(bits)
    own = [size for name, size in sizes(model).items() if name.startswith("w.")]
    widths = [width for width in (cut.top, *cut.rest) if width]
    assert sorted(own) == sorted(-(-21 * width // 8) for width in widths)


@pytest.mark.parametrize("bits", [2, 3, 8, 9, 10, 11])
def test_widths_without_a_plane_of_four_bits_need_no_new_opset(bits):
    model, chain = begun(opset=13)
    codes = codes_of(bits, 3, 7)
    np.testing.assert_array_equal(computed(model, chain, chain.coded(codes, bits)), codes)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 16])
def test_values_are_unpacked_in_the_type_asked_for(width, size):
    model, chain = begun()
    values = np.arange(size) % (1 << width)
    line = "".join(format(value, f"0{width}b") for value in values[::-1])
    held = np.array(
        [int(line[max(0, end - 8) : end], 2) for end in range(len(line), 0, -8)], np.uint8
    )
    packed = chain.constant("packed", held)
    output = chain.unpacked(packed, width, (size, 1), ir.DataType.INT32)
    found = computed(model, chain, output)
    assert found.dtype == np.int32
    assert found.tolist() == [[value] for value in values.tolist()]


SPARSE = np.where(np.arange(35).reshape(5, 7) % 3 == 0, np.arange(35).reshape(5, 7) % 15 - 7, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, ml_dtypes.int4])
@pytest.mark.parametrize("values", [SPARSE, SPARSE * 0, SPARSE * 0 + 5, SPARSE.T])
def test_values_come_back_from_behind_the_mask(dtype, values):
    model, chain = begun()
    found = computed(model, chain, chain.masked(values.astype(dtype)))
    assert found.dtype == (np.int8 if dtype == ml_dtypes.int4 else dtype)
    np.testing.assert_array_equal(found, values)


def test_a_mask_takes_a_bit_per_value_and_one_value_more_than_there_are():
    model, chain = begun()
    chain.masked(SPARSE.astype(np.float32))
    found = sizes(model)
    assert found["w.mask"] == -(-35 // 8)
    assert found["w.some"] == 4 * (np.count_nonzero(SPARSE) + 1)


def test_everything_is_named_after_the_weight_and_no_name_is_taken_twice():
    model = made("g (float[1] x) => (float[1] y) { h = Abs (x) y = Abs (h) }")
    model.graph[0].outputs[0].name = "w.0"
    taken = walk.value_names(model)
    chain = Chain(model.graph, "w", taken, {})
    chain.coded(codes_of(6, 8, 4), 6)
    names = [node.name for node in chain.nodes]
    assert len({*names, "w.0"}) == len(names) + 1
    assert all(name is not None and name.startswith("w.") for name in names)
    assert [node.outputs[0].name for node in chain.nodes] == names
    assert {*names, *model.graph.initializers} <= taken


def test_a_constant_keeps_its_values_where_they_lay_in_another_order():
    model, chain = begun()
    values = random(4, 6).T[::2]
    held = chain.constant("c", values)
    assert held.name == "w.c"
    np.testing.assert_array_equal(model.graph.initializers["w.c"].const_value.numpy(), values)


def test_shared_constants_are_made_once_per_graph():
    model, chain = begun()
    shared = {}
    first, second = (Chain(model.graph, name, chain.taken, shared) for name in ("v", "w"))
    assert first.shape((2, 3)) is second.shape((2, 3))
    assert first.shape((2, 3)) is not second.shape((3, 2))
    other, _ = begun()
    elsewhere = Chain(other.graph, "u", walk.value_names(other), shared)
    assert elsewhere.shape((2, 3)) is not first.shape((2, 3))
    assert set(model.graph.initializers) == {"shape.2x3", "shape.3x2"}
    assert set(other.graph.initializers) == {"shape.2x3"}


def test_a_second_weight_of_the_same_width_adds_no_constants_but_its_own():
    model, first = begun("v")
    shared = {}
    first = Chain(model.graph, "v", first.taken, shared)
    first.coded(codes_of(7, 8, 8), 7)
    before = set(model.graph.initializers)
    Chain(model.graph, "w", first.taken, shared).coded(codes_of(7, 8, 8), 7)
    assert set(model.graph.initializers) - before == {"w.int", "w.bits2", "w.bits1"}
