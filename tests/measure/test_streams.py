from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.graph import edit
from onnxsqueeze.measure import grams as rows
from onnxsqueeze.measure import streams as module
from onnxsqueeze.measure.grams import jobs
from onnxsqueeze.measure.streams import Read, Stream, streams
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.runtime.made import made, random, run

TEXT = """
g (float[N,16] x) => (float[N,16] y) <float[16,24] w, float[24,24] v, float[24,16] u> {
  h = MatMul (x, w)
  r = Relu (h)
  k = MatMul (r, v)
  s = Add (r, k)
  y = MatMul (s, u)
}"""


def feeds(count=5, size=7):
    return [{"x": random(size, 16, seed=seed)} for seed in range(count)]


def changed(model):
    copy = model.clone()
    for name in ("w", "v"):
        value = copy.graph.initializers[name]
        edit.set_value(value, value.const_value.numpy() * np.float32(0.9) + np.float32(0.01))
    return copy


def read(model, feed, name):
    copy = model.clone()
    values = {out.name: out for node in copy.graph for out in node.outputs}
    if name in values:
        copy.graph.outputs.append(values[name])
    return {**feed, **run(copy, feed)}[name]


def walked(model, other, given, steps, **settings):
    """The moments of each step's inputs; a step is (weights, values to go on from)."""
    found = {weight.name: weight for weight in weights(model)[0]}
    shapes = measured_shapes(model, given[0])
    before, after, result = Stream(given), Stream(given), {}
    for names, kept in steps:
        every = [next(jobs([found[name]], shapes)) for name in names]
        reads = [Read(job, job.weights[0].input_name, np.asarray) for job in every]
        moments = streams((before, model), (after, other), reads, kept, **settings)
        result |= dict(zip(names, moments, strict=True))
    return result


STEPS = ((("w",), ("x",)), (("v",), ("r",)), (("u",), ("s",)))


@pytest.mark.parametrize("memory", [0, 1000, 2**20])
@pytest.mark.parametrize("steps", [STEPS, ((("w", "v", "u"), ()),)])
def test_moments_are_those_of_both_models_whole(memory, steps, monkeypatch):
    monkeypatch.setattr(module, "MEMORY_BYTES", memory)
    model, given = made(TEXT), feeds()
    other = changed(model)
    found = walked(model, other, given, steps)
    for name, tensor in (("w", "x"), ("v", "r"), ("u", "s")):
        x, z = (
            np.concatenate([read(one, feed, tensor) for feed in given]).astype(np.float64)
            for one in (model, other)
        )
        seen = found[name]
        assert seen.gram.rows == len(x) == 35
        # Sums of n float32 products: n roundings of values up to the largest mean square.
        slack = 4 * len(x) * 2.0**-23 * max(np.square(x).mean(0).max(), np.square(z).mean(0).max())
        for matrix, expected in ((seen.gram.matrix, z.T @ z), (seen.drift, (x - z).T @ z)):
            np.testing.assert_allclose(matrix[0], expected / len(x), rtol=0, atol=slack)
        np.testing.assert_allclose(seen.mean[0], x.mean(axis=0), rtol=0, atol=slack)
        np.testing.assert_allclose(seen.mean_now[0], z.mean(axis=0), rtol=0, atol=slack)


def test_equal_models_have_no_drift_also_where_rows_are_drawn(monkeypatch):
    monkeypatch.setattr(rows, "FEWEST_ROWS", 8)
    monkeypatch.setattr(rows, "ROWS_PER_FEATURE", 0)
    model = made(TEXT)
    for seen in walked(model, model.clone(), feeds(size=40), STEPS).values():
        assert seen.gram.rows == 10  # two of each sample
        assert not seen.drift.any()
        np.testing.assert_array_equal(seen.mean, seen.mean_now)


def test_rows_are_drawn_with_the_seed(monkeypatch):
    monkeypatch.setattr(rows, "FEWEST_ROWS", 8)
    monkeypatch.setattr(rows, "ROWS_PER_FEATURE", 0)
    model = made(TEXT)
    a, b, c = (
        walked(model, changed(model), feeds(size=40), STEPS, seed=seed)["u"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a.drift, b.drift)
    assert (a.drift != c.drift).any()


def test_rows_that_are_not_finite_in_one_model_count_in_neither():
    model = made(TEXT)
    other = changed(model)
    weight = other.graph.initializers["v"]
    edit.set_value(weight, np.full((24, 24), np.inf, np.float32))
    found = walked(model, other, feeds(), STEPS)
    assert found["v"].gram.rows == 35
    assert (found["u"].gram.rows, found["u"].drift.any()) == (0, False)
    assert np.isfinite(found["u"].mean).all()


def test_what_is_done_to_the_input_is_seen():
    model, given = made(TEXT), feeds()
    job = next(jobs(weights(model)[0], measured_shapes(model, given[0])))
    read_half = Read(job, "x", lambda x: x / 2)
    (seen,) = streams((Stream(given), model), (Stream(given), model), [read_half], ())
    np.testing.assert_allclose(seen.mean_now, seen.mean / 2, rtol=1e-6)
    # The same products in other orders: each float32 sum is off by n · 2⁻²⁴ of its magnitudes,
    # whose mean is no larger than that of the largest square.
    bound = 2 * seen.gram.rows * 2.0**-24 * np.diagonal(seen.gram.matrix[0]).max()
    np.testing.assert_allclose(seen.drift, seen.gram.matrix, rtol=0, atol=bound)


def test_samples_whose_shapes_differ_count_in_neither():
    model, given = made(TEXT), feeds(3)
    job = next(jobs(weights(model)[0], measured_shapes(model, given[0])))
    shorter = Read(job, "x", lambda x: x[1:] if x[0, 0] == given[1]["x"][0, 0] else x)
    (seen,) = streams((Stream(given), model), (Stream(given), model), [shorter], ())
    assert seen.gram.rows == 14


def test_steps_are_told():
    told = []
    model = made(TEXT)
    walked(model, model, feeds(3), STEPS, step=told.append)
    assert told == [1, 2, 3] * 3
