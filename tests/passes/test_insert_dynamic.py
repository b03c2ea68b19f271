from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.errors import PlanError
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.passes.coverage import DYNAMIC_KERNELS
from onnxsqueeze.passes.insert_dynamic import InsertDynamicPass
from onnxsqueeze.passes.insert_qdq import InsertQdqPass
from onnxsqueeze.passes.round_weights import Codes
from onnxsqueeze.plan.types import ActivationChoice, Plan, WeightChoice
from onnxsqueeze.runtime import ort

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
K, N = 512, 16
EPS = 2.0**-23


def parsed(text, **weights):
    model = ir.from_onnx_text(
        HEADER + text,
        initializers=[
            ir.tensor(np.asarray(value, np.float32), name=name) for name, value in weights.items()
        ],
    )
    for value in model.graph.initializers.values():
        value.type = ir.TensorType(ir.DataType.FLOAT)
    return model


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plan_for(model, **changes):
    fields = {"form": "dynamic", "bits": 8, "reason": "test", **changes}
    return Plan(
        model_sha256="0" * 64,
        weights={
            one.weight: WeightChoice(**{"axis": one.axis, **fields})
            for one in integer_candidates(model)
        },
    )


def outputs(model, feed, optimization="default"):
    return ort.run(ort.session(model, optimization=optimization), feed)


def operators(model):
    return Counter(node.op_type for node in ort.optimized(model).graph)


def text_of(model):
    return onnx.printer.to_text(ir.to_proto(model))


def integer_product(x, codes, scale):
    """The specification of the product, in exact integers; with its largest sum of magnitudes."""
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    step = (high - low) / np.float32(255)
    zero = np.clip(np.rint(-low / step), 0, 255)
    grid = (np.clip(np.rint(x / step) + zero, 0, 255) - zero).astype(np.int64)
    return grid @ codes.astype(np.int64) * (np.float64(step) * scale.astype(np.float64))


