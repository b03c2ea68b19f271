"""Which entries go together, what is frozen and why, on graphs where it can be told by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxsqueeze.analysis.units import Dependencies, Points, Units, dependencies
from onnxsqueeze.graph import io
from tests import models
from tests.passes.cutting import feeds, found, whole

MODELS = Path(__file__).resolve().parents[2] / "models"


def groups(text: str, *dims: int, opset: int = 17) -> dict[str, Units]:
    tied, _ = found(whole(text, opset), feeds(*dims))
    return {one.name: one for one in tied.units}


def reasons(tied: Dependencies) -> dict[tuple[str, int], str]:
    return {(one.weight, one.axis): one.reason for one in tied.frozen}


def frozen(text: str, *dims: int, opset: int = 17) -> dict[tuple[str, int], str]:
    return reasons(found(whole(text, opset), feeds(*dims))[0])


def test_a_residual_addition_makes_one_group_of_both_layers() -> None:
    (one,) = groups(models.RESIDUAL, 3, 8, 8).values()
    assert (one.name, one.count) == ("a", 4)
    constants = {place for place in one.entries if place[0][0] in "wb"}
    assert constants == {("w1", 0), ("b1", 0), ("w2", 0), ("w2", 1), ("w3", 1)}
    assert all(unit.tolist() == [0, 1, 2, 3] for unit in one.entries.values())


def test_inputs_and_outputs_of_the_model_are_frozen() -> None:
    why = frozen(models.RESIDUAL, 3, 8, 8)
    assert why["w1", 1] == "'x', axis 1: it is an input of the model"
    assert why["w3", 0] == "'y', axis 1: it is an output of the model"
    assert why["w1", 2] == "'w1', axis 2: Conv ties axis 2 to nothing"


def test_two_groups_share_the_axis_of_what_reads_their_concatenation() -> None:
    found_groups = groups(models.CONCAT, 3, 8, 8)
    assert {name: one.count for name, one in found_groups.items()} == {"a": 4, "b": 2}
    assert found_groups["a"].entries["w3", 1].tolist() == [0, 1, 2, 3, -1, -1]
    assert found_groups["b"].entries["w3", 1].tolist() == [-1, -1, -1, -1, 0, 1]


SPLIT = """
g (float[N,6] x) => (float[N,3] y)
<float[6,5] w, float[2,3] u, float[3,3] v, int64[2] sizes = {2, 3}> {
  h = MatMul (x, w)
  a, b = Split <axis = 1> (h, sizes)
  c = MatMul (a, u)
  d = MatMul (b, v)
  y = Add (c, d)
}"""


def test_groups_of_one_tensor_have_names_of_their_own() -> None:
    found_groups = groups(SPLIT, 6)
    assert {name: one.count for name, one in found_groups.items()} == {"h": 2, "h.2": 3}
    assert found_groups["h"].entries["w", 1].tolist() == [0, 1, -1, -1, -1]
    assert found_groups["h.2"].entries["w", 1].tolist() == [-1, -1, 0, 1, 2]


def test_entry_k_of_every_group_of_a_convolution_goes_together() -> None:
    text = """
    g (float[N,3,4,4] x) => (float[N,2,4,4] y)
    <float[6,3,1,1] a, float[4,3,1,1] w, float[2,4,1,1] u> {
      h = Conv (x, a)
      k = Conv <group = 2> (h, w)
      y = Conv (k, u)
    }"""
    found_groups = groups(text, 3, 4, 4)
    assert found_groups["h"].entries["a", 0].tolist() == [0, 1, 2, 0, 1, 2]
    assert found_groups["h"].entries["w", 1].tolist() == [0, 1, 2]
    assert found_groups["k"].entries["w", 0].tolist() == [0, 1, 0, 1]
    assert found_groups["k"].entries["u", 1].tolist() == [0, 1, 0, 1]


def test_channels_that_are_flattened_own_all_their_places() -> None:
    text = """
    g (float[N,3,2,2] x) => (float[N,2] y) <float[3,3,1,1] w, float[2,12] u> {
      h = Conv (x, w)
      f = Flatten (h)
      y = Gemm <transB = 1> (f, u)
    }"""
    (one,) = groups(text, 3, 2, 2).values()
    assert one.entries["u", 1].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_a_long_chain_of_ties_is_one_component() -> None:
    points = Points({"a": (1000,)})
    backwards = np.arange(999)[::-1]
    points.join(("a", 0), backwards, ("a", 0), backwards + 1)
    assert not points.components().any()


HEADS = """
g (float[N,3,6] x) => (float[N,3,6] y)
<float[6,8] wq, float[6,8] wk, float[6,8] wv, float[8,6] wo, float scale = {8},
 int64[4] heads = {0, 0, 4, 2}, int64[3] back = {0, 0, 8}> {
  q = MatMul (x, wq)
  k = MatMul (x, wk)
  v = MatMul (x, wv)
  q4 = Reshape (q, heads)
  k4 = Reshape (k, heads)
  v4 = Reshape (v, heads)
  qt = Transpose <perm = [0,2,1,3]> (q4)
  kt = Transpose <perm = [0,2,3,1]> (k4)
  vt = Transpose <perm = [0,2,1,3]> (v4)
  s = MatMul (qt, kt)
  p = Softmax <axis = -1> (s)
  m = Mul (p, scale)
  r = Round (m)
  c = MatMul (r, vt)
  ct = Transpose <perm = [0,2,1,3]> (c)
  o = Reshape (ct, back)
  y = MatMul (o, wo)
}"""


def test_attention_goes_by_heads() -> None:
    (one,) = groups(HEADS, 3, 6).values()
    assert one.count == 4
    for place in (("wq", 1), ("wk", 1), ("wv", 1), ("wo", 0)):
        assert one.entries[place].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_normalized_axis_is_frozen() -> None:
    text = """
    g (float[N,4] x) => (float[N,2] y) <float[4,5] w, float[5] s, float[5,2] u> {
      h = MatMul (x, w)
      n = LayerNormalization (h, s)
      y = MatMul (n, u)
    }"""
    why = frozen(text, 4)
    assert why["w", 1] == "'h', axis 1: LayerNormalization ties axis 1 to nothing"
    assert why["u", 0] == "'n', axis 1: LayerNormalization ties axis 1 to nothing"
    assert not groups(text, 4)


def test_what_a_subgraph_reads_is_frozen() -> None:
    text = """
    g (float[N,4] x) => (float[N,2] y) <float[4,5] w, float[5,2] u, bool c = {1}> {
      h = MatMul (x, w)
      z = If (c) <
        then_branch = a () => (float[N,5] t) { t = Relu (h) },
        else_branch = b () => (float[N,5] e) { e = Identity (h) }
      >
      y = MatMul (z, u)
    }"""
    assert frozen(text, 4)["w", 1] == "'h', axis 1: a subgraph of If reads it"


def test_an_operator_without_ties_freezes_all_that_it_touches() -> None:
    text = """
    g (float[N,4] x) => (float[N,2] y) <float[4,5] w, float[5,2] u, int64[1,1] i = {0}> {
      h = MatMul (x, w)
      r = Relu (h)
      z = GatherElements <axis = 0> (r, i)
      k = MatMul (r, u)
      m = ReduceSum <keepdims = 1> (z)
      y = Add (k, m)
    }"""
    why = frozen(text, 4)
    assert why["w", 1] == "'r', axis 1: the table does not say what GatherElements ties"


MLP = """
g (float[N,4] x) => (float[N,2] y) <float[4,5] w, float[5,2] u> {
  h = MatMul (x, w)
  r = Relu (h)
  y = MatMul (r, u)
}"""


def test_a_port_without_a_shape_freezes_the_others_of_its_node() -> None:
    model = whole(MLP)
    tied, shapes = found(model, feeds(4))
    assert [one.count for one in tied.units] == [5]
    del shapes["r"]
    tied = dependencies(model, [shapes])
    assert not tied.units
    assert reasons(tied)["w", 1] == "'h', axis 1: the shape of 'r' is unknown"
    assert reasons(tied)["u", 0] == "'u', axis 0: the shape of 'r' is unknown"


def test_an_axis_whose_length_varies_is_frozen() -> None:
    model = whole(MLP)
    _, shapes = found(model, feeds(4))
    tied = dependencies(model, [shapes, shapes | {"r": (2, 6)}])
    assert not tied.units
    assert reasons(tied)["w", 1] == "'r', axis 1: its length varies between samples"


def test_units_that_no_weight_reads_are_no_group() -> None:
    """Both factors of a product are made by weights, and nothing could be fitted after a cut."""
    text = """
    g (float[N,3,4] x) => (float[N,3,3] y) <float[4,5] w, float[4,5] u> {
      q = MatMul (x, w)
      k = MatMul (x, u)
      t = Transpose <perm = [0,2,1]> (k)
      y = MatMul (q, t)
    }"""
    assert not groups(text, 3, 4)


def test_units_that_no_weight_makes_are_no_group() -> None:
    text = """
    g (float[N,1] x) => (float[N,2] y) <float[5] w, float[5,2] u> {
      h = Mul (x, w)
      y = MatMul (h, u)
    }"""
    assert not groups(text, 1)


def test_a_vector_of_integers_that_is_data_is_as_frozen_as_one_of_floats() -> None:
    """Cut as the features of w, the sum over it would change."""
    text = """
    g (float[N,4] x) => (float[N,2] y) <float[4,3] w, float[3,2] u, int64[3] i = {1, 2, 3}> {
      h = MatMul (x, w)
      c = Cast <to = 1> (i)
      s = Add (h, c)
      t = ReduceSum <keepdims = 0> (i)
      f = Cast <to = 1> (t)
      a = Mul (s, f)
      y = MatMul (a, u)
    }"""
    assert frozen(text, 4)["w", 1] == "'i', axis 0: ReduceSum ties axis 0 to nothing"


@pytest.mark.parametrize(
    ("name", "counts"), [("digits_mlp", [128]), ("digits_cnn", [32, 32, 64, 64, 128, 128])]
)
def test_groups_of_the_shipped_models(name: str, counts: list[int]) -> None:
    """Of each block the layer inside, and what its addition ties; the first ties the stem."""
    path = MODELS / name
    model = io.read(path / "model.onnx")
    with np.load(path / "calib.npz") as samples:
        images = samples["image"]
    tied, _ = found(model, [{"image": np.concatenate(images[:n])} for n in (2, 3)])
    assert sorted(one.count for one in tied.units) == counts
