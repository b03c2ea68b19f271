from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.graph import walk
from onnxsqueeze.runtime.trials import Trials
from tests import models
from tests.runtime.made import made, random, run

TEXT = """
g (float[N,16] x) => (float[N,8] y) <float[16,16] w, float[16,8] v, float[8] b> {
  h = MatMul (x, w)
  r = Relu (h)
  m = MatMul (r, v)
  y = Add (m, b)
}"""
FEED = {"x": random(5, 16)}


def with_weight(model, name, values):
    copy = model.clone()
    for _, value in walk.initializers(copy):
        if value.name == name:
            value.const_value = ir.tensor(values, name=name)
    return copy


def close(a, b):
    # The kernels for constant and for fed weights may sum in another order: 16 products.
    np.testing.assert_allclose(a, b, rtol=0, atol=16 * 2.0**-23 * np.abs(b).max())


def test_a_run_with_a_replaced_weight_is_a_session_with_it():
    model, other = made(TEXT), random(16, 8, seed=7)
    trials = Trials(model, ["w", "v"])
    close(trials.run(FEED)["y"], run(model, FEED)["y"])
    close(trials.run(FEED, {"v": other})["y"], run(with_weight(model, "v", other), FEED)["y"])
    # The next run has the model's own weights again.
    close(trials.run(FEED)["y"], run(model, FEED)["y"])


def test_own_weights_can_be_read_and_the_model_stays():
    model = made(TEXT)
    before = ir.to_proto(model).SerializeToString()
    trials = Trials(model, ["w"])
    np.testing.assert_array_equal(trials.weight("w"), models.constants(model)["w"])
    assert ir.to_proto(model).SerializeToString() == before


def test_without_names_it_is_the_model():
    model = made(TEXT)
    np.testing.assert_array_equal(Trials(model, []).run(FEED)["y"], run(model, FEED)["y"])


def test_a_shared_weight_is_replaced_for_all_readers():
    text = "g (float[N,16] x) => (float[N,16] y) <float[16,16] w> {"
    model = made(text + " a = MatMul (x, w) y = MatMul (a, w) }")
    other = random(16, 16, seed=3)
    found = Trials(model, ["w"]).run(FEED, {"w": other})["y"]
    close(found, run(with_weight(model, "w", other), FEED)["y"])


def test_weights_of_branches_can_be_replaced():
    numbers = ", ".join(str(x) for x in range(64))
    model = made(f"""
    g (float[N,8] x, bool c) => (float[N,8] y) {{
      y = If (c) <
        then_branch = t () => (float[N,8] a) <float[8,8] v = {{{numbers}}}> {{
          a = MatMul (x, v) }},
        else_branch = e () => (float[N,8] b) {{ b = Relu (x) }}
      >
    }}""")  # fmt: skip
    other, x = random(8, 8, seed=5), random(2, 8)
    trials = Trials(model, ["v"])
    for taken in (True, False):
        feed = {"x": x, "c": np.array(taken)}
        expected = run(with_weight(model, "v", other), feed)["y"]
        close(trials.run(feed, {"v": other})["y"], expected)


def test_half_weights_keep_their_type():
    text = "g (float16[N,16] x) => (float16[] y) <float16[16,8] w> { y = MatMul (x, w) }"
    model = made(text)
    trials = Trials(model, ["w"])
    feed = {"x": FEED["x"].astype(np.float16)}
    assert trials.weight("w").dtype == np.float16
    np.testing.assert_allclose(trials.run(feed)["y"], run(model, feed)["y"], rtol=2e-3, atol=2e-3)
