"""Nodes without a weight between integer kernels: what ONNX Runtime makes of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.analysis.regions import joints
from onnxsqueeze.errors import PlanError
from onnxsqueeze.passes.insert_qdq import InsertQdqPass
from onnxsqueeze.plan.types import ActivationChoice, Plan
from onnxsqueeze.runtime import ort
from tests.analysis.test_regions import typed
from tests.passes.test_insert_qdq import drawn, operators, output, parsed, plan_for, text_of

BETWEEN = {
    "silu": ("s = Sigmoid(y)  m = Mul(y, s)", {"QLinearSigmoid", "QLinearMul"}),
    "addition": ("s = Conv(x, u)  m = Add(y, s)", {"QLinearAdd"}),
    "clamped addition": ("s = Conv(x, u)  a = Add(y, s)  m = Relu(a)", {"QLinearAdd"}),
    "pool": ("m = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(y)", {"QLinearAveragePool"}),
    "largest": ("m = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>(y)", {"NhwcMaxPool"}),
    "beside": ("s = LeakyRelu(y)  m = Concat<axis=1>(y, s)", {"QLinearConcat"}),
}


def network(between: str) -> tuple[ir.Model, dict[str, np.ndarray]]:
    wide = 8 if "Concat" in between else 4
    weights = {"w": drawn(4, 4, 1, 1), "v": drawn(4, wide, 1, 1, seed=1)}
    if "u)" in between:
        weights["u"] = drawn(4, 4, 1, 1, seed=2)
    model = parsed(
        f"""g (float[1,4,8,8] x) => (float[1,4,8,8] out) {{
        y = Conv(x, w)  {between}  z = Conv(m, v)  out = Tanh(z) }}""",
        **weights,
    )
    return typed(model), {"x": drawn(1, 4, 8, 8, seed=3)}


def joined_plan(model: ir.Model, feed: dict[str, np.ndarray]) -> Plan:
    plan = plan_for(model, feed)
    found = joints(model, integer_candidates(model))
    assert found
    assert not any(one.reason for one in found)
    names = sorted({name for one in found for name in (*one.reads, one.closes)})
    seen = ort.run(ort.session(ort.expose(model, names)), feed)
    grids = dict(plan.activations)
    for name in names:
        grids[name] = ActivationChoice(
            low=float(seen[name].min()), high=float(seen[name].max()), reason="test"
        )
    for one in found:
        if one.keeps_grid:
            grids[one.closes] = grids[one.reads[0]]
    return plan.model_copy(
        update={"activations": grids, "joined": {one.y: "test" for one in found}}
    )


@pytest.mark.parametrize("kind", BETWEEN)
def test_integers_flow_through_to_the_last_kernel(kind):
    between, expected = BETWEEN[kind]
    model, feed = network(between)
    plan = joined_plan(model, feed)
    floats = output(model, feed)
    assert InsertQdqPass(plan)(model).modified
    found = operators(model)
    assert expected <= set(found)
    # one way in, one way out, and nothing made floats between them
    assert found.count("QuantizeLinear") == found.count("DequantizeLinear") == 1
    error = np.abs(output(model, feed) - floats)
    written = np.abs(output(model, feed, "off") - floats)
    # Integer kernels round each result once more than the graph as it is written: by a step of
    # the last grid, and by what the steps before become of.
    assert error.mean() <= 4 * written.mean() + 1e-3


def test_a_second_run_changes_nothing():
    model, feed = network(BETWEEN["silu"][0])
    plan = joined_plan(model, feed)
    InsertQdqPass(plan)(model)
    before = text_of(model)
    assert not InsertQdqPass(plan)(model).modified
    assert text_of(model) == before


REFUSALS = {
    "cannot be one: no kernel beside it": lambda _: {"joined": {"nosuch": "test"}},
    "'s' has no range": lambda plan: {
        "activations": {name: one for name, one in plan.activations.items() if name != "s"}
    },
}


@pytest.mark.parametrize("message", REFUSALS)
def test_a_plan_that_does_not_fit_is_refused_before_any_change(message):
    model, feed = network(BETWEEN["silu"][0])
    plan = joined_plan(model, feed)
    changed = plan.model_copy(update=REFUSALS[message](plan))
    before = text_of(model)
    with pytest.raises(PlanError, match=message):
        InsertQdqPass(changed)(model)
    assert text_of(model) == before


def test_a_mover_needs_equal_grids():
    model, feed = network(BETWEEN["largest"][0])
    plan = joined_plan(model, feed)
    wide = ActivationChoice(low=-100, high=100, reason="test")
    changed = plan.model_copy(update={"activations": {**plan.activations, "m": wide}})
    with pytest.raises(PlanError, match=r"moves integers as they are, .* 'y' and 'm' differ"):
        InsertQdqPass(changed)(model)
