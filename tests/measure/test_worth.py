from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.data import open_samples
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph.signature import signature
from onnxsqueeze.measure import worth as module
from onnxsqueeze.measure.grams import grams
from onnxsqueeze.measure.worth import worth
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.runtime.shapes import measured_shapes
from tests import models
from tests.runtime.made import made, random

TEXT = """
g (float[N,16] x) => (float[N,24] y) <float[16,64] w, float[64,24] v> {
  h = MatMul (x, w)
  r = Relu (h)
  y = MatMul (r, v)
}"""


def plan(**fields):
    one = {"form": "float", "bits": 32, "axis": 1, "reason": "", **fields}
    return Plan(model_sha256="0" * 64, weights={"w": one, "v": {**one, "sparsity": None}})


@pytest.fixture
def asked(tmp_path):
    np.savez(tmp_path / "x.npz", x=random(200, 16))
    model = made(TEXT)
    samples = open_samples(str(tmp_path / "x.npz"), signature(model))
    found, store = weights(model)[0], Store(tmp_path / "facts")
    seen = grams(model, found, samples, measured_shapes(model, samples[0]), store=store, key={})
    return lambda planned: worth(planned, model, seen, samples, store=store), model, seen


def test_only_choices_that_name_another_measure_have_scores(asked):
    ask, _, _ = asked
    assert ask(plan(sparsity=0.5)) == {}
    assert ask(plan(importance="l1")) == {}  # nothing goes
    assert ask(plan(sparsity=0.5, importance="l1")).keys() == {"w"}


def test_scores_are_those_of_the_criterion(asked):
    ask, model, seen = asked
    w = models.constants(model)["w"]
    sizes = ask(plan(sparsity=0.5, importance="l1"))["w"]
    np.testing.assert_array_equal(np.argsort(sizes, axis=None), np.argsort(np.abs(w), axis=None))
    active = ask(plan(pattern="2:4", importance="activation"))["w"]
    expected = np.abs(w) * np.sqrt(np.diag(seen["w"].matrix[0]))[:, None]
    same = np.corrcoef(active.ravel(), expected.ravel())[0, 1]
    squared = np.corrcoef(active.ravel(), np.square(expected).ravel())[0, 1]
    assert max(same, squared) == pytest.approx(1.0, abs=1e-5)  # in one of the two units


def test_scores_are_found_again(asked, monkeypatch):
    ask, _, _ = asked
    first = ask(plan(sparsity=0.5, importance="l1"))["w"]
    monkeypatch.setattr(module, "weight_importance", None)
    np.testing.assert_array_equal(ask(plan(sparsity=0.5, importance="l1"))["w"], first)
