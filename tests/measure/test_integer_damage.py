"""What each integer kernel alone does to the output."""

from __future__ import annotations

import time

import numpy as np
import pytest

from onnxsqueeze.measure.integer_damage import integer_damage
from onnxsqueeze.passes.apply import carried_out, rounded
from onnxsqueeze.plan.types import ActivationChoice
from tests.analysis.test_regions import typed
from tests.passes.test_insert_qdq import drawn, output, parsed, plan_for

TEXT = """g (float[4,16] x) => (float[4,16] out) {
    y = MatMul(x, w)  t = Tanh(y)  z = MatMul(t, v)  out = Identity(z) }"""


def network():
    model = typed(parsed(TEXT, w=drawn(16, 16), v=drawn(16, 16, seed=1)))
    feeds = [{"x": drawn(4, 16, seed=seed)} for seed in range(2)]
    return model, feeds, plan_for(model, feeds[0])


def only(plan, name):
    return plan.model_copy(update={"weights": {name: plan.weights[name]}})


def test_damage_is_that_of_the_plan_alone():
    model, feeds, plan = network()
    plans = {name: only(plan, name) for name in ("w", "v")}
    found = integer_damage(model, plans, feeds)
    for name, one in plans.items():
        made = carried_out(one, model, rounded(one, model, {}))
        pairs = [(output(model, feed), output(made, feed)) for feed in feeds]
        noise = sum(float(np.square(a.astype(float) - b).sum()) for a, b in pairs)
        signal = sum(float(np.square(a.astype(float)).sum()) for a, _ in pairs)
        # threads may sum in another order
        assert found[name] == pytest.approx(noise / signal, rel=1e-3)


def test_a_grid_that_cuts_off_damages_more():
    model, feeds, plan = network()
    narrow = ActivationChoice(low=-0.1, high=0.1, reason="test")
    worse = only(plan, "w").model_copy(update={"activations": {**plan.activations, "x": narrow}})
    found = integer_damage(model, {"good": only(plan, "w"), "bad": worse}, feeds)
    assert found["bad"] > 10 * found["good"]


def test_no_more_are_tried_after_the_end():
    model, feeds, plan = network()
    assert integer_damage(model, {"w": only(plan, "w")}, feeds, end=time.monotonic() - 1) == {}
