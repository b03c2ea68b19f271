from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.measure.grams import grams
from onnxsqueeze.numerics.error import sqnr_db
from onnxsqueeze.passes import apply as module
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.passes.round_weights import codes, factors
from onnxsqueeze.plan.types import Plan, WeightChoice
from onnxsqueeze.runtime.shapes import measured_shapes
from tests import models
from tests.runtime.made import made, random, run

TEXT = """
g (float[N,16] x) => (float[N,12] y) <float[16,16] w, float[16,12] v> {
  h = MatMul (x, w)
  r = Relu (h)
  y = MatMul (r, v)
}"""


def choice(form="stored", bits=8, axis=1, **fields):
    return WeightChoice(form=form, bits=bits, axis=axis, reason="test", **fields)


def plan(**weights):
    return Plan(model_sha256="0" * 64, weights=weights)


def gram(features, seed=0):
    x = np.random.default_rng(seed).normal(size=(500, features))
    x += np.random.default_rng(seed + 1).normal(size=(500, 1))
    return Gram((x.T @ x / 500)[None].astype(np.float32), 500)


def proto(model):
    return ir.to_proto(model).SerializeToString()


def test_the_copy_is_changed_and_the_model_stays():
    model = made(TEXT)
    before = proto(model)
    applied = apply(plan(w=choice(), v=choice("float16", 16, None)), model, {})
    assert proto(model) == before
    verify(applied.model)
    assert "w" not in applied.model.graph.initializers
    assert [(c.step, c.subject, c.outcome, c.after) for c in applied.changes] == [
        ("apply", "w", "done", "stored, 8 bits"),
        ("apply", "v", "done", "float16, 16 bits"),
    ]


def test_the_quality_is_that_of_the_rounded_weight():
    model = made(TEXT)
    w = models.constants(model)["w"]
    applied = apply(plan(w=choice(bits=4), v=choice("float", 32, None)), model, {})
    rounded = codes(w, choice(bits=4), None).values(w.shape, 1)
    assert applied.sqnr_db == {"w": sqnr_db(w, rounded)}


def test_a_plan_of_floats_changes_nothing():
    model = made(TEXT)
    applied = apply(plan(w=choice("float", 32, None)), model, {})
    assert (applied.changes, applied.sqnr_db) == ((), {})
    assert proto(applied.model) == proto(model)
    assert proto(apply(plan(), model, {}).model) == proto(model)


def test_the_outputs_are_those_of_the_planned_weights():
    model = made(TEXT)
    planned = plan(w=choice(bits=4, block=8), v=choice(masked=True, prune_below=0.2))
    reference = model.clone()
    for name, one in planned.weights.items():
        value = reference.graph.initializers[name]
        w = value.const_value.numpy()
        value.const_value = ir.tensor(codes(w, one, None).values(w.shape, 1), name=name)
    feed = {"x": random(5, 16)}
    result = run(apply(planned, model, {}).model, feed)["y"]
    np.testing.assert_array_equal(result, run(reference, feed)["y"])


def test_grams_are_used_where_rounding_is_compensated_only():
    model, seen = made(TEXT), {"w": gram(16), "v": gram(16, 5)}
    compensated = choice(bits=4, rounding="compensated")
    plain = models.constants(apply(plan(w=choice(bits=4)), model, {}).model)["w.int"]
    same = models.constants(apply(plan(w=choice(bits=4)), model, seen).model)["w.int"]
    np.testing.assert_array_equal(plain, same)
    w = models.constants(model)["w"]
    found = models.constants(apply(plan(w=compensated), model, seen).model)["w.int"]
    np.testing.assert_array_equal(found.astype(int), codes(w, compensated, seen["w"]).rows.T)
    assert (found.astype(int) != plain.astype(int)).any()


def test_rounded_weights_are_found_again_in_the_store(tmp_path, monkeypatch):
    model, store = made(TEXT), Store(tmp_path)
    first = apply(plan(w=choice(), v=choice()), model, {}, store=store)
    made_again = []
    monkeypatch.setattr(
        module,
        "codes",
        lambda *given, **more: made_again.append(given[1]) or codes(*given, **more),
    )
    second = apply(plan(w=choice(), v=choice()), model, {}, store=store)
    assert made_again == []
    assert proto(second.model) == proto(first.model)
    # The reason and the mask change no code; the bits do.
    again = choice(masked=True).model_copy(update={"reason": "other"})
    apply(plan(w=again, v=choice(bits=4)), model, {}, store=store)
    assert made_again == [choice(bits=4)]


