"""Cuts by hand on graphs of whole numbers, where not one bit of an output may change."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.errors import PlanError
from onnxsqueeze.passes.cut_units import cut_units
from tests import models
from tests.analysis.test_units import HEADS, SPLIT
from tests.passes.cutting import cut_exactly, feeds, found, rest, whole

FLATTEN = """
g (float[N,3,2,2] x) => (float[N,2] y) <float[3,3,1,1] w, float[3] b, float[2,12] u> {
  h = Conv (x, w, b)
  f = Flatten (h)
  y = Gemm <transB = 1> (f, u)
}"""

GROUPED = """
g (float[N,3,4,4] x) => (float[N,2,4,4] y)
<float[6,3,1,1] a, float[8,3,3,3] w, float[8] b, float[8,1,3,3] d, float[2,8,1,1] u> {
  h = Conv (x, a)
  k = Conv <group = 2, pads = [1,1,1,1]> (h, w, b)
  c = Conv <group = 8, pads = [1,1,1,1]> (k, d)
  y = Conv (c, u)
}"""

TRANSPOSED = """
g (float[N,3,4,4] x) => (float[N,2,8,8] y)
<float[4,3,1,1] a, float[4,6,2,2] w, float[6] b, float[6,1,2,2] d, float[2,6,1,1] u> {
  h = Conv (x, a)
  k = ConvTranspose <strides = [2,2]> (h, w, b)
  c = ConvTranspose <group = 6, pads = [0,0,1,1]> (k, d)
  y = Conv (c, u)
}"""

EXCITE = """
g (float[N,3,4,4] x) => (float[N,2,4,4] y)
<float[6,3,1,1] a, float[4,6,1,1] down, float[4] b, float[6,4,1,1] up, float[2,6,1,1] u,
 float four = {4}> {
  h = Conv (x, a)
  p = GlobalAveragePool (h)
  e = Conv (p, down, b)
  r = Relu (e)
  f = Conv (r, up)
  s = Sigmoid (f)
  m = Mul (s, four)
  q = Round (m)
  k = Mul (h, q)
  y = Conv (k, u)
}"""

RESIZE = """
g (float[N,3,4,4] x) => (float[N,2,8,8] y)
<float[6,3,1,1] a, float[2,6,1,1] u, float[0] roi = {}, float[4] scales = {1, 1, 2, 2}> {
  h = Conv (x, a)
  r = Resize <mode = "nearest"> (h, roi, scales)
  y = Conv (r, u)
}"""

TWICE = """
g (float[N,5] x) => (float[N,2] y) <float[5,4] a, float[4,4] w, float[4,2] u> {
  h = MatMul (x, a)
  r = Relu (h)
  k = MatMul (r, w)
  s = Relu (k)
  l = MatMul (s, w)
  y = MatMul (l, u)
}"""

NORMALISED = """
g (float[N,3,4,4] x) => (float[N,2,4,4] y)
<float[5,3,1,1] a, float[5] s, float[5] b, float[5] m, float[5] var, float[2,5,1,1] u> {
  h = Conv (x, a)
  n = BatchNormalization <epsilon = 0.0> (h, s, b, m, var)
  r = Relu (n)
  y = Conv (r, u)
}"""

CASES = {
    "residual": (models.RESIDUAL, (3, 8, 8), [4]),
    "concat": (models.CONCAT, (3, 8, 8), [4, 2]),
    "split": (SPLIT, (6,), [2, 3]),
    "flatten": (FLATTEN, (3, 2, 2), [3]),
    "grouped": (GROUPED, (3, 4, 4), [3, 4]),
    "transposed": (TRANSPOSED, (3, 4, 4), [4, 6]),
    "excite": (EXCITE, (3, 4, 4), [6, 4]),
    "resize": (RESIZE, (3, 4, 4), [6]),
    "a weight used twice": (TWICE, (5,), [4]),
    "batch norm": (NORMALISED, (3, 4, 4), [5]),
    "heads": (HEADS, (3, 6), [4]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("gone", ["first", "last", "all but one"])
def test_a_cut_of_silent_units_changes_no_bit(name: str, gone: str) -> None:
    text, dims, counts = CASES[name]
    model, given = whole(text), feeds(*dims)
    tied, shapes = found(model, given)
    assert [one.count for one in tied.units] == counts
    kept = {
        "first": rest(tied.units),
        "last": {one.name: np.arange(one.count - 1) for one in tied.units},
        "all but one": {one.name: np.array([one.count // 2]) for one in tied.units},
    }[gone]
    cut_exactly(model, tied.units, kept, shapes, given)


def test_attributes_and_constants_follow_and_old_ones_are_gone() -> None:
    model, given = whole(GROUPED), feeds(3, 4, 4)
    tied, shapes = found(model, given)
    cut = cut_exactly(model, tied.units, rest(tied.units), shapes, given)
    groups = [
        node.attributes["group"].as_int() for node in cut.graph if "group" in node.attributes
    ]
    assert groups == [2, 6]  # two groups of three, and one channel each
    model, given = whole(HEADS), feeds(3, 6)
    tied, shapes = found(model, given)
    cut = cut_exactly(model, tied.units, rest(tied.units), shapes, given)
    constants = cut.graph.initializers
    assert "heads" not in constants
    assert constants["heads.cut"].const_value is not None
    assert constants["heads.cut"].const_value.numpy().tolist() == [0, 0, 3, 2]
    assert all(value.uses() for value in constants.values())


def test_a_plan_that_keeps_all_changes_nothing() -> None:
    model, given = whole(models.CONCAT), feeds(3, 8, 8)
    tied, shapes = found(model, given)
    every = {one.name: np.arange(one.count) for one in tied.units}
    for kept in (every, {}):
        cut = ir.to_proto(cut_units(model, tied.units, kept, shapes)).graph
        assert cut.initializer == ir.to_proto(model).graph.initializer
        assert cut.node == ir.to_proto(model).graph.node


def test_a_node_that_follows_from_an_unknown_shape_is_named() -> None:
    model, given = whole(HEADS), feeds(3, 6)
    tied, shapes = found(model, given)
    del shapes["heads"]
    with pytest.raises(PlanError, match=r"Reshape cannot follow the cut of 'q': .*'heads' is unk"):
        cut_units(model, tied.units, rest(tied.units), shapes)


def test_units_of_another_model_are_refused() -> None:
    model, given = whole(models.CONCAT), feeds(3, 8, 8)
    tied, shapes = found(model, given)
    wrong = shapes | {"w1": (5, 3, 1, 1)}
    with pytest.raises(PlanError, match=r"'a' has 4 entries of axis 0 of 'w1', whose shape is"):
        cut_units(model, tied.units, rest(tied.units), wrong)
