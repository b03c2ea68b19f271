from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.facts.store import Store
from onnxsqueeze.measure import sequential as module
from onnxsqueeze.measure.grams import grams
from onnxsqueeze.measure.sequential import sequential
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.plan.types import ActivationChoice, Plan, WeightChoice
from onnxsqueeze.runtime.shapes import measured_shapes
from tests import models
from tests.runtime.made import made, random, run

TEXT = """
g (float[N,16] x) => (float[N,24] y)
<float[16,32] w, float[32] a, float[32,32] v, float[32] b, float[32,24] u, float[24] c> {
  h = MatMul (x, w)
  i = Add (h, a)
  r = Relu (i)
  k = MatMul (r, v)
  l = Add (k, b)
  s = Relu (l)
  m = MatMul (s, u)
  y = Add (m, c)
}"""
CONVOLUTIONS = """
g (float[N,4,6,6] x) => (float[N,16,6,6] y)
<float[32,4,3,3] w, float[32] a, float[32,1,3,3] d, float[32] b, float[16,32,1,1] u, float[16] c> {
  h = Conv <pads = [1,1,1,1]> (x, w, a)
  r = Relu (h)
  k = Conv <pads = [1,1,1,1], group = 32> (r, d, b)
  s = Relu (k)
  y = Conv (s, u, c)
}"""


def choice(bits=4, form="stored", rounding="compensated", **fields):
    fields = {"axis": 1, **fields}
    return WeightChoice(form=form, bits=bits, rounding=rounding, reason="test", **fields)


def plan(**fields):
    activations = fields.pop("activations", {})
    return Plan(model_sha256="0" * 64, weights=fields, activations=activations)


def feeds(count=6, size=200, seed=0):
    """Inputs that share a common part, so that errors do not average out."""
    shared = random(1, 16, seed=99)
    return [
        {"x": random(size, 16, seed=seed + k) + random(size, 1, seed=seed + 50 + k) * shared}
        for k in range(count)
    ]


def refine(model, planned, given, folder, **settings):
    shapes, store = measured_shapes(model, given[0]), Store(folder)
    seen = grams(model, weights(model)[0], given, shapes, store=store, key={})
    found = sequential(planned, model, seen, given, shapes, store=store, key={}, **settings)
    return found, seen


def outputs(model, given):
    return np.concatenate([run(model, feed)["y"] for feed in given]).astype(np.float64)


def lost(model, result, given):
    return np.square(outputs(result, given) - outputs(model, given)).sum()


def both(model, planned, given, folder, **settings):
    """The model with each weight rounded by itself, and with what was refined."""
    found, seen = refine(model, planned, given, folder, **settings)
    refined = apply(planned, model, seen, made=found.codes, biases=found.biases).model
    return apply(planned, model, seen).model, refined


@pytest.mark.parametrize("bits", [3, 4])
def test_products_lose_less_than_rounded_each_by_itself(tmp_path, bits):
    model = made(TEXT)
    planned = plan(w=choice(bits), v=choice(bits), u=choice(bits))
    alone, refined = both(model, planned, feeds(), tmp_path)
    assert lost(model, refined, feeds()) < lost(model, alone, feeds())
    other = feeds(seed=1000)
    assert lost(model, refined, other) < lost(model, alone, other)


def test_convolutions_lose_less_too(tmp_path):
    model = made(CONVOLUTIONS)
    planned = plan(**{name: choice(3, axis=0) for name in "wdu"})
    given = [{"x": random(20, 4, 6, 6, seed=seed)} for seed in range(6)]
    alone, refined = both(model, planned, given, tmp_path)
    assert lost(model, refined, given) < lost(model, alone, given)


