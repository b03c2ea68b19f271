"""Nodes without a weight that can stay among integers, and the tensors between kernels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.analysis.regions import Link, joints, links
from tests.passes.test_insert_qdq import drawn, parsed

SILU = """g (float[1,4,8,8] x) => (float[1,4,8,8] out) {
    y = Conv(x, w, b)  s = Sigmoid(y)  m = Mul(y, s)  p = MaxPool<kernel_shape=[1,1]>(m)
    z = Conv(p, v)  out = Tanh(z) }"""


def silu() -> ir.Model:
    return parsed(SILU, w=drawn(4, 4, 1, 1), b=drawn(4), v=drawn(4, 4, 1, 1, seed=1))


def typed(model: ir.Model) -> ir.Model:
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        value.dtype = value.const_value.dtype
    return model


def found_in(text: str, **weights: np.ndarray):
    model = typed(parsed(text, **weights))
    candidates = integer_candidates(model)
    return model, candidates, joints(model, candidates)


def test_nodes_behind_a_kernel_are_reached_through_each_other():
    model, candidates, found = found_in(
        SILU, w=drawn(4, 4, 1, 1), b=drawn(4), v=drawn(4, 4, 1, 1, seed=1)
    )
    assert [(one.y, one.reads, one.keeps_grid, one.reason) for one in found] == [
        ("s", ("y",), False, ""),
        ("m", ("y", "s"), False, ""),
        ("p", ("m",), True, ""),
    ]
    between = links(model, candidates, found)
    assert between["y"] == Link("y", ("s", "m"), has_others=False)
    assert between["p"] == Link("p", ("z",), has_others=False)
    assert between["z"] == Link("z", (), has_others=True)  # Tanh has no integer kernel
    assert between["x"] == Link(None, ("y",), has_others=False)


def test_a_clamp_behind_an_addition_closes_it():
    _, _, found = found_in(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] out) {
        y = Conv(x, w)  z = Conv(x, v)  a = Add(y, z)  r = Relu(a)  out = Tanh(r) }""",
        w=drawn(4, 4, 1, 1),
        v=drawn(4, 4, 1, 1, seed=1),
    )
    assert [(one.y, one.closes, one.low) for one in found] == [("a", "r", 0.0)]


def test_what_stands_against_a_node_is_said():
    _, _, found = found_in(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] out, float[1,4,8,8] s) {
        y = Conv(x, w)  k = Mul(y, c)  t = Tanh(y)  a = Add(y, t)  i = Add(y, x)
        s = Sigmoid(y)  out = Sum(k, a, i) }""",
        w=drawn(4, 4, 1, 1),
        c=drawn(1),
    )
    reasons = {one.y: one.reason for one in found}
    assert reasons["k"] == "its input 'c' is a constant or an input of the model"
    assert reasons["a"] == "its input 't' is not known to be FLOAT"
    assert reasons["i"] == "its input 'x' is a constant or an input of the model"
    assert reasons["s"] == "output 's' is an output of the model"


def test_nodes_that_no_kernel_reaches_are_left_out():
    text = """g (float[4,4] x) => (float[4,4] out) {
        s = Sigmoid(x)  y = MatMul(s, w)  m = Sigmoid(y)  out = Tanh(m) }"""
    # the kernel of a matrix product may write floats, so no grid closes it
    assert found_in(text, w=drawn(4, 4))[2] == ()


def test_float16_is_left_alone():
    model = parsed(
        SILU.replace("float[", "float16["),
        w=drawn(4, 4, 1, 1),
        b=drawn(4),
        v=drawn(4, 4, 1, 1),
    )
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        half = ir.tensor(value.const_value.numpy().astype(np.float16), name=value.name)
        value.const_value, value.dtype = half, half.dtype
    assert joints(model, integer_candidates(model)) == ()
