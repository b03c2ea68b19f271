"""Cutting units that nothing reads changes no output; shapes and constants follow the cut."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.units import Units, dependencies
from onnxsqueeze.errors import PlanError
from onnxsqueeze.graph import edit
from onnxsqueeze.graph.io import read
from onnxsqueeze.passes.cut_units import cut_units
from onnxsqueeze.passes.fix_reshapes import fix_reshapes
from onnxsqueeze.passes.unique_names import unique_names
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.runtime.made import made, random

MODELS = Path(__file__).parents[2] / "models"
ROUNDING = 1e-5
"""Sums of fewer float32 terms, taken in another order, against the largest output."""

RESIDUAL = """
g (float[N,3,8,8] x) => (float[N,5] y)
<float[8,3,3,3] w, float[8,1,3,3] d, float[8,8,1,1] p, float[5,8] u> {
  a = Conv <pads = [1,1,1,1]> (x, w)
  b = Relu (a)
  c = Conv <pads = [1,1,1,1], group = 8> (b, d)
  e = Conv (c, p)
  f = Add (e, b)
  m = GlobalAveragePool (f)
  l = Flatten (m)
  y = Gemm <transB = 1> (l, u)
}"""
ATTENTION = """
g (float[B,S,6] x) => (float[B,S,6] y)
<float[6,12] q, float[6,12] k, float[6,12] v, float[12,6] o> {
  s = Shape (x)
  zero = Constant <value_int = 0> ()
  one = Constant <value_int = 1> ()
  axes = Constant <value_ints = [0]> ()
  heads = Constant <value_ints = [3, 4]> ()
  width = Constant <value_ints = [12]> ()
  s0 = Gather (s, zero)
  s1 = Gather (s, one)
  b = Unsqueeze (s0, axes)
  t = Unsqueeze (s1, axes)
  split = Concat <axis = 0> (b, t, heads)
  join = Concat <axis = 0> (b, t, width)
  xq = MatMul (x, q)
  xk = MatMul (x, k)
  xv = MatMul (x, v)
  rq = Reshape (xq, split)
  rk = Reshape (xk, split)
  rv = Reshape (xv, split)
  tq = Transpose <perm = [0,2,1,3]> (rq)
  tk = Transpose <perm = [0,2,3,1]> (rk)
  tv = Transpose <perm = [0,2,1,3]> (rv)
  e = MatMul (tq, tk)
  p = Softmax <axis = -1> (e)
  h = MatMul (p, tv)
  th = Transpose <perm = [0,2,1,3]> (h)
  c = Reshape (th, join)
  y = MatMul (c, o)
}"""


def named(model: ir.Model) -> ir.Model:
    unique_names(model)
    return model


def residual() -> tuple[ir.Model, dict[str, np.ndarray]]:
    weights = {"w": random(8, 3, 3, 3), "d": random(8, 1, 3, 3, seed=1)}
    weights |= {"p": random(8, 8, 1, 1, seed=2), "u": random(5, 8, seed=3)}
    return named(made(RESIDUAL, **weights)), {"x": random(2, 3, 8, 8, seed=4)}


def attention() -> tuple[ir.Model, dict[str, np.ndarray]]:
    weights = {name: random(6, 12, seed=n) for n, name in enumerate("qkv")}
    model = named(made(ATTENTION, **weights, o=random(12, 6, seed=5)))
    feed = {"x": random(2, 5, 6, seed=6)}
    return fix_reshapes(model, measured_shapes(model, feed)), feed


def found(model: ir.Model, feed: Mapping[str, np.ndarray]) -> tuple[Units, ...]:
    return dependencies(model, [measured_shapes(model, feed)]).units


def silenced(model: ir.Model, one: Units, gone: np.ndarray, *weights: str) -> ir.Model:
    """Make what reads the units that go, or makes them, 0."""
    copy = model.clone()
    for (name, axis), unit in one.entries.items():
        value = copy.graph.initializers.get(name)
        if value is not None and name in weights:
            assert value.const_value is not None
            new = np.moveaxis(value.const_value.numpy().copy(), axis, 0)
            new[np.isin(unit, gone)] = 0
            edit.set_value(value, np.ascontiguousarray(np.moveaxis(new, 0, axis)))
    return copy


def assert_exact(
    model: ir.Model, one: Units, kept: np.ndarray, feed: dict[str, np.ndarray], *weights: str
) -> ir.Model:
    gone = np.setdiff1d(np.arange(one.count), kept)
    quiet = silenced(model, one, gone, *weights)
    cut = cut_units(quiet, [one], {one.name: kept}, measured_shapes(quiet, feed))
    expected = ort.run(ort.session(quiet), feed)
    actual = ort.run(ort.session(cut), feed)
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        largest = np.abs(value).max()
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=ROUNDING * largest)
    return cut


def test_a_residual_sum_and_a_depthwise_convolution_are_cut_together() -> None:
    model, feed = residual()
    (one,) = found(model, feed)
    assert one.count == 8
    assert {("w", 0), ("d", 0), ("p", 0), ("p", 1), ("u", 1)} <= set(one.entries)
    kept = np.array([0, 2, 3, 6])
    cut = assert_exact(model, one, kept, feed, "w", "p", "u")
    shapes = {name: tuple(v.shape or ()) for name, v in cut.graph.initializers.items()}
    assert shapes["d"] == (4, 1, 3, 3)
    assert shapes["p"] == (4, 4, 1, 1)
    groups = [n.attributes["group"].as_int() for n in cut.graph if "group" in n.attributes]
    assert groups == [4]


def test_attention_is_cut_by_heads_although_its_shapes_are_computed() -> None:
    model, feed = attention()
    (one,) = found(model, feed)
    assert one.count == 3
    assert one.entries["q", 1].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    cut = assert_exact(model, one, np.array([0, 2]), feed, "o")
    assert tuple(cut.graph.initializers["o"].shape or ()) == (8, 6)
    longer = {"x": random(3, 7, 6, seed=7)}  # batch and length stay free
    assert ort.run(ort.session(cut), longer)["y"].shape == (3, 7, 6)


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp"])
def test_shipped_models_are_cut_in_every_group(name: str) -> None:
    model = named(read(MODELS / name / "model.onnx"))
    feed = dict(np.load(MODELS / name / "calib.npz"))
    feed = {value.name: feed[value.name][:2] for value in model.graph.inputs}
    if len(feed[model.graph.inputs[0].name].shape) > len(model.graph.inputs[0].shape or ()):
        feed = {key: value[0] for key, value in feed.items()}
    groups = found(model, feed)
    assert groups
    shapes = measured_shapes(model, feed)
    kept = {one.name: np.arange(0, one.count, 2) for one in groups}
    cut = cut_units(model, groups, kept, shapes)
    before, after = (ort.run(ort.session(one), feed) for one in (model, cut))
    assert {k: v.shape for k, v in after.items()} == {k: v.shape for k, v in before.items()}
    every = cut_units(model, groups, {}, shapes)
    for key, value in ort.run(ort.session(every), feed).items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"other": [0]}, r"cuts 'other', and the model has no such group"),
        ({"": [8]}, r"keeps unit 8 of .*, which has units 0 to 7"),
        ({"": []}, r"keeps no unit of .*, and at least one of its 8 must stay"),
    ],
)
def test_a_cut_that_does_not_fit_is_refused(kept: dict[str, list[int]], message: str) -> None:
    model, feed = residual()
    (one,) = found(model, feed)
    wrong = {name or one.name: np.array(units, int) for name, units in kept.items()}
    with pytest.raises(PlanError, match=message):
        cut_units(model, [one], wrong, measured_shapes(model, feed))


def test_inputs_and_outputs_are_frozen_with_the_reason() -> None:
    model, feed = residual()
    frozen = dependencies(model, [measured_shapes(model, feed)]).frozen
    reasons = {(one.weight, one.axis): one.reason for one in frozen}
    assert "input of the model" in reasons["w", 1]
    assert "output of the model" in reasons["u", 0]
