from __future__ import annotations

import numpy as np

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.facts.store import Store
from onnxsqueeze.measure import grams as module
from onnxsqueeze.measure.grams import grams
from onnxsqueeze.runtime.shapes import measured_shapes
from tests import models
from tests.runtime.made import made, random, run

MLP = """
g (float[N,16] x) => (float[N,32] y) <float[16,24] w, float[24,32] v, float[16,24] u> {
  h = MatMul (x, w)
  r = Relu (h)
  k = MatMul (x, u)
  s = Add (r, k)
  y = MatMul (s, v)
}"""


def measured(model, feeds, folder, **settings):
    found = weights(model)[0]
    shapes = measured_shapes(model, feeds[0])
    return grams(model, found, feeds, shapes, store=Store(folder), key={}, **settings)


def direct(rows):
    rows = np.asarray(rows, np.float64)
    return rows.T @ rows / len(rows)


def close(found, rows):
    expected = direct(rows)
    assert found.rows == len(rows)
    assert found.matrix.shape == (1, *expected.shape)
    # Sums of n float32 products: n roundings of values up to the largest diagonal.
    slack = len(rows) * 2.0**-23 * np.diag(expected).max()
    np.testing.assert_allclose(found.matrix[0], expected, rtol=0, atol=slack)


def feeds(count=5, rows=7):
    return [{"x": random(rows, 16, seed=seed)} for seed in range(count)]


def test_matrices_are_the_mean_products_of_all_rows(tmp_path):
    model, given = made(MLP), feeds()
    found = measured(model, given, tmp_path)
    assert sorted(found) == ["u", "v", "w"]
    close(found["w"], np.concatenate([feed["x"] for feed in given]))
    copy = model.clone()
    copy.graph.outputs.append(next(n for n in copy.graph if n.op_type == "Add").outputs[0])
    close(found["v"], np.concatenate([run(copy, feed)["s"] for feed in given]))


def test_weights_with_one_input_share_one_matrix(tmp_path):
    found = measured(made(MLP), feeds(), tmp_path)
    assert len(found._fact.arrays) == 2
    np.testing.assert_array_equal(found["w"].matrix, found["u"].matrix)


def test_several_passes_give_the_same(tmp_path, monkeypatch):
    text = MLP.replace("y = MatMul (s, v)", "t = MatMul (s, v) y = MatMul (t, z)")
    text = text.replace("float[24,32] v", "float[24,32] v, float[32,32] z")
    once = measured(made(text), feeds(), tmp_path / "once")
    sessions, session = [], module.ort.session
    monkeypatch.setattr(module, "GROUP_BYTES", 1)
    monkeypatch.setattr(
        module.ort, "session", lambda *a, **k: sessions.append(a) or session(*a, **k)
    )
    often = measured(made(text), feeds(), tmp_path / "often")
    assert len(sessions) == 1 + 2  # one for the shapes; the fed input's pass needs none
    assert sorted(once) == sorted(often) == ["u", "v", "w", "z"]
    for name, gram in once.items():
        np.testing.assert_array_equal(often[name].matrix, gram.matrix)
        assert often[name].rows == gram.rows


def test_a_convolution_has_one_matrix_per_group(tmp_path):
    model = made("""
    g (float[N,8,5,5] x) => (float[] y) <float[12,4,3,3] w> {
      y = Conv <group = 2, pads = [1,1,1,1], strides = [2,2]> (x, w)
    }""")
    given = [{"x": random(2, 8, 5, 5, seed=seed)} for seed in range(3)]
    found = measured(model, given, tmp_path)["w"]
    assert (found.matrix.shape, found.rows) == ((2, 36, 36), 3 * 2 * 9)
    # By definition: the energy of the outputs is that of the weights under the matrix.
    w = models.constants(model)["w"].reshape(2, 6, 36).astype(np.float64)
    y = np.concatenate([run(model, feed)["y"] for feed in given]).astype(np.float64)
    y = y.reshape(-1, 2, 6, 9)
    expected = np.square(y).sum(axis=(0, 3)) / found.rows
    np.testing.assert_allclose(
        np.einsum("gok,gkl,gol->go", w, found.matrix, w), expected, rtol=1e-4
    )