def test_weights_rounded_for_other_inputs_are_not_found(tmp_path):
    model, store = made(TEXT), Store(tmp_path)
    planned = plan(w=choice(bits=4, rounding="compensated"))
    for seen in ({"w": gram(16)}, {"w": gram(16, seed=9)}, {}):
        kept = models.constants(apply(planned, model, seen, store=store).model)["w.int"]
        fresh = models.constants(apply(planned, model, seen).model)["w.int"]
        np.testing.assert_array_equal(kept, fresh)
    assert len(list(tmp_path.iterdir())) == 3


def test_given_codes_and_biases_are_taken_as_they_are():
    model = made(TEXT.replace("y = MatMul (r, v)", "s = MatMul (r, v) y = Add (s, c)").replace(
        "float[16,12] v", "float[16,12] v, float[12] c"
    ))  # fmt: skip
    planned = plan(w=choice(bits=4), v=choice())
    w = models.constants(model)["w"]
    given = codes(0.5 * w, choice(bits=4), None)
    bias = random(12, seed=3)
    applied = apply(planned, model, {}, made={"w": given, "no part": given}, biases={"c": bias})
    found = models.constants(applied.model)
    np.testing.assert_array_equal(found["w.int"].astype(int), given.rows.T)
    np.testing.assert_array_equal(found["c"], bias)
    assert applied.sqnr_db["w"] == sqnr_db(w, given.values(w.shape, 1))
    assert (models.constants(model)["c"] != bias).any()
    again = apply(planned, model, {}, made={"w": given}).model
    np.testing.assert_array_equal(models.constants(again)["c"], models.constants(model)["c"])


def test_biases_that_the_model_lacks():
    with pytest.raises(PlanError, match=r"lacks: 'nowhere'"):
        apply(plan(), made(TEXT), {}, biases={"nowhere": random(12)})


def test_factors_are_computed_once_for_all_plans_and_weights(tmp_path, monkeypatch):
    text = TEXT.replace("y = MatMul (r, v)", "t = MatMul (x, u) s = Add (r, t) y = MatMul (s, v)")
    model = made(text.replace("float[16,12] v", "float[16,12] v, float[16,16] u"))
    feeds, found = [{"x": random(40, 16)}], weights(model)[0]
    store = Store(tmp_path)
    seen = grams(model, found, feeds, measured_shapes(model, feeds[0]), store=store, key={})
    counted = []
    monkeypatch.setattr(module, "factors", lambda one: counted.append(one) or factors(one))
    for bits in (4, 8):
        one = choice(bits=bits, rounding="compensated")
        planned = plan(w=one, u=one, v=one)
        kept = apply(planned, model, seen, store=store).model
        assert proto(kept) == proto(apply(planned, model, seen).model)
    assert len(counted) == 1  # w and u read the same, and v is too small to have one


def test_progress_counts_the_rounded_weights():
    told = []
    planned = plan(w=choice(), v=choice())
    apply(planned, made(TEXT), {}, progress=lambda *at: told.append(at))
    assert told == [(1, 2), (2, 2)]


def test_weights_that_the_model_lacks():
    with pytest.raises(PlanError, match=r"the plan names 1 weight\(s\) that the model lacks: 'z'"):
        apply(plan(w=choice(), z=choice()), made(TEXT), {})
    with pytest.raises(PlanError, match="'q'"):
        apply(plan(q=choice("qdq", 8)), made(TEXT), {})


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"bits": 4, "block": 7}, "block 7 does not divide 16 features"),
        ({"axis": 2}, "axis 2 is out of bounds"),
    ],
)
def test_a_choice_that_does_not_fit_its_weight(bad, words):
    with pytest.raises(PlanError) as caught:
        apply(plan(w=choice(**bad)), made(TEXT), {})
    first, second, third = str(caught.value).splitlines()
    assert first.startswith("weight 'w' of shape [16, 16] cannot be stored as planned: ")
    assert words in first
    assert second.startswith("  Planned: stored, ")
    assert third == "  Make a plan for this model: onnxsqueeze plan MODEL"


def test_values_that_are_not_finite_cannot_become_integers():
    model = made(TEXT, w=np.full((16, 16), np.nan, np.float32))
    with pytest.raises(PlanError, match="weights must be finite, and hold NaN or infinity"):
        apply(plan(w=choice()), model, {})
