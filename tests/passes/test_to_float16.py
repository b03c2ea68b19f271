"""Models that compute in float16: exact where float16 is, within its rounding elsewhere."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.graph import walk
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes.to_float16 import ToFloat16Pass
from onnxsqueeze.runtime import ort
from tests.runtime.made import made, random

UNIT = 2.0**-11
"""Relative error of rounding to float16, where it is normal."""

PRODUCT = """
g (float[N, 16] x) => (float[N, 8] y) <float[16, 8] w> { y = MatMul(x, w) }"""
NETWORK = """
g (float[N, 2, 4, 4] x) => (float[N, 3] y, float[N, 3, 4, 4] r)
<float[3, 2, 3, 3] w, float[3] b, float[3, 3] v> {
  c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  r = Relu(c)
  p = GlobalMaxPool(r)
  f = Flatten(p)
  y = Gemm(f, v, b)
}"""
WIDE = """
g (float[N, 4] x) => (float[N, 4] y) <float[4, 4] w> {
  a = MatMul(x, w)
  s = Softmax(a)
  y = MatMul(s, w)
}"""
STORED = """
g (float[N, 16] x) => (float[N, 8] y) <int8[16, 8] q, float[8] s> {
  f = Cast <to = 1> (q)
  w = Mul(f, s)
  y = MatMul(x, w)
}"""
BLOCKS = """
g (float[N, 32] x) => (float[N, 8] y) <int8[32, 8] q, float[2, 8] s> {
  w = DequantizeLinear <axis = 0, block_size = 16> (q, s)
  y = MatMul(x, w)
}"""
BRANCH = """
g (float[N, 4] x, bool c) => (float[N, 4] y) <float[4, 4] w> {
  a = MatMul(x, w)
  t = If (c) <
    then_branch = one () => (float[N, 4] u) { u = Relu(a) },
    else_branch = other () => (float[N, 4] v) { v = Neg(a) }
  >
  y = MatMul(t, w)
}"""


def whole(low, high, *shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(low, high, size=shape, endpoint=True).astype(np.float32)


def halved(model, **arguments):
    copy = model.clone()
    result = ToFloat16Pass(**arguments)(copy)
    verify(result.model)
    return result


def outputs(model, **feed):
    return ort.run(ort.session(model), feed)


def operators(model):
    return Counter(node.op_type for node in walk.nodes(model))


def types(model):
    return {name: value.dtype for name, value in model.graph.initializers.items()}


def test_a_product_is_within_the_rounding_of_its_parts():
    w, x = random(16, 8), random(5, 16, seed=1)
    found = halved(made(PRODUCT, w=w))

    assert found.modified
    assert operators(found.model) == {"Cast": 2, "MatMul": 1}
    y = outputs(found.model, x=x)["y"]
    assert y.dtype == np.float32
    # x, w and y are rounded once each; sums of 16 in float32 or better add 16 * 2**-24 at most.
    terms = np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    of_inputs = ((1 + UNIT) ** 2 * (1 + 16 * 2.0**-24) - 1) * terms
    bound = of_inputs + UNIT * (np.abs(exact) + of_inputs)
    assert (np.abs(y - exact) <= bound).all()


def test_whole_numbers_are_exact():
    """All sums stay under 2048, up to which float16 has every whole number."""
    weights = {
        "w": whole(-2, 2, 3, 2, 3, 3),
        "b": whole(-3, 3, 3, seed=1),
        "v": whole(-2, 2, 3, 3, seed=2),
    }
    model = made(NETWORK, **weights)
    found = halved(model)
    x = whole(-8, 8, 4, 2, 4, 4, seed=3)

    # |c| <= 18 * 2 * 8 + 3 = 291, and |y| <= 3 * 2 * 291 + 3 = 1749.
    before, after = outputs(model, x=x), outputs(found.model, x=x)
    assert [before[name].tobytes() for name in "yr"] == [after[name].tobytes() for name in "yr"]
    assert set(types(found.model).values()) == {ir.DataType.FLOAT16}
    # One at the input, and one at each output, of which one is read inside, too.
    assert operators(found.model)["Cast"] == 3
    assert [one.name for one in found.model.graph.outputs] == ["y", "r"]
    assert {one.dtype for one in found.model.graph.outputs} == {ir.DataType.FLOAT}


def test_wide_operators_stay_in_float32_between_casts():
    w = random(4, 4)
    found = halved(made(WIDE, w=w))
    softmax = next(node for node in found.model.graph if node.op_type == "Softmax")

    assert softmax.inputs[0].producer().attributes["to"].value == ir.DataType.FLOAT
    assert operators(found.model) == {"Cast": 4, "MatMul": 2, "Softmax": 1}
    assert types(found.model) == {"w.half": ir.DataType.FLOAT16}  # both products read one
    sums = outputs(found.model, x=random(3, 4, seed=1))["y"]
    assert np.isfinite(sums).all()


def test_a_second_run_changes_nothing():
    found = halved(made(WIDE, w=random(4, 4)))
    before = ir.to_proto(found.model).SerializeToString()

    again = ToFloat16Pass()(found.model)

    assert not again.modified
    assert ir.to_proto(again.model).SerializeToString() == before


def test_what_the_loader_folds_stays_as_it_is():
    q, s = whole(-8, 7, 16, 8).astype(np.int8), np.abs(random(8))
    found = halved(made(STORED, q=q, s=s))

    assert types(found.model) == {"q": ir.DataType.INT8, "s": ir.DataType.FLOAT}
    loaded = ort.optimized(found.model)
    assert "Mul" not in operators(loaded)  # folded, with the Cast behind it
    assert outputs(found.model, x=random(2, 16))["y"].shape == (2, 8)


def test_blocks_are_float16_from_their_scales_on():
    q, s = whole(-8, 7, 32, 8).astype(np.int8), np.abs(random(2, 8)) + np.float32(0.01)
    model = made(BLOCKS, q=q, s=s)
    found = halved(model)

    assert types(found.model) == {"q": ir.DataType.INT8, "s.half": ir.DataType.FLOAT16}
    assert operators(found.model) == {"Cast": 2, "DequantizeLinear": 1, "MatMul": 1}
    product = next(node for node in found.model.graph if node.op_type == "MatMul")
    assert product.inputs[1].producer().op_type == "DequantizeLinear"  # no Cast between them
    x = random(3, 32, seed=1)
    w = (q.reshape(2, 16, 8) * s[:, None]).reshape(32, 8).astype(np.float64)
    # x, s, the products q * s, and y are rounded once each.
    terms, exact = np.abs(x) @ np.abs(w), x @ w
    of_inputs = ((1 + UNIT) ** 3 * (1 + 32 * 2.0**-24) - 1) * terms
    # As written: by default ONNX Runtime makes MatMulNBits of it here, which rounds x to 8 bits.
    y = ort.run(ort.session(found.model, optimization="off"), {"x": x})["y"]
    assert (np.abs(y - exact) <= of_inputs + UNIT * (np.abs(exact) + of_inputs)).all()


def test_subgraphs_stay_in_float32():
    w = whole(-2, 2, 4, 4)
    model = made(BRANCH, w=w)
    found = halved(model)
    x = whole(-8, 8, 3, 4, seed=1)

    inner = [node for node in walk.nodes(found.model) if node.op_type in {"Relu", "Neg"}]
    assert {node.outputs[0].dtype for node in inner} <= {ir.DataType.FLOAT, None}
    for c in (True, False):
        feed = {"x": x, "c": np.array(c)}
        assert outputs(model, **feed)["y"].tobytes() == outputs(found.model, **feed)["y"].tobytes()


@pytest.mark.parametrize("arguments", [{}, {"keep": lambda name: name == "w"}])
def test_weights_beyond_float16_and_kept_ones_stay(arguments):
    w = random(16, 8)
    if not arguments:
        w[0, 0] = 70000.0
    found = halved(made(PRODUCT, w=w), **arguments)

    assert not found.modified
    assert types(found.model) == {"w": ir.DataType.FLOAT}


def test_integers_are_no_floats():
    text = """
g (int64[N, 4] x) => (int64[N, 4] y) { y = Add(x, x) }"""
    assert not halved(made(text)).modified