def test_kernels_of_another_shape_see_other_rows(tmp_path):
    model = made("""
    g (float[N,16,5,5] x) => (float[] y, float[] z) <float[8,16,1,3] w, float[8,16,3,1] v> {
      y = Conv (x, w)
      z = Conv (x, v)
    }""")
    for node in model.graph:
        assert "kernel_shape" not in node.attributes
    found = measured(model, [{"x": random(2, 16, 5, 5)}], tmp_path)
    w = models.constants(model)
    y = run(model, {"x": random(2, 16, 5, 5)})
    for weight, output in (("w", "y"), ("v", "z")):
        flat = w[weight].reshape(8, 48).astype(np.float64)
        expected = np.square(y[output].astype(np.float64)).sum(axis=(0, 2, 3)) / found[weight].rows
        energy = np.einsum("ok,kl,ol->o", flat, found[weight].matrix[0], flat)
        np.testing.assert_allclose(energy, expected, rtol=1e-4)


def test_only_matrix_products_of_the_main_graph_have_one(tmp_path):
    numbers = ", ".join(["0.5"] * 256)
    model = made(f"""
    g (float[N,16] x, bool c, int64[N] i) => (float[N,16] y, float[N,16] e)
    <float[16,16] w, float[20,16] t> {{
      e = Gather (t, i)
      y = If (c) <
        then_branch = a () => (float[N,16] p) <float[16,16] v = {{{numbers}}}> {{
          q = MatMul (x, w)  p = MatMul (q, v) }},
        else_branch = b () => (float[N,16] o) {{ o = Relu (x) }}
      >
    }}""")  # fmt: skip
    feed = {"x": random(3, 16), "c": np.array(True), "i": np.arange(3)}
    assert len(weights(model)[0]) == 3
    assert dict(measured(model, [feed], tmp_path)) == {}


def test_rows_that_are_not_finite_are_left_out(tmp_path):
    given = feeds(2)
    given[1]["x"][3, 0], given[1]["x"][4, 5] = np.nan, -np.inf
    found = measured(made(MLP), given, tmp_path)
    rows = np.concatenate([feed["x"] for feed in given])
    close(found["w"], rows[np.isfinite(rows).all(axis=1)])
    nothing = measured(made(MLP), [{"x": np.full((2, 16), np.nan, np.float32)}], tmp_path / "2")
    assert (nothing["w"].rows, nothing["w"].matrix.any()) == (0, False)


def test_wide_weights_have_none(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_FEATURES", 16)
    assert sorted(measured(made(MLP), feeds(), tmp_path)) == ["u", "w"]


def test_rows_are_drawn_evenly_from_the_samples_and_with_the_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FEWEST_ROWS", 8)
    monkeypatch.setattr(module, "MOST_ROWS", 20)
    given = [{"x": random(50, 16, seed=seed)} for seed in range(5)]
    a, b, c = (
        measured(made(MLP), given, tmp_path / str(index), seed=seed)["w"]
        for index, seed in enumerate((0, 0, 1))
    )
    assert a.rows == 20  # four of each sample
    np.testing.assert_array_equal(a.matrix, b.matrix)
    assert (a.matrix != c.matrix).any()


def test_what_is_in_the_store_is_not_measured_again(tmp_path):
    first = measured(made(MLP), feeds(), tmp_path)
    told = []
    again = grams(
        made(MLP), [], [], {}, store=Store(tmp_path), key={}, progress=lambda *at: told.append(at)
    )
    np.testing.assert_array_equal(again["w"].matrix, first["w"].matrix)
    assert told == []
    other = grams(made(MLP), [], [], {}, store=Store(tmp_path), key={"seed": 1})
    assert dict(other) == {}


def test_progress_counts_samples_of_all_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GROUP_BYTES", 1)
    told = []
    measured(made(MLP), feeds(3), tmp_path, progress=lambda *at: told.append(at))
    assert told == [(done, 6) for done in range(1, 7)]
