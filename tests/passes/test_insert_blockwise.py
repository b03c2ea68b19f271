from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.blocks import block_weight
from onnxsqueeze.errors import PlanError
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.passes.coverage import fallen_back
from onnxsqueeze.passes.insert_blockwise import InsertBlockwisePass
from onnxsqueeze.passes.round_weights import Codes, codes
from onnxsqueeze.plan.types import Plan, WeightChoice
from onnxsqueeze.runtime import ort

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
K, N, BLOCK = 64, 48, 32
EPS = 2.0**-23


def parsed(text, dtype=np.float32, **weights):
    model = ir.from_onnx_text(
        HEADER + text,
        initializers=[ir.tensor(np.asarray(v, dtype), name=k) for k, v in weights.items()],
    )
    for value in model.graph.initializers.values():
        value.type = ir.TensorType(value.const_value.dtype)
        value.shape = ir.Shape(value.const_value.shape.numpy())
    return model


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plan_for(model, names="w", portable=False, operators="standard", **changes):
    fields = {"form": "blockwise", "bits": 4, "block": BLOCK, "reason": "test", **changes}
    return Plan(
        model_sha256="0" * 64,
        portable=portable,
        operators=operators,
        weights={
            name: WeightChoice(
                **{
                    "axis": block_weight(model.graph, model.graph.initializers[name]).axis,
                    **fields,
                }
            )
            for name in names.split()
        },
    )


def restored(model, plan):
    """The model with the planned weights as the values that their codes stand for."""
    copy = model.clone()
    for name, choice in plan.weights.items():
        value = copy.graph.initializers[name]
        old = value.const_value.numpy()
        made = codes(old, choice, None).values(old.shape, choice.axis)
        value.const_value = ir.tensor(made.astype(old.dtype), name=name)
    return copy


def run(model, feed, optimization="default"):
    return ort.run(ort.session(model, optimization=optimization), feed)


def operators(model):
    return Counter(node.op_type for node in ort.optimized(model).graph)


def bound(x, w):
    """Rounding of activations to int8 within the kernel: half a step of the largest, per term.

    The kernel has a step per block of activations, at most max|x|/127; to that comes float32.
    """
    step = np.abs(x).max() / 127
    return (step / 2 + 8 * EPS * np.abs(x).max()) * np.abs(w).sum(axis=0).max() * 1.01


PRODUCTS = {
    "two axes": ("g (float[5,64] x) => (float[5,48] o) { o = MatMul(x, w) }", {}, 1),
    "a bias": (
        "g (float[5,64] x) => (float[5,48] o) { y = MatMul(x, w)  o = Add(y, b) }",
        {"b": (N,)}, 1,
    ),
    "a batch": (
        "g (float[a,c,64] x) => (float[a,c,48] o) { y = MatMul(x, w)  o = Add(b, y) }",
        {"b": (N,)}, 1,
    ),
    "gemm": ("g (float[5,64] x) => (float[5,48] o) { o = Gemm(x, w) }", {}, 1),
    "gemm and a bias": (
        "g (float[5,64] x) => (float[5,48] o) { o = Gemm(x, w, b) }", {"b": (N,)}, 1,
    ),
    "gemm and a row": (
        "g (float[5,64] x) => (float[5,48] o) { o = Gemm(x, w, b) }", {"b": (1, N)}, 1,
    ),
    "gemm and one value": (
        "g (float[5,64] x) => (float[5,48] o) { o = Gemm(x, w, b) }", {"b": (1,)}, 1,
    ),
    "gemm of the transposed": (
        "g (float[5,64] x) => (float[5,48] o) { o = Gemm<transB=1>(x, w, b) }",
        {"w": (N, K), "b": (N,)}, 1,
    ),
    "a transpose": (
        "g (float[5,64] x) => (float[5,48] o) { t = Transpose(w)  o = MatMul(x, t) }",
        {"w": (N, K)}, 1,
    ),
    "a transpose before a gemm": (
        """g (float[5,64] x) => (float[5,48] o) {
        t = Transpose<perm=[1,0]>(w)  o = Gemm<transB=1>(x, t, b) }""",
        {"w": (K, N), "b": (N,)}, 1,
    ),
    "two readers": (
        """g (float[5,64] x) => (float[5,48] o) {
        y = Tanh(x)  a = MatMul(x, w)  c = MatMul(y, w)  o = Sub(a, c) }""",
        {}, 2,
    ),
    "two readers that differ": (
        """g (float[5,64] x) => (float[5,48] o) {
        y = Tanh(x)  t = Transpose(w)  a = MatMul(x, t)  c = Gemm<transB=1>(y, w, b)
        d = MatMul(y, t)  e = Sub(a, c)  o = Mul(e, d) }""",
        {"w": (N, K), "b": (N,)}, 3,
    ),
    "an activation behind": (
        """g (float[2,5,64] x) => (float[2,5,48] o) {
        y = MatMul(x, w)  z = Add(y, b)  o = Gelu(z) }""",
        {"b": (N,)}, 1,
    ),
    "a clamp that is the model's output": (
        "g (float[5,64] x) => (float[5,48] o) { y = MatMul(x, w)  o = Relu(y) }", {}, 1,
    ),
    "a clamp that is not the only reader": (
        """g (float[5,64] x) => (float[5,48] o) {
        y = MatMul(x, w)  r = Relu(y)  o = Add(y, r) }""", {}, 1,
    ),
    "a clamp behind a bias in a stack": (
        """g (float[2,5,64] x) => (float[2,5,48] o) <float[2,5,48] y> {
        y = MatMul(x, w)  z = Add(y, b)  r = Relu(z)  o = Tanh(r) }""",
        {"b": (N,)}, 1,
    ),
}  # fmt: skip