def test_a_long_chain_is_made_up_for_once_and_not_by_every_layer(tmp_path):
    """What one layer has made up for the next does not make up for again, and overshoot."""
    names = [f"w{k}" for k in range(8)]
    lines = [f"h{k} = MatMul (h{k - 1}, w{k})" for k in range(1, 8)]
    declared = ", ".join(f"float[16,16] {name}" for name in names)
    model = made(f"""g (float[N,16] x) => (float[N,16] y) <{declared}> {{
      h0 = MatMul (x, w0) {" ".join(lines)} y = Identity (h7)
    }}""")  # fmt: skip
    planned = plan(**{name: choice(4) for name in names})
    alone, refined = both(model, planned, feeds(), tmp_path)
    assert lost(model, refined, feeds()) < lost(model, alone, feeds())


@pytest.mark.parametrize("shift", [True, False])
def test_corrected_biases_keep_the_mean_of_every_output(tmp_path, shift):
    model, given = made(TEXT), feeds()
    planned = plan(w=choice(3), v=choice(3), u=choice(3))
    alone, refined = both(model, planned, given, tmp_path, shift=shift)
    expected, size = outputs(model, given).mean(axis=0), np.abs(outputs(model, given)).max()
    found = outputs(refined, given).mean(axis=0)
    # All rows are seen, so only float32 products of 32 features are between the two.
    slack = 4 * 32 * 2.0**-23 * size
    np.testing.assert_allclose(found, expected, rtol=0, atol=slack)
    assert np.abs(outputs(alone, given).mean(axis=0) - expected).max() > 100 * slack


def test_a_bias_that_is_not_the_products_own_stays(tmp_path):
    text = """
    g (float[N,16] x) => (float[N,32] y, float[N,32] z)
    <float[16,32] w, float[16,32] v, float[32] shared, float[16,32] u, float[1] one> {
      a = MatMul (x, w)  b = Add (a, shared)
      c = MatMul (x, v)  d = Add (c, shared)
      y = Add (b, d)
      e = MatMul (x, u)  z = Add (e, one)
    }"""
    planned = plan(w=choice(), v=choice(), u=choice())
    found, _ = refine(made(text), planned, feeds(), tmp_path)
    assert found.biases == {}


def test_without_bias_correction_no_bias_changes(tmp_path):
    planned = plan(w=choice(), v=choice(), u=choice())
    model = made(TEXT)
    found, _ = refine(model, planned, feeds(), tmp_path, bias_correction=False)
    assert found.biases == {}
    found, _ = refine(model, planned, feeds(), tmp_path / "2")
    assert sorted(found.biases) == ["a", "b", "c"]
    assert found.biases["a"].shape == (32,)


def test_weights_of_other_kinds_are_rounded_as_always(tmp_path):
    text = TEXT.replace("h = MatMul (x, w)", "t = Gather (e, n) o = Add (x, t) h = MatMul (o, w)")
    text = text.replace("float[N,16] x", "float[N,16] x, int64[N] n")
    model = made(text.replace("float[16,32] w", "float[16,32] w, float[40,16] e"))
    given = [{**feed, "n": np.arange(200) % 40} for feed in feeds()]
    planned = plan(
        e=choice(4, axis=0, rounding="nearest"), w=choice(4), v=choice(8, rounding="nearest"),
        u=choice(16, "float16", axis=None, rounding="nearest"),
    )  # fmt: skip
    found, seen = refine(model, planned, given, tmp_path)
    assert sorted(found.codes) == ["e", "v", "w"]
    alone = plan(e=planned.weights["e"], v=planned.weights["v"])
    expected = models.constants(apply(alone, model, seen).model)
    np.testing.assert_array_equal(found.codes["e"].rows, expected["e.int"].astype(int))
    np.testing.assert_array_equal(found.codes["v"].rows, expected["v.int"].astype(int).T)


@pytest.mark.parametrize("form", ["qdq", "dynamic"])
def test_integer_kernels_are_part_of_what_is_made_up_for(tmp_path, form):
    model, given = made(TEXT), feeds()
    values = {"x": given[0]["x"], "y": outputs(model, given)}
    copy = model.clone()
    inner = {out.name: out for node in copy.graph for out in node.outputs}
    copy.graph.outputs.extend(inner[name] for name in ("r", "s"))
    values |= {name: run(copy, given[0])[name] for name in ("r", "s")}
    grids = {
        name: ActivationChoice(low=min(float(x.min()), 0), high=float(x.max()), reason="test")
        for name, x in values.items()
    }
    planned = plan(
        w=choice(8, form),
        v=choice(8, form),
        u=choice(3),
        activations=grids if form == "qdq" else {},
    )
    alone, refined = both(model, planned, given, tmp_path)
    assert {"qdq": "QuantizeLinear", "dynamic": "DynamicQuantizeLinear"}[form] in {
        node.op_type for node in refined.graph
    }
    assert lost(model, refined, given) < lost(model, alone, given)


