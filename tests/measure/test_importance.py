"""Importance against what the removal of weights and units really costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.config import Importance
from onnxsqueeze.data import open_samples
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.graph import edit
from onnxsqueeze.graph.signature import signature
from onnxsqueeze.measure.importance import UnitAggregation, unit_importance, weight_importance
from onnxsqueeze.measure.prune_readers import readers
from onnxsqueeze.numerics import importance
from onnxsqueeze.numerics.error import relative_energy
from onnxsqueeze.runtime import ort
from tests.measure.pruning import deep, deep_units, units
from tests.runtime.made import Array, made, random

EPS = float(np.finfo(np.float32).eps)
CRITERIA = ("obs", "taylor", "fisher", "activation", "l1", "l2", "information")
GRADIENT = ("taylor", "fisher")
CONV = """
g (float[N,4,6,6] x) => (float[N,5] y)
<float[8,4,3,3] w, float[8] b, float[8,4,3,3] v, float[5,8] u> {
  h = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  r = Relu (h)
  k = Conv <group = 2> (r, v)
  p = GlobalAveragePool (k)
  f = Flatten (p)
  y = Gemm <transB = 1> (f, u)
}"""


def feeds(*shape: int, count: int = 40) -> list[dict[str, Any]]:
    return [{"x": random(*shape, seed=n)} for n in range(count)]


def need(criterion: str) -> None:
    if criterion in GRADIENT:
        pytest.importorskip("torch")


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_have_the_shape_of_the_weight_and_are_not_negative(criterion: Importance) -> None:
    need(criterion)
    model = made(CONV)
    found = weight_importance(model, feeds(2, 4, 6, 6), ["w", "v", "u"], criterion)
    assert set(found) == {"w", "v", "u"}
    for name, scores in found.items():
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None
        assert scores.shape == tuple(tensor.shape.numpy())
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert (scores >= 0).all()
        assert scores.any()


def test_known_gram_matrices_are_not_measured_again() -> None:
    model = made(deep(8))
    gram = np.diag(np.arange(1.0, 9)).astype(np.float32)
    known = {"v": Gram(gram[np.newaxis], 100)}
    found = weight_importance(model, [], ["v"], "activation", grams=known)
    tensor = model.graph.initializers["v"].const_value
    assert tensor is not None
    wanted = importance.activation(tensor.numpy().T, gram).T
    np.testing.assert_allclose(found["v"], wanted, rtol=4 * EPS)


def test_weights_that_are_no_product_are_left_out_where_inputs_count() -> None:
    text = """
g (int64[N] i) => (float[N,4] y) <float[9,6] t, float[6,4] w> {
  x = Gather (t, i)
  y = MatMul (x, w)
}"""
    model = made(text)
    given = [{"i": np.arange(9)}]
    assert set(weight_importance(model, given, ["t", "w"], "obs")) == {"w"}
    assert set(weight_importance(model, given, ["t", "w"], "l1")) == {"t", "w"}


def test_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(ValueError, match="no importance is called 'luck'"):
        weight_importance(made(deep(8)), feeds(2, 6), ["v"], "luck")  # type: ignore[arg-type]


def damages_without(model: ir.Model, name: str, given: list[dict[str, Any]]) -> Array:
    """Relative error energy once a row of a weight is zero, (rows, samples), by ONNX Runtime."""
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    w = tensor.numpy()
    whole = ort.run_all(ort.session(model), given)
    lost = []
    for row in range(len(w)):
        copy = model.clone()
        without = np.where(np.arange(len(w))[:, None] == row, np.float32(0), w)
        edit.set_value(copy.graph.initializers[name], without)
        cut = ort.run_all(ort.session(copy), given)
        lost.append([relative_energy(a["y"], b["y"]) for a, b in zip(whole, cut, strict=True)])
    return np.array(lost)


def test_fisher_of_gates_before_a_linear_output_is_their_damage() -> None:
    """The last layer is linear, so the second order is all there is: damage = ½ E[gate²]."""
    pytest.importorskip("torch")
    text = """
g (float[N,6] x) => (float[N,2] y) <float[6,8] w, float[8,2] u> {
  h = MatMul (x, w)
  r = Relu (h)
  y = MatMul (r, u)
}"""
    model, given = made(text), feeds(1, 6, count=400)
    lost = damages_without(model, "u", given)
    found = unit_importance(model, [units("r", 8, ("w", 1), ("u", 0))], given, "fisher")["r"] / 2
    # A sample's draw is (Σ v a)² with random signs v, whose mean is the damage Σ a² and whose
    # variance is under 2 (Σ a²)².
    spread = np.sqrt(2 * np.square(lost).sum(axis=1)) / len(given)
    assert (np.abs(found - lost.mean(axis=1)) <= 5 * spread).all()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("aggregation", ["joint", "sum", "mean", "max"])
def test_units_that_are_read_with_zeros_matter_least(
    criterion: Importance, aggregation: UnitAggregation
) -> None:
    need(criterion)
    u = random(8, 4)
    u[:3] = 0
    v = random(8, 8)
    v[:, :3] = 0
    model = made(deep(8), u=u, v=v, c=np.where(np.arange(8) < 3, 0, random(8)).astype(np.float32))
    scores = unit_importance(
        model, deep_units(8)[1:], feeds(1, 6), criterion, aggregation=aggregation
    )["s"]
    assert scores.shape == (8,)
    assert scores[:3].max() <= scores[3:].min()


def test_channels_of_grouped_kernels_are_told_apart() -> None:
    model = made(CONV, b=np.float32([-99, 1, 1, 1, 1, 1, 1, 1]))
    group = units("r", 8, ("w", 0), ("b", 0))
    # Channel 0 is silent. Group 0 of v reads channels 0 to 3 along axis 1, group 1 the others.
    assert unit_importance(model, [group], feeds(2, 4, 6, 6), "activation") == {}
    found = weight_importance(model, feeds(2, 4, 6, 6), ["v"], "activation")["v"]
    assert not found[:4, 0].any()
    assert found[4:, 0].all()
    assert found[:4, 1:].all()


@pytest.mark.parametrize("criterion", GRADIENT)
def test_labels_of_samples_are_what_gradients_are_of(criterion: Importance) -> None:
    pytest.importorskip("torch")
    model = made(deep(8))
    given = feeds(1, 6, count=8)
    plain = open_samples(given, signature(model))
    marked = open_samples(given, signature(model), labels=np.arange(8) % 4)
    one, other = (
        weight_importance(model, samples, ["v"], criterion)["v"] for samples in (plain, marked)
    )
    assert not np.array_equal(one, other)


def test_heads_have_all_their_features() -> None:
    model = made(deep(8))
    blocks = units("s", 4, ("v", 1), ("c", 0), ("u", 0), block=2)
    (reader,) = (one for one in readers(model).values() if one.name == "u")
    w = np.abs(reader.matrix(reader.weight())[0])
    wanted: Array = w.sum(axis=0).reshape(4, 2).sum(axis=1)
    found = unit_importance(
        model, [blocks], feeds(1, 6), "l1", aggregation="sum", normalisation="none"
    )["s"]
    np.testing.assert_allclose(found, wanted, rtol=8 * EPS)