def product(case):
    text, shapes, count = PRODUCTS[case]
    shapes = {"w": (K, N), **shapes}
    model = parsed(text, **{name: drawn(*shape) for name, shape in shapes.items()})
    return model, count


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("case", PRODUCTS)
def test_each_planned_product_is_one_kernel(case, bits, offset):
    model, count = product(case)
    plan = plan_for(model, bits=bits, offset=offset)

    result = apply(plan, model, {}).model

    found = operators(result)
    assert found["MatMulNBits"] == count
    assert found["DequantizeLinear"] == found["MatMul"] == found["Gemm"] == 0
    assert found["Transpose"] == 0
    assert fallen_back(plan, result) == {}
    codes_kept = [name for name in result.graph.initializers if name.startswith("w.int")]
    assert codes_kept == ["w.int"]  # one copy, however many read it


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("case", PRODUCTS)
def test_unfused_it_computes_with_exactly_the_values_of_the_codes(case, bits):
    model, _ = product(case)
    plan = plan_for(model, bits=bits, offset=True)
    shape = (2, 5, K) if "batch" in case or "behind" in case else (5, K)
    feed = {"x": drawn(*shape, seed=1)}

    result = apply(plan, model, {}).model

    wanted, found = (run(one, feed, "off")["o"] for one in (restored(model, plan), result))
    # Both multiply the same floats; orders of sums of K products may differ with the layout.
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=K * 16 * EPS * 8)


def test_fused_it_differs_by_the_rounding_of_activations_only():
    model, _ = product("two axes")
    plan = plan_for(model)
    x = drawn(5, K, seed=1)

    result = apply(plan, model, {}).model

    w = restored(model, plan).graph.initializers["w"].const_value.numpy()
    found = run(result, {"x": x})["o"]
    assert (np.abs(found - x @ w) <= bound(x, w)).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("case", PRODUCTS)
def test_the_runtimes_own_operator_computes_the_same(case, bits, offset):
    model, count = product(case)
    plan = plan_for(model, bits=bits, offset=offset, operators="runtime")
    shape = (2, 5, K) if "batch" in case or "behind" in case else (5, K)
    feed = {"x": drawn(*shape, seed=1)}

    result = apply(plan, model, {}).model
    standard = apply(plan.model_copy(update={"operators": "standard"}), model, {}).model

    assert Counter(node.op_type for node in result.graph)["MatMulNBits"] == count
    assert result.graph.opset_imports["com.microsoft"] == 1
    assert fallen_back(plan, result) == {}
    # The same kernel over the same codes, at the same accuracy level.
    np.testing.assert_allclose(
        run(result, feed)["o"], run(standard, feed)["o"], rtol=1e-5, atol=1e-5
    )


