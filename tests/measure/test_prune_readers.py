from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.measure import prune_readers as module
from onnxsqueeze.measure.prune_readers import bias, readers, repair, residual, rows_of_output
from onnxsqueeze.runtime import ort
from tests.measure.pruning import units
from tests.runtime.made import made, random, run

CNN = """
g (float[N,3,6,6] x) => (float[N,4,6,6] y)
<float[8,3,3,3] w, float[8] b, float[4,8,3,3] v, float[4] c> {
  h = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  r = Relu (h)
  y = Conv <pads = [1, 1, 1, 1]> (r, v, c)
}"""
BLOCK = """
g (float[N,5,6] x) => (float[N,5,6] y) <float[6,8] w, float[8] b, float[8,6] v, float[6] c> {
  h = MatMul (x, w)
  i = Add (b, h)
  r = Relu (i)
  k = MatMul (r, v)
  l = Add (k, c)
  y = Add (x, l)
}"""


def test_a_convs_channel_is_its_places_as_features() -> None:
    found = readers(made(CNN))
    assert list(found) == ["w", "v"]
    group = units("h", 8, ("w", 0), ("b", 0), ("v", 1))
    own = found["v"].unit_of_feature(group)
    assert own is not None
    np.testing.assert_array_equal(own, np.repeat(np.arange(8), 9)[np.newaxis])
    assert found["w"].unit_of_feature(group) is None


def test_heads_are_blocks_of_features() -> None:
    found = readers(made(BLOCK))["v"].unit_of_feature(units("heads", 2, ("v", 0), block=4))
    assert found is not None
    assert found.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_channels_of_a_depthwise_conv_are_outputs_not_features() -> None:
    text = "g (float[N,4,6,6] x) => (float[N,4,4,4] y) <float[4,1,3,3] w> "
    reader = readers(made(text + "{ y = Conv <group = 4> (x, w) }"))["w"]
    assert reader.unit_of_feature(units("x", 4, ("w", 0))) is None
    assert reader.kept_outputs({0: np.array([0, 2])})[:, 0].tolist() == [True, False, True, False]


def test_a_weight_that_two_nodes_read_is_left_out() -> None:
    text = "g (float[N,4] x) => (float[N,4] y) <float[4,4] w> "
    assert not readers(made(text + "{ h = MatMul (x, w) y = MatMul (h, w) }"))


@pytest.mark.parametrize("is_wide", [False, True])
def test_rows_times_matrix_are_the_output(is_wide: bool, monkeypatch) -> None:
    if is_wide:
        monkeypatch.setattr(module, "MOST_FEATURES", 71)  # the Conv of 8 · 9 features is over it
    model = made(CNN)
    reader = readers(model)["v"]
    assert reader.is_wide == is_wide
    weight = reader.weight()
    np.testing.assert_array_equal(reader.tensor(reader.matrix(weight)), weight)
    feed = {"x": random(2, 3, 6, 6)}
    r = ort.run(ort.session(ort.expose(model, ["r"])), feed)["r"]
    rows = reader.rows(r, 1000, np.random.default_rng(0))
    product = rows[0] @ reader.matrix(weight)[0].T
    # 72 products in float32, of values up to about 4.
    slack = 72 * 2.0**-23 * 16
    if is_wide:  # an output per place of the kernel: the centre's is a Conv of one place
        assert product.shape[1] == 4 * 9
        centre = np.einsum("nchw,mc->nmhw", r, weight[:, :, 1, 1])
        picked = product.reshape(-1, 4, 9)[:, :, 4].reshape(2, 8, 8, 4)[:, 1:-1, 1:-1]
        np.testing.assert_allclose(picked, np.moveaxis(centre, 1, -1), atol=slack)
        return
    y = run(model, feed)["y"]
    own = bias(reader)
    assert own is not None
    expected = rows_of_output(reader, y, 1000, np.random.default_rng(0))[0] - own.values
    np.testing.assert_allclose(product, expected, atol=slack)


def test_drawn_rows_and_outputs_are_of_the_same_places() -> None:
    model = made(CNN)
    reader = readers(model)["w"]
    feed = {"x": random(2, 3, 6, 6)}
    h = ort.run(ort.session(ort.expose(model, ["h"])), feed)["h"]
    rows = reader.rows(feed["x"], 10, np.random.default_rng(5))[0]
    outs = rows_of_output(reader, h, 10, np.random.default_rng(5))[0]
    own = bias(reader)
    assert own is not None
    expected = rows @ reader.matrix(reader.weight())[0].T + own.values
    np.testing.assert_allclose(outs, expected, atol=27 * 2.0**-23 * 16)


def test_bias_and_residual_stand_behind_the_product() -> None:
    found = readers(made(BLOCK))
    first, second = bias(found["w"]), bias(found["v"])
    assert first is not None
    assert second is not None
    assert not first.is_own
    np.testing.assert_array_equal(first.node.inputs[first.index].name, "b")
    assert second.node.inputs[second.index].name == "c"
    assert residual(found["w"]) is None
    assert residual(made_residual()) == "s"


def made_residual():
    text = BLOCK.replace("y = Add (x, l)", "s = Relu (x) y = Add (s, l)")
    return readers(made(text))["v"]


def test_what_comes_from_the_output_is_no_residual() -> None:
    text = "g (float[N,4] x) => (float[N,4] y) <float[4,4] w> "
    model = made(text + "{ h = MatMul (x, w) s = Relu (h) y = Add (h, s) }")
    assert residual(readers(model)["w"]) is None  # two nodes read the product


def test_a_shared_bias_is_repaired_for_its_reader_alone() -> None:
    text = """
g (float[N,4] x) => (float[N,4] y, float[N,4] z) <float[4,4] w, float[4,4] v, float[4] b> {
  h = MatMul (x, w)
  y = Add (h, b)
  k = MatMul (x, v)
  z = Add (k, b)
}"""
    model = made(text)
    feed = {"x": random(3, 4)}
    before = run(model, feed)
    reader = readers(model)["w"]
    repair(model, reader, np.zeros((1, 4, 4)), np.arange(4.0))
    after = run(model, feed)
    np.testing.assert_array_equal(after["y"], np.tile(np.arange(4.0, dtype=np.float32), (3, 1)))
    np.testing.assert_array_equal(after["z"], before["z"])
