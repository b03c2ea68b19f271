from __future__ import annotations

import numpy as np

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.measure import steps as module
from onnxsqueeze.measure.steps import steps, taken
from onnxsqueeze.plan.types import Plan, WeightChoice
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.runtime.made import made, random

ATTENTION = """
g (float[N,16] x) => (float[N,16] y)
<float[16,16] q, float[16,16] k, float[16,16] v, float[16,16] o> {
  a = MatMul (x, q)
  r = Relu (x)
  b = MatMul (x, k)
  c = MatMul (r, v)
  d = Mul (a, b)
  e = Add (d, c)
  y = MatMul (e, o)
}"""
FEED = {"x": random(5, 16)}


def walked(forms=None, shapes=None):
    model = made(ATTENTION)
    choices = {
        name: WeightChoice(form=form, bits=8, axis=1, reason="test")
        for name, form in {**dict.fromkeys("qkvo", "stored"), **(forms or {})}.items()
    }
    planned = Plan(model_sha256="0" * 64, weights=choices)
    shapes = measured_shapes(model, FEED) if shapes is None else shapes
    return steps(planned, model, weights(model)[0], shapes)


def names(found):
    return [[[weight.name for weight in job.weights] for job in step.jobs] for step in found]


def test_weights_go_together_where_none_depends_on_another():
    found = walked()
    assert names(found) == [[["q", "k"], ["v"]], [["o"]]]
    assert [step.kept for step in found] == [("x",), ("e",)]


def test_each_form_reads_for_itself():
    assert names(walked({"k": "dynamic"})) == [[["q"], ["k"], ["v"]], [["o"]]]


def test_matrices_of_one_step_are_limited(monkeypatch):
    monkeypatch.setattr(module, "STEP_BYTES", 1)
    found = walked()
    assert names(found) == [[["q", "k"]], [["v"]], [["o"]]]
    assert [sorted(step.kept) for step in found] == [["x"], ["a", "b", "r"], ["e"]]


def test_no_step_ends_where_there_is_more_than_tensors(monkeypatch):
    monkeypatch.setattr(module, "STEP_BYTES", 1)
    shapes = dict(measured_shapes(made(ATTENTION), FEED))
    del shapes["b"]  # only tensors have shapes
    assert [step.kept for step in walked(shapes=shapes)] == [("x",), ("x",), ("e",)]


def test_samples_are_left_out_evenly_where_there_is_no_room(monkeypatch):
    shapes, found = measured_shapes(made(ATTENTION), FEED), walked()
    samples = [{"x": np.full((5, 16), k, np.float32)} for k in range(40)]
    assert [one["x"][0, 0] for one in taken(samples, found, shapes)] == list(range(40))
    monkeypatch.setattr(module, "SPOOL_BYTES", 20 * 2 * 5 * 16 * 4)
    some = taken(samples, found, shapes)
    assert [one["x"][0, 0] for one in some] == list(range(0, 40, 2))
    monkeypatch.setattr(module, "SPOOL_BYTES", 1)
    assert len(taken(samples, found, shapes)) == module.FEWEST_SAMPLES
