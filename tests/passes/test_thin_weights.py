"""Weights that give up a part of their values: what is stored, and what that loses."""

from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph import io, sparse
from onnxsqueeze.numerics.error import relative_energy
from onnxsqueeze.numerics.grid import as_rows
from onnxsqueeze.numerics.sparsity import energy_lost
from onnxsqueeze.passes.apply import apply, rounded
from onnxsqueeze.passes.round_weights import codes, needed
from onnxsqueeze.plan.types import Plan, WeightChoice
from tests import models
from tests.passes.test_round_weights import gram
from tests.runtime.made import made, random, run

TEXT = """
g (float[N,24] x) => (float[N,32] y) <float[24,32] w, float[32] b> {
  h = MatMul (x, w)
  y = Add (h, b)
}"""
FORMS = [("float", 32), ("float16", 16), ("stored", 8), ("stored", 4), ("qdq", 8)]


def choice(form="float", bits=32, rounding="compensated", **fields):
    return WeightChoice(form=form, bits=bits, rounding=rounding, axis=1, reason="test", **fields)


def plan(**fields):
    return Plan(model_sha256="0" * 64, weights=fields)


def zeros(values):
    return np.count_nonzero(values == 0) / values.size


@pytest.mark.parametrize(("form", "bits"), FORMS)
@pytest.mark.parametrize("way", [{"sparsity": 0.5}, {"pattern": "2:4"}, {"prune_below": 0.7}])
def test_the_same_values_are_zero_in_every_form_and_less_is_lost_than_by_zeroing(form, bits, way):
    w, seen = random(24, 32), gram(24)
    found = codes(w, choice(form, bits, **way), seen).values(w.shape, 1)
    exact = codes(w, choice(**way), seen).values(w.shape, 1)
    assert (found[exact == 0] == 0).all()
    if "prune_below" in way:
        np.testing.assert_array_equal(exact == 0, np.abs(w) < 0.7)
    else:
        assert zeros(exact) == 0.5
    if "pattern" in way:
        assert (np.count_nonzero(as_rows(found, 1).reshape(32, -1, 4), axis=2) <= 2).all()
    h, rows = seen.matrix[0], as_rows(w, 1)
    zeroed = codes(w, choice(form, bits, "nearest", **way), None).values(w.shape, 1)
    assert energy_lost(rows, as_rows(found, 1), h) < energy_lost(rows, as_rows(zeroed, 1), h)