def test_pruned_values_stay_zero(tmp_path):
    model = made(TEXT)
    w = models.constants(model)["v"]
    planned = plan(w=choice(3), v=choice(4, prune_below=0.1), u=choice(3))
    found, _ = refine(model, planned, feeds(), tmp_path)
    back = found.codes["v"].values((32, 32), 1)
    assert (back[np.abs(w) < 0.1] == 0).all()
    assert np.count_nonzero(back)


@pytest.mark.parametrize("fields", [{"sparsity": 0.6}, {"pattern": "2:4"}, {"prune_below": 0.15}])
def test_floats_that_give_up_a_part_lose_less_than_each_by_itself(tmp_path, fields):
    model = made(TEXT)
    thin = choice(32, "float", **fields)
    planned = plan(w=thin, v=thin, u=thin)
    alone, refined = both(model, planned, feeds(), tmp_path)
    assert lost(model, refined, feeds()) < lost(model, alone, feeds())
    for name, w in models.constants(refined).items():
        if name in "wvu":
            assert np.count_nonzero(w == 0) == np.count_nonzero(models.constants(alone)[name] == 0)


def test_branches_go_on_beside_the_walk(tmp_path):
    text = """
    g (float[N,16] x, bool q) => (float[N,32] y) <float[16,32] w, float[32,32] v, float[32] b> {
      h = MatMul (x, w)
      r = If (q) <
        then_branch = t () => (float[N,32] p) { p = Relu (h) },
        else_branch = e () => (float[N,32] o) { o = Neg (h) }
      >
      k = MatMul (r, v)
      y = Add (k, b)
    }"""
    model = made(text)
    given = [{**feed, "q": np.array(n % 2 == 0)} for n, feed in enumerate(feeds())]
    alone, refined = both(model, plan(w=choice(3), v=choice(3)), given, tmp_path)
    assert lost(model, refined, given) < lost(model, alone, given)


def test_the_model_stays_as_it_is(tmp_path):
    model = made(TEXT)
    before = ir.to_proto(model).SerializeToString()
    refine(model, plan(w=choice(), v=choice(), u=choice()), feeds(), tmp_path)
    assert ir.to_proto(model).SerializeToString() == before


def test_what_was_refined_is_found_again(tmp_path, monkeypatch):
    model = made(TEXT)
    planned = plan(w=choice(), v=choice(columns=True), u=choice())
    first, _ = refine(model, planned, feeds(), tmp_path)
    monkeypatch.setattr(module, "streams", None)
    again, _ = refine(model, planned, feeds(), tmp_path)
    assert list(again.codes) == list(first.codes)
    for name, one in first.codes.items():
        for kind, array in one.arrays().items():
            np.testing.assert_array_equal(again.codes[name].arrays()[kind], array)
    for name, bias in first.biases.items():
        np.testing.assert_array_equal(again.biases[name], bias)
    with pytest.raises(TypeError):
        refine(model, planned, feeds(), tmp_path, shift=False)


def test_progress_counts_samples_of_all_steps(tmp_path):
    told = []
    planned = plan(w=choice(), v=choice(), u=choice())
    refine(made(TEXT), planned, feeds(3), tmp_path, progress=lambda *at: told.append(at))
    assert told == [(done, 9) for done in range(1, 10)]


def test_without_anything_to_refine_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "streams", None)
    found, _ = refine(made(TEXT), plan(w=choice(8, rounding="nearest")), feeds(), tmp_path)
    assert (list(found.codes), found.biases) == (["w"], {})
