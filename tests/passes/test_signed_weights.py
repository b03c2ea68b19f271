"""Signed weights: exact on the kernels of this machine, and within 16 bits where they are paired.

The engine's ``session.x64quantprecision`` makes the kernels exact that are not; paired codes must
need no such help.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.analysis.saturation import risk
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.passes.apply import carried_out, rounded
from onnxsqueeze.passes.coverage import fallen_back
from onnxsqueeze.plan.types import Plan, WeightChoice
from onnxsqueeze.runtime import ort
from tests.passes.test_insert_qdq import parsed, plan_for, step_of

PRODUCTS = {
    "3x3": ("out0 = Conv<pads=[1,1,1,1]>(x, w, b)", (1, 16, 6, 6), (8, 16, 3, 3)),
    "3x3 of 3 channels": ("out0 = Conv<pads=[1,1,1,1]>(x, w, b)", (1, 3, 6, 6), (8, 3, 3, 3)),
    "1x1": ("out0 = Conv(x, w, b)", (1, 32, 6, 6), (8, 32, 1, 1)),
    "groups": ("out0 = Conv<group=2>(x, w, b)", (1, 16, 6, 6), (8, 8, 3, 3)),
    "matrix": ("out0 = Gemm(x, w, b)", (16, 65), (65, 8)),
}


def model_of(kind, seed=0):
    """One product of uniform weights, the worst case, whose output has a grid where it can."""
    text, x, w = PRODUCTS[kind]
    rng = np.random.default_rng(seed)
    dims, outs = (",".join(map(str, dims)) for dims in (x, (*x[:1], "C", *x[2:])))
    model = parsed(
        f"g (float[{dims}] x) => (float[{outs}] out) {{ {text}  out = Identity(out0) }}",
        w=rng.uniform(-1, 1, w),
        b=rng.normal(size=8),
    )
    return model, {"x": rng.normal(size=x).astype(np.float32)}


def signed(model, feed, **changes):
    fields = {"form": "qdq", "bits": 8, "codes": "int8", "paired": True, **changes}
    return plan_for(model, feed, **fields)


def made_by(plan, model, grams=None):
    return carried_out(plan, model, rounded(plan, model, grams or {}))


def output(model, feed, **entries):
    options = ort.session_options()
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    return ort.run(ort.session(model, options=options), feed)["out"]


def signed_codes(made):
    tensor = made.graph.initializers["w.int"].const_value
    assert tensor.dtype == ir.DataType.INT8
    return tensor.numpy()


@pytest.mark.parametrize("kind", PRODUCTS)
def test_paired_codes_are_exact_on_the_kernels_here(kind):
    model, feed = model_of(kind)
    plan = signed(model, feed)
    made = made_by(plan, model)
    (one,) = integer_candidates(model)
    node = next(node for node in model.graph if node.outputs[0].name == one.y)
    assert risk(node, signed_codes(made)).over == 0
    assert fallen_back(plan, made) == {}
    step = step_of(plan, one.closes) if one.closes else 0.0
    written = ort.run(ort.session(made, optimization="off"), feed)["out"]
    # One step of the output's grid, where a sum lies on the border of two; else float32 sums.
    slack = step * 1.001 + 1e-4 * np.abs(written).max()
    assert np.abs(output(made, feed) - written).max() <= slack
    precise = output(made, feed, x64quantprecision="1")
    assert np.abs(output(made, feed) - precise).max() <= slack


@pytest.mark.parametrize("kind", PRODUCTS)
def test_compensated_codes_stay_paired(kind):
    model, feed = model_of(kind, seed=1)
    plan = signed(model, feed, rounding="compensated")
    (one,) = integer_candidates(model)
    node = next(node for node in model.graph if node.outputs[0].name == one.y)
    weight = model.graph.initializers["w"].const_value.numpy()
    groups = 2 if kind == "groups" else 1
    features = weight.size // 8
    rows = np.random.default_rng(2).normal(size=(groups, 4 * features, features))
    rows += rows[:, :, :1]  # neighbours that depend on each other are moved most
    gram = Gram(rows.swapaxes(1, 2) @ rows / rows.shape[1], rows.shape[1])
    assert risk(node, signed_codes(made_by(plan, model, {"w": gram}))).over == 0
    loose = signed(model, feed, rounding="compensated", paired=False)
    assert risk(node, signed_codes(made_by(loose, model, {"w": gram}))).over > 0


def test_seven_bits_need_no_pairs():
    model, feed = model_of("3x3")
    plan = signed(model, feed, bits=7, paired=False).model_copy(update={"portable": True})
    codes = signed_codes(made_by(plan, model))
    (one,) = integer_candidates(model)
    node = next(node for node in model.graph if node.outputs[0].name == one.y)
    assert (codes.min(), codes.max()) >= (-64, 0)
    assert codes.max() <= 63
    assert risk(node, codes).over == 0


def test_grids_of_each_run_read_signed_weights_too():
    model, feed = model_of("matrix")
    plan = signed(model, feed, form="dynamic")
    made = made_by(plan, model)
    assert fallen_back(plan, made) == {}
    (one,) = integer_candidates(model)
    node = next(node for node in model.graph if node.outputs[0].name == one.y)
    assert risk(node, signed_codes(made)).over == 0
    written = ort.run(ort.session(made, optimization="off"), feed)["out"]
    assert np.abs(output(made, feed) - written).max() <= 1e-4 * np.abs(written).max()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"form": "stored", "codes": "int8"}, "signed or paired codes go with forms qdq"),
        ({"form": "float", "bits": 32, "paired": True}, "signed or paired codes go with forms"),
        ({"form": "qdq", "paired": True, "axis": None}, "paired codes need an axis"),
    ],
)
def test_choices_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        WeightChoice(**{"bits": 8, "axis": 0, "reason": "test", **fields})


def test_a_plan_of_signed_weights_is_saved_and_loaded(tmp_path):
    model, feed = model_of("1x1")
    plan = signed(model, feed)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


def test_what_falls_back_is_named():
    model, feed = model_of("3x3")
    plan = signed(model, feed)
    made = made_by(plan, model)
    without = plan.model_copy(update={"weights": {}})
    assert fallen_back(without, made) == {}
    found = fallen_back(plan, model)  # nothing was carried out
    assert list(found) == ["w"]
    assert "ONNX Runtime made another kernel" in found["w"]


def test_planned_and_missing_stay_errors():
    model, feed = model_of("3x3")
    plan = signed(model, feed)
    with pytest.raises(PlanError):
        made_by(plan.model_copy(update={"activations": {}}), model)