def test_without_a_gram_matrix_magnitudes_decide_and_the_others_stay():
    w = random(24, 32)
    for rounding, seen in (("nearest", gram(24)), ("compensated", None)):
        found = codes(w, choice(rounding=rounding, sparsity=0.25), seen).values(w.shape, 1)
        kept = np.abs(w) >= np.sort(np.abs(w), axis=None)[w.size // 4]
        np.testing.assert_array_equal(found, np.where(kept, w, 0))


def test_each_group_gives_up_its_own_part():
    w, seen = random(8, 3, 2, 2), gram(12, groups=2)
    one = WeightChoice(
        form="float", bits=32, axis=0, rounding="compensated", sparsity=0.5, reason=""
    )
    found = codes(w, one, seen).values(w.shape, 0)
    assert zeros(found[:4]) == zeros(found[4:]) == 0.5


def test_floats_that_are_fitted_have_codes_and_others_have_none():
    choices = {
        "plain": choice(rounding="nearest"),
        "pruned": choice(rounding="nearest", prune_below=0.1),
        "fitted": choice(prune_below=0.1),
        "part": choice("float16", 16, sparsity=0.5),
        "pattern": choice(pattern="2:4"),
        "stored": choice("stored", 8),
    }
    assert needed(choices) == ("fitted", "part", "pattern", "stored")


@pytest.mark.parametrize(("form", "bits"), FORMS[:4])
@pytest.mark.parametrize("masked", [False, True])
def test_what_is_written_runs_and_gives_what_was_planned(tmp_path, form, bits, masked):
    model, seen, feed = made(TEXT), {"w": gram(24)}, {"x": random(50, 24, seed=3)}
    planned = plan(w=choice(form, bits, sparsity=0.5, masked=masked))
    result = apply(planned, model, seen).model
    io.write(result, tmp_path / "a.onnx")
    back = io.read(tmp_path / "a.onnx")
    expected = codes(models.constants(model)["w"], planned.weights["w"], seen["w"])
    w = expected.values((24, 32), 1)
    if form == "float16":
        w = w.astype(np.float16).astype(np.float32)
    y = feed["x"] @ w + models.constants(model)["b"]
    bound = 24 * np.finfo(np.float32).eps * np.abs(feed["x"]).max() * np.abs(w).max() * 24
    np.testing.assert_allclose(run(back, feed)["y"], y, atol=bound)
    names = models.constants(back).keys()
    assert ("w.mask" in names) == masked


def test_a_sparse_initializer_is_written_and_runs(tmp_path):
    model, seen, feed = made(TEXT), {"w": gram(24)}, {"x": random(50, 24, seed=3)}
    one = choice(sparsity=0.8, masked=True)
    by_mask = apply(plan(w=one), model, seen).model
    planned = plan(w=one).model_copy(update={"zeros": "initializer"})
    result = apply(planned, model, seen).model
    assert sparse.marked(result) == {"w"}
    assert [node.op_type for node in result.graph] == ["MatMul", "Add"]
    io.write(result, tmp_path / "a.onnx")
    back = io.read(tmp_path / "a.onnx")
    assert sparse.marked(back) == {"w"}
    np.testing.assert_array_equal(models.constants(back)["w"], models.constants(result)["w"])
    np.testing.assert_array_equal(run(back, feed)["y"], run(by_mask, feed)["y"])


def test_a_kernel_reads_integers_with_the_same_zeros():
    """Larger scales, as a bias may ask for, must not bring back what went."""
    model, seen = made(TEXT, b=np.full(32, 1e4, np.float32)), {"w": gram(24)}
    planned = Plan.model_validate(
        {
            "model_sha256": "0" * 64,
            "weights": {"w": choice("qdq", 8, sparsity=0.5).model_dump()},
            "activations": {
                "x": {"low": -1e-3, "high": 1e-3, "reason": ""},
                "y": {"low": -1e4, "high": 2e4, "reason": ""},
            },
        }
    )
    result = apply(planned, model, seen).model
    (name,) = [name for name in models.constants(result) if name.startswith("w.int")]
    stored = models.constants(result)[name].astype(np.int16) - 128
    assert zeros(stored) >= 0.5
    given = codes(models.constants(model)["w"], planned.weights["w"], seen["w"])
    assert (as_rows(stored, 1)[given.rows == 0] == 0).all()


def test_a_pattern_that_does_not_fit_names_the_weight(tmp_path):
    planned = plan(w=choice(pattern="2:5"))
    for store in (None, Store(tmp_path)):
        with pytest.raises(PlanError, match=r"weight 'w' of shape .24, 32. cannot be stored"):
            apply(planned, made(TEXT), {"w": gram(24)}, store=store)


def test_what_was_thinned_is_found_again_for_another_form(tmp_path):
    model, seen, store = made(TEXT), {"w": gram(24)}, Store(tmp_path)
    alone = apply(plan(w=choice("stored", 8, sparsity=0.5)), model, seen).model
    apply(plan(w=choice(sparsity=0.5)), model, seen, store=store)
    (thin,) = tmp_path.glob("thin-*")
    again = apply(plan(w=choice("stored", 8, sparsity=0.5)), model, seen, store=store).model
    assert list(tmp_path.glob("thin-*")) == [thin]
    for name, values in models.constants(alone).items():
        np.testing.assert_array_equal(models.constants(again)[name], values)


def test_the_output_loses_less_with_repair_than_without():
    """Inputs that share most of their energy: what one weight loses the others can give."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 24)).astype(np.float32) + 3 * rng.normal(size=(400, 1))
    model, feed = made(TEXT, b=np.zeros(32, np.float32)), {"x": x.astype(np.float32)}
    seen = {"w": Gram((x.T @ x / 400).astype(np.float32)[None], 400)}
    y = run(model, feed)["y"]
    lost = [
        relative_energy(y, run(apply(plan(w=one), model, seen).model, feed)["y"])
        for one in (choice(sparsity=0.5), choice(rounding="nearest", sparsity=0.5))
    ]
    assert lost[0] < lost[1]


def test_scores_choose_what_goes_in_floats_and_integers(tmp_path):
    """Those that were said to be worth least go, whatever their magnitudes."""
    model, seen = made(TEXT), {"w": gram(24)}
    scores = {"w": random(24, 32, seed=8)}
    lowest = scores["w"] < np.median(scores["w"])
    for store in (None, Store(tmp_path)):
        one = choice(sparsity=0.5, importance="taylor")
        found = models.constants(apply(plan(w=one), model, seen, scores=scores, store=store).model)
        np.testing.assert_array_equal(found["w"] == 0, lowest)
        coded = rounded(
            plan(w=choice("stored", 8, sparsity=0.5, importance="taylor")),
            model,
            seen,
            scores=scores,
            store=store,
        )
        assert (coded["w"].values((24, 32), 1)[lowest] == 0).all()
