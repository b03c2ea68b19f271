"""Scaled axes change no result in floats, and Gram matrices follow them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.scalable import scalable
from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.grams import Gram, Rescaled, identity
from onnxsqueeze.passes.scale_axes import Scaled, scale_axes
from onnxsqueeze.plan.types import Plan, ScalingChoice
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.shapes import Shape, measured_shapes
from tests import models
from tests.models import Array

OCTAVE = 8
MIXED = """
g (float[N,3,8,8] x) => (float[N,5] y)
<float[4,3,3,3] w1, float[4] b1, float[4,1,3,3] d, float[6,4,1,1] w3, float[6] b3,
 float[6,5] w4, float[5] b4> {
  a = Conv <pads = [1,1,1,1]> (x, w1, b1)
  r = LeakyRelu <alpha = 0.1> (a)
  k = Conv <group = 4, pads = [1,1,1,1]> (r, d)
  q = MaxPool <kernel_shape = [2,2], strides = [2,2]> (k)
  c = Conv (q, w3, b3)
  t = Sigmoid (c)
  p = GlobalAveragePool (t)
  f = Flatten (p)
  y = Gemm (f, w4, b4)
}"""
ATTENTION = """
g (float[N,5,4] x) => (float[N,5,4] y)
<float[4] g1, float[4] b1, float[4,4] q, float[4,4] k, float[4,4] v, float[4,4] o, float[4] bo> {
  n = LayerNormalization (x, g1, b1)
  qq = MatMul (n, q)
  kk = MatMul (n, k)
  kt = Transpose <perm = [0,2,1]> (kk)
  s = MatMul (qq, kt)
  a = Softmax <axis = -1> (s)
  vv = MatMul (n, v)
  h = MatMul (a, vv)
  u = MatMul (h, o)
  w = Add (u, bo)
  y = Add (w, x)
}"""
GRAPHS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "residual": (models.RESIDUAL, {"x": (2, 3, 8, 8)}),
    "depthwise": (models.DEPTHWISE, {"x": (2, 4, 8, 8)}),
    "mixed": (MIXED, {"x": (2, 3, 8, 8)}),
    "attention": (ATTENTION, {"x": (2, 5, 4)}),
}


def planned(model: ir.Model, shapes: Mapping[str, Shape], unit: int, seed: int) -> Plan:
    """Return a plan that scales all that can be scaled, by up to a factor of 4."""
    rng = np.random.default_rng(seed)
    most = 2 * OCTAVE // unit
    scalings = {
        group.name: ScalingChoice(
            steps=tuple((rng.integers(-most, most + 1, group.dim) * unit).tolist()),
            inserted=bool(group.obstacle),
            reason="tried",
        )
        for group in scalable(model, shapes)[0]
    }
    assert scalings
    return Plan(model_sha256="0" * 64, weights={}, scalings=scalings)


def scaled(
    name: str, folder: Path, unit: int, seed: int = 0
) -> tuple[ir.Model, Scaled, dict[str, Array]]:
    text, dims = GRAPHS[name]
    model, feed = models.read(text, folder), models.feed(1, **dims)
    shapes = measured_shapes(model, feed)
    return model, scale_axes(planned(model, shapes, unit, seed), model, shapes, {}), feed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GRAPHS)
def test_powers_of_two_change_no_bit(tmp_path: Path, name: str, seed: int) -> None:
    model, made, feed = scaled(name, tmp_path, OCTAVE, seed)
    for optimization in ("off", "default"):
        before, after = (
            ort.run(ort.session(one, optimization=optimization), feed)["y"]
            for one in (model, made.model)
        )
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", GRAPHS)
def test_other_factors_change_no_more_than_float32_rounds(tmp_path: Path, name: str) -> None:
    """Every constant is rounded once more, by 2⁻²⁴ of itself, and so is every product.

    That is a relative change of each term by at most 4 · 2⁻²⁴ per scaled layer: what the same
    change of all constants at random makes of the result is measured, by 64 · 2⁻²⁴, and bounds it.
    """
    model, made, feed = scaled(name, tmp_path, 1)
    before, after = (models.outputs(one, feed)["y"] for one in (model, made.model))
    rng, moved = np.random.default_rng(0), model.clone()
    for value in moved.graph.initializers.values():
        assert value.const_value is not None
        if value.const_value.dtype == ir.DataType.FLOAT:
            old = value.const_value.numpy()
            signs = rng.choice([-1.0, 1.0], old.shape)
            value.const_value = ir.tensor((old * (1 + 64 * 2.0**-24 * signs)).astype(np.float32))
    room = np.abs(models.outputs(moved, feed)["y"] - before).max()
    assert 0 < np.abs(after - before).max() <= room


def test_no_scaling_returns_the_model_itself(tmp_path: Path) -> None:
    model = models.read(models.RESIDUAL, tmp_path)
    shapes = measured_shapes(model, models.feed(x=(2, 3, 8, 8)))
    made = scale_axes(Plan(model_sha256="0" * 64, weights={}), model, shapes, {})
    assert made.model is model
    assert made.shapes is shapes


def test_the_model_itself_stays_and_a_product_is_put_in_once_for_all_readers(
    tmp_path: Path,
) -> None:
    text = """g (float[N,4] x) => (float[N,3] y, float[N,2] z) <float[4,3] a, float[4,2] b> {
      h = Tanh (x)
      y = MatMul (h, a)
      z = MatMul (h, b)
    }"""
    model, feed = models.read(text, tmp_path), models.feed(x=(2, 4))
    shapes, before = measured_shapes(model, feed), models.constants(model)
    plan = planned(model, shapes, OCTAVE, 0)
    made = scale_axes(plan, model, shapes, {})
    assert models.operators(made.model) == ["Tanh", "Mul", "MatMul", "MatMul"]
    assert made.inserted == {"h": "h.scaled"}
    assert made.shapes["h.scaled"] == shapes["h"]
    for name, values in models.constants(model).items():
        np.testing.assert_array_equal(values, before[name])
    for name, values in models.outputs(model, feed).items():
        np.testing.assert_array_equal(models.outputs(made.model, feed)[name], values)


@pytest.mark.parametrize("name", GRAPHS)
def test_gram_matrices_are_those_of_the_scaled_inputs(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With powers of two, ``D⁻¹ H D⁻¹`` is the scaled model's own Gram matrix to the bit."""
    monkeypatch.setattr("onnxsqueeze.analysis.weights.SMALLEST_BYTES", 0)
    model, made, feed = scaled(name, tmp_path, OCTAVE)
    before = own_grams(model, feed)
    factors = Rescaled(before, made.grams._factors, "d")  # type: ignore[attr-defined]
    now = own_grams(made.model, feed)
    assert now.keys() == before.keys()
    assert any((now[one].matrix != before[one].matrix).any() for one in now)
    for one in now:
        np.testing.assert_array_equal(factors[one].matrix, now[one].matrix)