TABLES = {
    "indices of two axes": ("g (int64[2,3] i) => (float[2,3,64] o) { o = Gather(w, i) }", (2, 3)),
    "one index": ("g (int64 i) => (float[64] o) { o = Gather(w, i) }", ()),
    "indices of any axes": (
        "g (int64[a,c] j) => (float[a,c,64] o) { i = Cast<to=7>(j)  o = Gather(w, i) }", (2, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("operators_", ["standard", "runtime"])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("case", TABLES)
def test_rows_of_a_table_are_gathered_first(case, bits, offset, operators_):
    text, shape = TABLES[case]
    model = parsed(text, w=drawn(300, K))
    plan = plan_for(model, bits=bits, offset=offset, operators=operators_)
    name = model.graph.inputs[0].name
    feed = {name: np.random.default_rng(1).integers(-300, 300, shape)}

    result = apply(plan, model, {}).model

    wanted = run(restored(model, plan), feed)["o"]
    for optimization in ("default", "off"):
        found = run(result, feed, optimization)["o"]
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=2 * EPS, atol=0)
    assert fallen_back(plan, result) == {}
    biggest = max(v.const_value.nbytes for v in result.graph.initializers.values())
    assert biggest == 300 * K * bits // 8
    # Nothing of the table's size is made when the model runs.
    for node in ort.optimized(result).graph:
        assert node.op_type != "DequantizeLinear"


@pytest.mark.parametrize("operators_", ["standard", "runtime"])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_tied_embeddings_stay_tied(bits, offset, operators_):
    model = parsed(
        """g (int64[n,s] i) => (float[n,s,300] o) {
        e = Gather(w, i)  h = Tanh(e)  t = Transpose<perm=[1,0]>(w)  o = MatMul(h, t) }""",
        w=drawn(300, K),
    )
    plan = plan_for(model, bits=bits, offset=offset, operators=operators_)
    feed = {"i": np.array([[1, 2, 299], [0, 5, 7]])}

    result = apply(plan, model, {}).model

    assert operators(result)["MatMulNBits"] == 1
    assert fallen_back(plan, result) == {}
    whole = sum(value.const_value.nbytes for value in result.graph.initializers.values())
    table = 300 * K * bits // 8
    scale_bytes = 2 if operators_ == "standard" else 4
    scales = 300 * K // BLOCK * (scale_bytes + offset)
    assert whole <= table + scales + 200  # a few shapes and numbers beside them
    values = restored(model, plan)
    w = values.graph.initializers["w"].const_value.numpy()
    wanted = run(values, feed)["o"]
    assert (np.abs(run(result, feed)["o"] - wanted) <= bound(np.ones(1), w.T)).all()


def test_a_table_of_half_precision_gives_rows_of_half_precision():
    model = parsed(
        "g (int64[2,3] i) => (float16[2,3,64] o) { o = Gather(w, i) }", np.float16, w=drawn(300, K)
    )
    plan = plan_for(model)
    feed = {"i": np.array([[1, 2, 3], [4, 5, 6]])}

    result = apply(plan, model, {}).model

    found = run(result, feed)["o"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, run(restored(model, plan), feed)["o"])


def test_a_product_of_half_precision_is_one_kernel_between_casts():
    model = parsed(
        "g (float16[5,64] x) => (float16[5,48] o) { o = MatMul(x, w) }", np.float16, w=drawn(K, N)
    )
    plan = plan_for(model)

    result = apply(plan, model, {}).model

    found = operators(result)
    assert found["MatMulNBits"] == 1
    assert set(found) <= {"MatMulNBits", "Cast"}
    x = drawn(5, K, seed=1).astype(np.float16)
    w = restored(model, plan).graph.initializers["w"].const_value.numpy().astype(np.float32)
    out = run(result, {"x": x})["o"]
    wanted = x.astype(np.float32) @ w
    assert out.dtype == np.float16
    assert (
        np.abs(out - wanted) <= bound(x.astype(np.float32), w) + np.abs(wanted) * 2.0**-10
    ).all()


def test_a_portable_plan_has_stored_weights_spelled_for_kernels_too():
    model = parsed(
        """g (int64[n,s] i) => (float[n,s,48] o) {
        e = Gather(t, i)  h = MatMul(e, w)  y = MatMul(h, v)  o = Tanh(y) }""",
        t=drawn(300, K), w=drawn(K, N), v=drawn(N, N),
    )  # fmt: skip
    plan = plan_for(model, "t w v", portable=True, form="stored", block=None)

    result = apply(plan, model, {}).model

    found = operators(result)
    assert found["MatMulNBits"] == 2
    assert found["DequantizeLinear"] == 0
    feed = {"i": np.array([[1, 2, 3]])}
    wanted = run(restored(model, plan), feed, "off")["o"]
    np.testing.assert_allclose(run(result, feed, "off")["o"], wanted, rtol=1e-4, atol=1e-4)


def test_what_is_done_is_not_done_again_and_other_forms_stay():
    model, _ = product("two readers that differ")
    plan = plan_for(model)
    made = {"w": codes(drawn(N, K), plan.weights["w"], None)}
    untouched = plan_for(model, form="stored", block=None)
    before = onnx.printer.to_text(ir.to_proto(model))

    assert not InsertBlockwisePass(untouched, made)(model).modified
    assert onnx.printer.to_text(ir.to_proto(model)) == before
    assert InsertBlockwisePass(plan, made)(model).modified
    once = onnx.printer.to_text(ir.to_proto(model))
    assert not InsertBlockwisePass(plan, made)(model).modified
    assert onnx.printer.to_text(ir.to_proto(model)) == once


OBSTACLES = {
    "it is clamped": (
        "g (float[5,64] x) => (float[5,48] o) { y = MatMul(x, w)  r = Relu(y)  o = Tanh(r) }",
        (K, N), "Relu behind it keeps ONNX Runtime from",
    ),
    "a gemm is clamped": (
        "g (float[5,64] x) => (float[5,48] o) { y = Gemm(x, w)  r = Clip(y)  o = Tanh(r) }",
        (K, N), "Clip behind it keeps ONNX Runtime from",
    ),
    "another matrix is added": (
        "g (float[5,64] x, float[5,48] r) => (float[5,48] o) { y = MatMul(x, w)  o = Add(y, r) }",
        (K, N), "'r' is added to it",
    ),
    "a factor": (
        "g (float[5,64] x) => (float[5,48] o) { o = Gemm<alpha=2.0>(x, w) }", (K, N),
        "no kernel that reads blocks with its attributes",
    ),
    "the input is transposed": (
        "g (float[64,5] x) => (float[5,48] o) { o = Gemm<transA=1>(x, w) }", (K, N),
        "no kernel that reads blocks with its attributes",
    ),
    "another operator": (
        "g (float[64,48] x) => (float[64,48] o) { o = Mul(x, w) }", (K, N), "no kernel",
    ),
    "columns are looked up": (
        "g (int64[3] i) => (float[64,3] o) { o = Gather<axis=1>(w, i) }", (K, N), "no kernel",
    ),
    "few features": (
        "g (float[5,40] x) => (float[5,48] o) { o = MatMul(x, w) }", (40, N),
        "its 40 features are no multiple of 16",
    ),
    "it lies on both sides": (
        "g (float[5,64] x) => (float[5,64] o) { y = MatMul(x, w)  o = Gemm<transB=1>(y, w) }",
        (K, K), "its readers take different axes as channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OBSTACLES)
def test_what_stands_against_it_is_said_before_anything_changes(case):
    text, shape, words = OBSTACLES[case]
    model = parsed(text, w=drawn(*shape))
    choice = WeightChoice(form="blockwise", bits=4, axis=1, block=16, reason="test")
    plan = Plan(model_sha256="0" * 64, weights={"w": choice})
    before = onnx.printer.to_text(ir.to_proto(model))
    made = {"w": Codes(np.zeros(shape[::-1], np.int8), np.ones((shape[1], 1), np.float32))}

    with pytest.raises(PlanError, match=words):
        InsertBlockwisePass(plan, made)(model)

    assert onnx.printer.to_text(ir.to_proto(model)) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"axis": 0}, "its channels are on axis 1, not 0"),
        ({"block": 128}, "blocks of 128 do not divide its 64 features"),
        ({"masked": True}, "no bit mask"),
    ],
)
def test_a_choice_that_does_not_fit_its_weight_is_refused(changes, words):
    model, _ = product("two axes")
    plan = plan_for(model, **changes)
    made = {"w": codes(drawn(K, N), plan_for(model).weights["w"], None)}

    with pytest.raises(PlanError, match=words):
        InsertBlockwisePass(plan, made)(model)


def test_older_opsets_have_no_blocks():
    model, _ = product("two axes")
    model.graph.opset_imports[""] = 20

    with pytest.raises(PlanError, match="opset 20 has no blocks, opset 21 has"):
        InsertBlockwisePass(plan_for(model), {})(model)
