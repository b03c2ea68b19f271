from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.graph import walk
from onnxsqueeze.measure.sensitivity import rounded, sensitivity
from onnxsqueeze.numerics.error import at_bits, relative_energy
from onnxsqueeze.numerics.grid import as_rows, from_grid, mse_scale, to_grid
from tests import models
from tests.runtime.made import made, random, run

TEXT = """
g (float[N,16] x) => (float[N,24] y, float[N,24] z, int64[N] i)
<float[16,24] w, float[24,24] v, float[24,24] u> {
  h = MatMul (x, w)
  r = Relu (h)
  y = MatMul (r, v)
  z = MatMul (r, u)
  i = ArgMax <axis = 1, keepdims = 0> (y)
}"""
FEEDS = [{"x": random(5, 16, seed=seed)} for seed in range(3)]


def tried(model, feeds=FEEDS, **settings):
    return sensitivity(model, weights(model)[0], feeds, **settings)


def with_weight(model, name, values):
    copy = model.clone()
    for _, value in walk.initializers(copy):
        if value.name == name:
            value.const_value = ir.tensor(values, name=name)
    return copy


def test_it_is_the_largest_error_of_the_float_outputs_over_all_samples():
    model = made(TEXT)
    found = tried(model)
    assert sorted(found) == ["u", "v", "w"]
    for name, damage in found.items():
        w = models.constants(model)[name]
        other = with_weight(model, name, rounded(w, 1, 4))
        pairs = [(run(model, feed), run(other, feed)) for feed in FEEDS]
        expected = max(
            relative_energy(*(np.stack([pair[k][output] for pair in pairs]) for k in (0, 1)))
            for output in ("y", "z")
        )
        assert damage == pytest.approx(expected, rel=1e-3)
        assert 1e-4 < damage < 0.1  # four bits: about 20 dB


def test_nothing_is_lost_by_a_weight_that_is_on_its_grid():
    model = made(TEXT)
    w = models.constants(model)["v"]
    model = with_weight(model, "v", np.where(w > 0, 7, -7).astype(np.float32))
    assert tried(model)["v"] == 0.0


def test_a_weight_that_no_sample_reaches_does_no_damage():
    numbers = ", ".join(str(round(x, 3)) for x in random(256).tolist())
    model = made(f"""
    g (float[N,16] x, bool c) => (float[N,16] y) <float[16,16] w> {{
      y = If (c) <
        then_branch = t () => (float[N,16] a) <float[16,16] v = {{{numbers}}}> {{
          a = MatMul (x, v) }},
        else_branch = e () => (float[N,16] b) {{ b = MatMul (x, w) }}
      >
    }}""")  # fmt: skip
    found = tried(model, [{**feed, "c": np.array(True)} for feed in FEEDS])
    assert found["w"] == 0.0
    assert found["v"] > 0.0


def test_outputs_that_are_not_finite_are_compared_where_they_are():
    text = """
    g (float[N,16] x, bool[N,24] mask) => (float[N,24] y) <float[16,24] w, float low> {
      h = MatMul (x, w)
      y = Where (mask, low, h)
    }"""
    model = made(text, low=np.array(-np.inf, np.float32))
    mask = np.zeros((5, 24), bool)
    mask[:, ::3] = True
    masked = tried(model, [{**feed, "mask": mask} for feed in FEEDS])["w"]
    finite = made(text, low=np.array(0, np.float32))
    zeroed = tried(finite, [{**feed, "mask": mask} for feed in FEEDS])["w"]
    assert masked == pytest.approx(zeroed, rel=1e-12)  # sums in another order
    assert 0 < masked < 0.1


@pytest.mark.parametrize(
    "rest",
    ["y = Log (m)", "c = Greater (m, zero) y = Compress (m, c)"],
    ids=["not a number", "another shape"],
)
def test_outputs_that_break_are_infinitely_damaged(rest):
    # The sum of each column is 0.01. Its largest value is rounded to a step of over 0.08 or so, in
    # which those that make up for it are nothing.
    w = np.full((16, 16), 0.0, np.float32)
    w[0], w[1], w[2:14], w[14] = -1.0, 0.52, 0.04, 0.01
    model = made(
        "g (float[1,16] x) => (float[] y) <float[16,16] w, float zero = {0}, int64[1] f = {-1}> {"
        f" h = MatMul (x, w) m = Reshape (h, f) {rest} }}",
        w=w,
    )
    feed = {"x": np.ones((1, 16), np.float32)}
    assert np.isfinite(run(model, feed)["y"]).all()
    assert (rounded(w, 1, 4).sum(axis=0) < 0).all()
    assert tried(model, [feed])["w"] == math.inf


def test_progress_counts_weights():
    told = []
    tried(made(TEXT), progress=lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert sensitivity(made(TEXT), [], FEEDS) == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rounded_weights_keep_type_and_shape(dtype):
    w = random(6, 4, 3, 3).astype(dtype)
    back = rounded(w, 0, 4)
    assert (back.dtype, back.shape) == (w.dtype, w.shape)
    rows = as_rows(w.astype(np.float32), 0)
    scale = mse_scale(rows, 4)
    expected = from_grid(to_grid(rows, scale, 4), scale).astype(dtype)
    np.testing.assert_array_equal(as_rows(back, 0), expected)


def test_each_bit_more_quarters_the_damage():
    assert [at_bits(1.0, bits) for bits in (3, 4, 5, 8)] == [4.0, 1.0, 0.25, 4.0**-4]