def own_grams(model: ir.Model, feed: Mapping[str, Array]) -> dict[str, Gram]:
    found = [one for one in weights(model)[0] if one.linear is not None]
    session = ort.session(ort.expose(model, [w.input_name for w in found if w.input_name != "x"]))
    values = {**feed, **ort.run(session, feed)}
    grams = {}
    for one in found:
        assert one.linear is not None
        rng, x = np.random.default_rng(0), values[one.input_name]
        rows = one.linear.rows(one.node, x, one.shape, 10**6, rng)
        grams[one.name] = Gram(np.matmul(rows.transpose(0, 2, 1), rows), rows.shape[1])
    return grams


def test_rescaled_matrices_are_told_from_the_others() -> None:
    grams = {name: Gram(np.eye(2, dtype=np.float32)[None], 9) for name in ("a", "b")}
    made = Rescaled(grams, {"a": np.array([[2.0, 1.0]])}, "one")
    other = Rescaled(grams, {"a": np.array([[4.0, 1.0]])}, "two")
    assert len({identity(one, "a") for one in (grams, made, other)}) == 3
    assert identity(made, "b") == identity(grams, "b")
    assert identity(made, "c") is None
    assert made["a"].matrix.tolist() == [[[0.25, 0.0], [0.0, 1.0]]]
    assert made["b"] is grams["b"]
    assert list(made) == ["a", "b"]
    assert len(made) == 2


REFUSED = {
    "nowhere": (("nowhere", 4, False), r"the plan scales 'nowhere', which cannot be scaled"),
    "length": (("r", 5, False), r"scales 'r' by 5 factors, and it has 4 entries"),
    "inserted": (("x", 3, False), r"scaling of 'x' needs a product before its readers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_plan_that_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    (name, count, inserted), message = REFUSED[case]
    model = models.read(models.RESIDUAL, tmp_path)
    shapes = measured_shapes(model, models.feed(x=(2, 3, 8, 8)))
    choice = ScalingChoice(steps=(1,) * count, inserted=inserted, reason="tried")
    plan = Plan(model_sha256="0" * 64, weights={}, scalings={name: choice})
    with pytest.raises(PlanError, match=message):
        scale_axes(plan, model, shapes, {})
