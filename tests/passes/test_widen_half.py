"""Planned nodes in half precision: integer kernels between Casts, nothing else touched."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.passes.widen_half import widen_half
from onnxsqueeze.plan.types import ActivationChoice, Plan, WeightChoice
from onnxsqueeze.runtime import ort
from tests import models

CHAIN = """
g (float16[N,3,8,8] x) => (float16[N,4,8,8] y)
<float16[4,3,3,3] w1, float16[4] b1, float16[4,4,3,3] w2, float16[4,4,1,1] w3> {
  a = Conv <pads = [1,1,1,1]> (x, w1, b1)
  r = Relu (a)
  c = Conv <pads = [1,1,1,1]> (r, w2)
  s = Add (c, r)
  y = Conv (s, w3)
}"""
PRODUCT = """
g (float16[N,16] x) => (float16[N,16] y) <float16[16,16] w, float16[16] b> {
  h = MatMul (x, w)
  y = Add (h, b)
}"""
GRIDS = {"x": (-4.0, 4.0), "r": (0.0, 4.0), "c": (-4.0, 4.0)}


def _plan(form="qdq", grids=GRIDS, **weights):
    return Plan(
        model_sha256="",
        weights={
            name: WeightChoice(form=form, bits=8, axis=axis, reason="")
            for name, axis in weights.items()
        },
        activations={
            name: ActivationChoice(low=low, high=high, reason="")
            for name, (low, high) in grids.items()
        },
    )


def _half(**shapes):
    return {name: values.astype(np.float16) for name, values in models.feed(**shapes).items()}


def _read(text, tmp_path):
    return models.read(text, tmp_path, opset=21, ir_version=10)


def test_wide_nodes_give_what_half_ones_gave(tmp_path):
    model = _read(CHAIN, tmp_path)
    feed = _half(x=(2, 3, 8, 8))
    before = models.outputs(model, feed)["y"]

    plan = widen_half(model, _plan(w1=0, w2=0))

    verify(model)
    # ONNX Runtime computes half in float32 between Casts, and there are fewer Casts now.
    after = models.outputs(model, feed)["y"]
    assert after.dtype == np.float16
    limit = 8 * np.finfo(np.float16).eps * float(np.abs(before).max())
    np.testing.assert_allclose(after.astype(float), before.astype(float), rtol=0, atol=limit)
    assert set(plan.activations) == {"x.wide", "r", "c"}


def test_nodes_that_follow_each_other_have_no_cast_between(tmp_path):
    model = _read(CHAIN, tmp_path)
    widen_half(model, _plan(w1=0, w2=0))
    by_name = {node.outputs[0].name: node for node in model.graph}
    assert by_name["c"].inputs[0].name == "r"
    # One Cast for x; one back for each of r and c, which the Add reads in half precision.
    assert models.operators(model).count("Cast") == 3
    assert {value.name for value in by_name["s"].inputs} == {"r.half", "c.half"}
    assert by_name["y"].inputs[1].dtype == ir.DataType.FLOAT16


def test_the_same_plan_again_or_one_without_integers_changes_nothing(tmp_path):
    model = _read(CHAIN, tmp_path)
    plan = widen_half(model, _plan(w1=0))
    names = models.operators(model)
    assert widen_half(model, plan) == plan
    assert models.operators(model) == names
    other = _read(CHAIN, tmp_path)
    stored = _plan("stored", {}, w1=0)
    assert widen_half(other, stored) is stored
    assert models.operators(other) == models.operators(_read(CHAIN, tmp_path))


def test_applied_plan_runs_integer_kernels_and_leaves_the_given_model_alone(tmp_path):
    model = _read(CHAIN, tmp_path)
    types = {value.name: value.dtype for value in model.graph.initializers.values()}

    made = apply(_plan(w1=0, w2=0), model, {}).model

    assert {value.name: value.dtype for value in model.graph.initializers.values()} == types
    assert [value.dtype for value in (*made.graph.inputs, *made.graph.outputs)] == [
        ir.DataType.FLOAT16,
        ir.DataType.FLOAT16,
    ]
    assert models.operators(ort.optimized(made)).count("QLinearConv") == 2


@pytest.mark.parametrize(
    ("form", "kernel"), [("dynamic", "DynamicQuantizeMatMul"), ("qdq", "QGemm")]
)
def test_product_that_makes_an_output_keeps_the_outputs_name_and_type(form, kernel, tmp_path):
    model = _read(PRODUCT, tmp_path)
    feed = _half(x=(4, 16))
    before = models.outputs(model, feed)["y"].astype(float)

    made = apply(_plan(form, {"x": (-4.0, 4.0)}, w=1), model, {}).model

    after = models.outputs(made, feed)["y"]
    assert after.dtype == np.float16
    # Both factors have errors of at most half a step: of 8 / 255 and of max|w| / 127.
    w = models.constants(model)["w"].astype(float)
    x = feed["x"].astype(float)
    steps = 8 / 255 / 2, np.abs(w).max() / 127 / 2
    bound = (steps[0] * np.abs(w).sum(axis=0) + steps[1] * np.abs(x).sum(axis=1)[:, None]).max()
    assert np.abs(after.astype(float) - before).max() <= 2 * bound
    fused = models.operators(ort.optimized(made))
    assert kernel in fused or "MatMulIntegerToFloat" in fused


def test_half_weights_are_candidates():
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float16[2,2] x) => (float16[2,2] y) <float16[2,2] w = {1, 2, 3, 4}> { y = MatMul (x, w) }"""
    (one,) = integer_candidates(ir.from_onnx_text(text))
    assert one.reason == ""