PRODUCTS = {
    "two axes": ("float[7,512]", "out = MatMul(x, w)", {}),
    "three axes": ("float[2,7,512]", "out = MatMul(x, w)", {}),
    "any axes": ("float[a,c,512]", "out = MatMul(x, w)", {}),
    "a bias": ("float[7,512]", "y = MatMul(x, w)  out = Add(y, b)", {"b": (N,)}),
    "three axes and a bias": ("float[2,7,512]", "y = MatMul(x, w)  out = Add(b, y)", {"b": (N,)}),
    "gemm": ("float[7,512]", "out = Gemm(x, w)", {}),
    "gemm and a bias": ("float[7,512]", "out = Gemm(x, w, b)", {"b": (N,)}),
    "gemm and a row": ("float[7,512]", "out = Gemm(x, w, b)", {"b": (1, N)}),
    "gemm of the transposed": ("float[7,512]", "out = Gemm<transB=1>(x, w)", {"w": (N, K)}),
    "the same and a bias": (
        "float[n,512]", "out = Gemm<transB=1>(x, w, b)", {"w": (N, K), "b": (N,)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PRODUCTS)
def test_a_product_is_fused_and_exact_with_the_largest_codes(case):
    """Codes of ±127 over activations up to 255 would overflow the 16 bits of u8·s8 kernels."""
    declared, nodes, shapes = PRODUCTS[case]
    shapes = {"w": (K, N), **shapes}
    model = parsed(
        f"g ({declared} x) => (float out) {{ {nodes} }}",
        **{name: drawn(*shape) for name, shape in shapes.items()},
    )
    model.graph.outputs[0].shape = None
    rng = np.random.default_rng(3)
    x = rng.uniform(-0.1, 1, (2, 7, K) if declared.count(",") == 2 else (7, K)).astype(np.float32)
    codes = rng.choice([-127, 127], (N, K)).astype(np.int8)
    scale = rng.uniform(0.01, 0.02, (N, 1)).astype(np.float32)
    given = {"w": Codes(codes, scale)}
    bias = drawn(*shapes["b"]).reshape(-1) if "b" in shapes else np.zeros(1)

    result = InsertDynamicPass(plan_for(model), given)(model)

    assert result.modified
    found = operators(model)
    assert found["DynamicQuantizeMatMul"] == 1
    assert set(found) <= {"DynamicQuantizeMatMul", "Add"}
    product = integer_product(x, codes.T, scale[:, 0])
    # |product| < 2**24 steps is exact in float32; the step, two factors and the sum are rounded
    bound = 4 * EPS * (np.abs(product) + np.abs(bias))
    for optimization in ("default", "off"):
        (out,) = outputs(model, {"x": x}, optimization).values()
        assert (np.abs(out - (product + bias)) <= bound).all()


def test_weights_without_codes_are_rounded_to_the_nearest():
    model = parsed("g (float[3,4] x) => (float[3,2] y) { y = MatMul(x, w) }", w=drawn(4, 2))
    weight = model.graph.initializers["w"].const_value.numpy()

    InsertDynamicPass(plan_for(model))(model)

    held = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    assert {name: (array.dtype, array.shape) for name, array in held.items()} == {
        "w.int": (np.uint8, (4, 2)), "w.scale": (np.float32, (2,)), "w.zero": (np.uint8, ()),
    }  # fmt: skip
    back = (held["w.int"].astype(np.float32) - held["w.zero"]) * held["w.scale"]
    assert (np.abs(back - weight) <= held["w.scale"] / 2 * (1 + 255 * EPS)).all()


def test_small_weights_are_pruned_first():
    model = parsed("g (float[3,4] x) => (float[3,2] y) { y = MatMul(x, w) }", w=drawn(4, 2))
    small = np.abs(model.graph.initializers["w"].const_value.numpy()) < 0.5

    InsertDynamicPass(plan_for(model, prune_below=0.5))(model)

    assert 0 < small.sum() < small.size
    # a step is at most max|w| / 127 < 0.05, so no other value becomes zero
    assert ((model.graph.initializers["w.int"].const_value.numpy() == 128) == small).all()


def attention():
    """Q, K and V of one tensor that is also read in floats, and a product of the first."""
    return parsed(
        """g (float[2,7,16] x) => (float[2,7,4] q, float[2,7,4] k, float[2,7,4] v,
        float[2,7,16] floats, float[2,7,3] after) {
        h = Tanh(x)  a = MatMul(h, wq)  q = Add(a, b)  k = MatMul(h, wk)  v = MatMul(h, wv)
        floats = Relu(h)  after = MatMul(q, wo) }""",
        wq=drawn(16, 4), wk=drawn(16, 4, seed=1), wv=drawn(16, 4, seed=2), b=drawn(4),
        wo=drawn(4, 3),
    )  # fmt: skip


def test_readers_share_one_quantization_and_the_names_follow_their_sources():
    model = attention()

    InsertDynamicPass(plan_for(model))(model)

    by_output = {n.outputs[0].name: [v.name for v in n.inputs] for n in model.graph}
    assert {name: read for name, read in by_output.items() if name.endswith(".q")} == {
        "h.q": ["h"], "q.q": ["q"],
    }  # fmt: skip
    assert by_output["a.int"] == ["h.q", "wq.int", "h.zero", "wq.zero"]
    assert by_output["k.int"] == ["h.q", "wk.int", "h.zero", "wk.zero"]
    assert by_output["a.scale"] == ["h.scale", "wq.scale"]
    assert by_output["a"] == ["a.cast", "a.scale"]
    assert by_output["q"] == ["a", "b"]
    assert by_output["floats"] == ["h"]
    assert [value.name for value in model.graph.outputs] == ["q", "k", "v", "floats", "after"]
    assert not {"wq", "wk", "wv", "wo"} & set(model.graph.initializers)
    found = operators(model)
    assert (found["DynamicQuantizeLinear"], found["MatMulIntegerToFloat"]) == (1, 3)
    assert found["DynamicQuantizeMatMul"] == 1
    assert not {"MatMul", "FusedMatMul", "MatMulInteger", "Gemm"} & set(found)


def test_the_result_stays_near_the_floats_within_the_steps_of_both_factors():
    """|x̂ŵ − xw| ≤ (s_x/2)·Σ|w| + (|x| + s_x/2)·Σ(s_w/2), and tanh is within ±1."""
    model = attention()
    feed = {"x": drawn(2, 7, 16, seed=5)}
    exact = outputs(model, feed)
    hidden = np.abs(np.tanh(feed["x"])).astype(np.float64)
    weight = model.graph.initializers["wk"].const_value.numpy()
    step, half = 2 / 255, np.abs(weight).max(0) / 127 / 2
    bound = step / 2 * np.abs(weight).sum(0) + (hidden.sum(-1, keepdims=True) + 8 * step) * half

    InsertDynamicPass(plan_for(model))(model)

    for optimization in ("default", "off"):
        found = outputs(model, feed, optimization)
        assert (np.abs(found["k"] - exact["k"]) <= bound * 1.001).all()
        assert found["floats"].tolist() == exact["floats"].tolist()


def test_a_weight_of_several_nodes_is_stored_once():
    model = parsed(
        "g (float[3,4] x) => (float[3,4] z) { y = MatMul(x, w)  z = Gemm(y, w) }", w=drawn(4, 4)
    )

    InsertDynamicPass(plan_for(model))(model)

    assert sorted(model.graph.initializers) == ["w.int", "w.scale", "w.zero"]
    assert operators(model) == {"DynamicQuantizeMatMul": 2}


def test_a_model_of_zeros_stays_zero():
    model = parsed("g (float[3,4] x) => (float[3,2] y) { y = MatMul(x, w) }", w=np.zeros((4, 2)))

    InsertDynamicPass(plan_for(model))(model)

    for optimization in ("default", "off"):
        found = outputs(model, {"x": np.zeros((3, 4), np.float32)}, optimization)["y"]
        assert found.tolist() == [[0, 0]] * 3


def test_what_is_not_planned_stays_as_it_is():
    model = attention()
    plan = plan_for(model)
    only = plan.model_copy(update={"weights": {"wk": plan.weights["wk"]}})

    InsertDynamicPass(only)(model)

    assert Counter(node.op_type for node in model.graph) == {
        "Tanh": 1, "MatMul": 3, "Add": 1, "Relu": 1, "DynamicQuantizeLinear": 1,
        "MatMulInteger": 1, "Cast": 1, "Mul": 2,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["qdq", "stored"])
def test_a_plan_without_this_form_changes_nothing(form):
    model = attention()
    before = text_of(model)

    assert not InsertDynamicPass(plan_for(model, form=form))(model).modified
    assert text_of(model) == before


def test_a_second_run_changes_nothing():
    model = attention()
    plan = plan_for(model)
    assert InsertDynamicPass(plan)(model).modified
    before = text_of(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)

    assert not InsertDynamicPass(plan)(model).modified
    assert not InsertQdqPass(plan)(model).modified
    assert text_of(model) == before


def test_both_forms_of_integers_and_stored_weights_go_together():
    """The convolution closes t, so that the dynamic product reads what its integers stand for."""
    model = parsed(
        """g (float[1,4,9] x) => (float[1,6,5] out, float[1,6,5] other) {
        t = Conv(x, c)  out = MatMul(t, w)  p = MatMul(t, v)  other = Tanh(p) }""",
        c=drawn(6, 4, 1), w=drawn(9, 5), v=drawn(9, 5, seed=1),
    )  # fmt: skip
    feed = {"x": drawn(1, 4, 9, seed=2)}
    exact = outputs(model, feed)
    forms = {"c": ("qdq", 0), "w": ("dynamic", 1), "v": ("stored", 1)}
    plan = Plan(
        model_sha256="0" * 64,
        weights={
            name: WeightChoice(form=form, bits=8, axis=axis, reason="test")
            for name, (form, axis) in forms.items()
        },
        activations={
            name: ActivationChoice(low=-20, high=20, reason="test") for name in ("x", "t")
        },
    )

    made = apply(plan, model, {}).model

    found = operators(made)
    assert found["QLinearConv"] == 1
    assert DYNAMIC_KERNELS & {("com.microsoft", name) for name in found}
    assert text_of(model) == text_of(model.clone())
    near = outputs(made, feed)["out"]
    signal, noise = np.square(exact["out"]).sum(), np.square(near - exact["out"]).sum()
    # both grids of x and t have steps of 40/255, a tenth of their values: noise is a few percent
    assert 0 < noise < signal / 10


def with_weight(plan, **fields):
    changed = plan.weights["wk"].model_copy(update=fields)
    return plan.model_copy(update={"weights": {**plan.weights, "wk": changed}})


REFUSALS = {
    r"keeps weight 'wk' in 2 bits, axis 1, .*form 'dynamic' needs 3 to 8 bits, axis 1, no block": (
        lambda plan: with_weight(plan, bits=2)
    ),
    r"keeps weight 'wk' in 8 bits, axis None, ": lambda plan: with_weight(plan, axis=None),
    r"rounds weight 'wk' with compensation, and no codes are given": (
        lambda plan: with_weight(plan, rounding="compensated")
    ),
    r"makes integers of 1 weight\(s\) that the model lacks: \['nowhere'\]": (
        lambda plan: plan.model_copy(
            update={"weights": {**plan.weights, "nowhere": plan.weights["wk"]}}
        )
    ),
    r"integers of weight 'b', and no node of the main graph multiplies by it": (
        lambda plan: plan.model_copy(update={"weights": {**plan.weights, "b": plan.weights["wk"]}})
    ),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_a_plan_that_does_not_fit_is_refused_before_any_change(message):
    model = attention()
    plan, before = REFUSALS[message](plan_for(model)), text_of(model)

    with pytest.raises(PlanError, match=message):
        InsertDynamicPass(plan)(model)

    assert text_of(model) == before


def test_a_weight_that_is_not_finite_is_refused():
    model = attention()
    plan = plan_for(model)
    nan = ir.tensor(np.full((16, 4), np.nan, np.float32), name="wk")
    model.graph.initializers["wk"].const_value = nan

    with pytest.raises(PlanError, match="makes integers of 'wk', which holds NaN or infinity"):
        InsertDynamicPass(plan)(model)


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        (
            "g (float[1,4,8] x) => (float[1,6,8] y) { h = Conv(x, w)  y = Tanh(h) }",
            (6, 4, 1),
            "its kernel writes integers, which needs a measured range",
        ),
        (
            "g (float[4,3] x) => (float[3,6] y) { y = Gemm<transA=1>(x, w) }",
            (4, 6),
            "its input is transposed",
        ),
        (
            "g (float[3,4] x) => (float[3,6] y, float[4,6] z) { y = MatMul(x, w) z = Tanh(w) }",
            (4, 6),
            "weight 'w' is shared with 'z', which stays float",
        ),
    ],
)
def test_a_node_that_cannot_be_one_is_refused(text, shape, reason):
    model = parsed(text, w=drawn(*shape))
    choice = WeightChoice(form="dynamic", bits=8, axis=0, reason="test")

    with pytest.raises(PlanError, match="cannot be an integer kernel: " + reason):
        InsertDynamicPass(Plan(model_sha256="0" * 64, weights={"w": choice}))(model)
