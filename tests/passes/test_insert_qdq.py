from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.errors import PlanError
from onnxsqueeze.passes.insert_qdq import (
    LARGEST_BIAS_CODE,
    InsertQdqPass,
    activation_grid,
)
from onnxsqueeze.passes.round_weights import Codes
from onnxsqueeze.plan.types import ActivationChoice, Plan, WeightChoice
from onnxsqueeze.runtime import ort

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
ROUNDING = 1.001  # the derived bounds hold in exact arithmetic; kernels sum in float32


def parsed(text, **weights):
    model = ir.from_onnx_text(
        HEADER + text,
        initializers=[
            ir.tensor(np.asarray(value, np.float32), name=name) for name, value in weights.items()
        ],
    )
    for node in model.graph:
        node.name = f"n_{node.outputs[0].name}"
    return model


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plan_for(model, feed, **changes):
    """All candidates in integers, over the ranges of one feed."""
    able = [one for one in integer_candidates(model) if not one.reason]
    names = {name for one in able for name in (one.x, one.closes) if name}
    inner = sorted(names - feed.keys())
    found = ort.run(ort.session(ort.expose(model, inner)), feed) if inner else {}
    seen = {**feed, **found}
    return Plan(
        model_sha256="0" * 64,
        weights={
            one.weight: WeightChoice(
                **{"form": "qdq", "bits": 8, "axis": one.axis, "reason": "test", **changes}
            )
            for one in able
        },
        activations={
            name: ActivationChoice(
                low=float(seen[name].min()), high=float(seen[name].max()), reason="test"
            )
            for name in names
        },
    )


def without(plan, **fields):
    return plan.model_copy(update=fields)


def operators(model):
    return sorted(node.op_type for node in ort.optimized(model).graph)


def step_of(plan, name):
    return float(activation_grid(plan.activations[name].low, plan.activations[name].high)[0])


def output(model, feed, optimization="default"):
    return ort.run(ort.session(model, optimization=optimization), feed)["out"]


def text_of(model):
    return onnx.printer.to_text(ir.to_proto(model))


def product_bound(model, feed, plan):
    """|x̂ŵ − xw| ≤ (s_x/2)·|w| + (|x| + s_x/2)·(s_w/2), and s_x·s_w/2 for the bias's rounding.

    Computed by the product itself with these factors in place of x and w; for a model with one
    product. Relu and Clip make no error larger.
    """
    (one,) = integer_candidates(model)
    weight = model.graph.initializers[one.weight].const_value.numpy()
    s_x = step_of(plan, one.x)
    moved = np.moveaxis(np.abs(weight), one.axis, 0)
    half = moved.reshape(len(moved), -1).max(1) / 127 / 2
    s_w = np.broadcast_to(half.reshape(-1, *[1] * (weight.ndim - 1)), moved.shape)
    terms = [
        (np.full_like(feed["x"], s_x / 2), np.abs(weight)),
        (np.abs(feed["x"]) + np.float32(s_x / 2), np.moveaxis(s_w, 0, one.axis)),
    ]
    total = s_x * half.max()
    for x, w in terms:
        copy = model.clone()
        for name, value in copy.graph.initializers.items():
            if name == one.weight:
                value.const_value = ir.tensor(np.ascontiguousarray(w, np.float32), name=name)
            elif name == one.bias:
                value.const_value = ir.tensor(np.zeros_like(value.const_value.numpy()), name=name)
        run = ort.expose(copy, [one.bias_reader])
        total = total + ort.run(ort.session(run), {"x": x})[one.bias_reader]
    return total * ROUNDING


CONVS = {
    "bias and relu": (
        "y = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(y)  out = Identity(r)",
        (6, 8, 3, 3), "r",
    ),
    "clip": (
        "y = Conv<strides=[2,2]>(x, w, b)  r = Clip(y, zero, six)  out = Identity(r)",
        (6, 8, 3, 3), "r",
    ),
    "no bias": ("y = Conv(x, w)  out = Tanh(y)", (6, 8, 1, 1), None),
    "depthwise": ("y = Conv<group=8>(x, w, b)  out = Identity(y)", (8, 1, 3, 3), "y"),
    "grouped": ("y = Conv<group=4>(x, w, b)  out = Identity(y)", (12, 2, 3, 3), "y"),
    "two readers": (
        "y = Conv(x, w, b)  h = HardSigmoid(y)  out = Mul(y, h)",
        (6, 8, 3, 3), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONVS)
def test_conv_becomes_an_integer_kernel_within_the_error_of_its_steps(case):
    nodes, w_shape, closing = CONVS[case]
    weights = {"w": drawn(*w_shape), "b": drawn(w_shape[0], seed=1), "zero": 0.0, "six": 6.0}
    model = parsed(
        f"g (float[2,8,9,9] x) => (float out) {{ {nodes} }}",
        **{name: value for name, value in weights.items() if f" {name}" in nodes},
    )
    model.graph.outputs[0].shape = None
    feed = {"x": drawn(2, 8, 9, 9, seed=2)}
    plan, exact = plan_for(model, feed), output(model, feed)
    bound = product_bound(model, feed, plan)

    result = InsertQdqPass(plan)(model)

    assert result.modified
    found = operators(model)
    assert "QLinearConv" in found
    assert not {"Conv", "FusedConv", "Relu", "Clip"} & set(found)
    if closing is not None:
        step = step_of(plan, closing)
        assert (np.abs(output(model, feed) - exact) <= bound + step / 2 * ROUNDING).all()


MATMULS = {
    "plain": ("float[2,7,16]", "out = MatMul(x, w)", {}),
    "bias": ("float[7,16]", "y = MatMul(x, w)  out = Add(y, b)", {"b": (5,)}),
    "batch and bias": ("float[2,7,16]", "y = MatMul(x, w)  out = Add(b, y)", {"b": (5,)}),
    "any batch and bias": ("float[a,c,16]", "y = MatMul(x, w)  out = Add(y, b)", {"b": (1, 5)}),
    "one bias for all": ("float[7,16]", "y = MatMul(x, w)  out = Add(y, b)", {"b": (1,)}),
    "gemm": ("float[7,16]", "out = Gemm(x, w)", {}),
    "gemm and bias": ("float[7,16]", "out = Gemm(x, w, b)", {"b": (5,)}),
    "gemm of the transposed": ("float[7,16]", "out = Gemm<transB=1>(x, w)", {"w": (5, 16)}),
    "the same and bias": (
        "float[n,16]",
        "out = Gemm<transB=1>(x, w, b)",
        {"w": (5, 16), "b": (5,)},
    ),
}


@pytest.mark.parametrize("case", MATMULS)
def test_products_become_integer_kernels_that_write_floats(case):
    declared, nodes, shapes = MATMULS[case]
    shapes = {"w": (16, 5), **shapes}
    weights = {name: drawn(*shape, seed=len(name)) for name, shape in shapes.items()}
    model = parsed(f"g ({declared} x) => (float out) {{ {nodes} }}", **weights)
    model.graph.outputs[0].shape = None
    feed = {"x": drawn(*((2, 7, 16) if declared.count(",") == 2 else (7, 16)), seed=5)}
    plan, exact = plan_for(model, feed), output(model, feed)
    bound = product_bound(model, feed, plan)

    InsertQdqPass(plan)(model)

    found = operators(model)
    assert {"QGemm", "MatMulIntegerToFloat"} & set(found)
    assert not {"Gemm", "MatMul", "FusedMatMul", "MatMulNBits"} & set(found)
    assert (np.abs(output(model, feed) - exact) <= bound).all()


@pytest.mark.parametrize(
    ("nodes", "w_shape", "x_shape"),
    [
        ("y = Conv(x, w, b)  out = Identity(y)", (16, 32, 3, 3), (1, 32, 9, 9)),
        ("out = Gemm<transB=1>(x, w, b)", (16, 512), (32, 512)),
        ("y = MatMul(x, w)  out = Add(y, b)", (512, 16), (2, 16, 512)),
    ],
)
def test_the_largest_weights_do_not_saturate(nodes, w_shape, x_shape):
    """Codes of ±127 over activations up to 255 would overflow the 16 bits of u8·s8 kernels."""
    rng = np.random.default_rng(3)
    model = parsed(
        f"g (float[{','.join(map(str, x_shape))}] x) => (float out) {{ {nodes} }}",
        w=rng.choice([-1.0, 1.0], w_shape), b=np.zeros(16),
    )  # fmt: skip
    model.graph.outputs[0].shape = None
    feed = {"x": rng.uniform(0, 1, x_shape).astype(np.float32)}
    plan = plan_for(model, feed)
    InsertQdqPass(plan)(model)
    # Without an output grid both sums are of exact codes, and differ as float32 sums of 512 do.
    step = step_of(plan, "y") if "y" in plan.activations else 512 * 2.0**-23

    difference = np.abs(output(model, feed) - output(model, feed, "off"))

    assert difference.max() <= step * ROUNDING


def two_convs():
    model = parsed(
        """g (float[1,4,9,9] x) => (float[1,4,7,7] out) {
        a = Conv(x, w, b)  r = Relu(a)  c = Conv(r, v)  d = Conv(x, u)  e = Add(c, d)
        t = Conv(x, u)  s = Sub(t, e)  out = Tanh(s) }""",
        w=drawn(4, 4, 3, 3), b=drawn(4), v=drawn(4, 4, 1, 1), u=drawn(4, 4, 3, 3),
    )  # fmt: skip
    return model, {"x": drawn(1, 4, 9, 9, seed=2)}


def test_readers_share_one_pair_and_the_names_follow_their_sources():
    model, feed = two_convs()

    InsertQdqPass(plan_for(model, feed))(model)

    pairs = [n.inputs[0].name for n in model.graph if n.op_type == "QuantizeLinear"]
    assert sorted(pairs) == ["c", "d", "r", "t", "x"]
    by_output = {n.outputs[0].name: [v.name for v in n.inputs] for n in model.graph}
    assert by_output["a"] == ["x.dq", "w.dq", "b.dq"]
    assert by_output["x.q"] == ["x", "x.scale", "x.zero"]
    assert by_output["x.dq"] == ["x.q", "x.scale", "x.zero"]
    assert by_output["w.dq"] == ["w.int", "w.scale", "w.zero"]
    assert by_output["b.dq"] == ["b.int", "b.scale", "b.zero"]
    assert (by_output["d"], by_output["t"]) == (["x.dq", "u.dq"], ["x.dq", "u.dq.2"])
    assert by_output["u.dq.2"] == ["u.int.2", "u.scale.2", "u.zero.2"]
    assert not {"w", "b", "u", "v"} & set(model.graph.initializers)


def test_scale_of_a_bias_is_exactly_the_product_of_the_scales():
    model, feed = two_convs()

    InsertQdqPass(plan_for(model, feed))(model)

    held = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    assert held["b.scale"].tolist() == (held["x.scale"] * held["w.scale"]).tolist()
    assert held["w.int"].dtype == np.uint8
    assert (held["w.int"].min(), held["w.int"].max()) in {(1, 255), (1, 254), (2, 255)}
    assert set(held["w.zero"].tolist()) == {128}


def test_what_is_not_planned_stays_in_floats():
    model, feed = two_convs()
    plan = plan_for(model, feed)
    only_w = without(plan, weights={"w": plan.weights["w"]})

    InsertQdqPass(only_w)(model)

    by_output = {n.outputs[0].name: [v.name for v in n.inputs] for n in model.graph}
    assert (by_output["d"], by_output["t"]) == (["x", "u"], ["x", "u"])
    assert by_output["c"] == [
        "r.dq",
        "v",
    ]  # r closes the planned node, so nothing reads its floats
    found = operators(model)
    # c, and one of the equal d and t, which ONNX Runtime merges
    assert (found.count("QLinearConv"), found.count("Conv") + found.count("FusedConv")) == (1, 2)


def test_a_plan_without_integers_changes_nothing():
    model, feed = two_convs()
    before, plan = text_of(model), plan_for(model, feed, form="stored")

    assert not InsertQdqPass(plan)(model).modified
    assert text_of(model) == before


def test_a_second_run_changes_nothing():
    model, feed = two_convs()
    plan = plan_for(model, feed)
    assert InsertQdqPass(plan)(model).modified
    before = text_of(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)

    assert not InsertQdqPass(plan)(model).modified
    assert text_of(model) == before


def test_given_codes_are_stored_as_they_are():
    model, feed = two_convs()
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.01, 0.02, (4, 1)).astype(np.float32)
    given = {
        name: Codes(rng.integers(-127, 128, (4, features)).astype(np.int8), scale)
        for name, features in (("w", 36), ("u", 36), ("v", 4))
    }

    InsertQdqPass(plan_for(model, feed, rounding="compensated"), given)(model)

    held = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    assert (held["w.int"].astype(int) - 128 == given["w"].rows.reshape(4, 4, 3, 3)).all()
    assert held["w.scale"].tolist() == scale[:, 0].tolist()


def test_the_scale_of_a_dead_channel_is_raised_until_its_bias_fits():
    weight = drawn(3, 4, 1)
    weight[1] = 1e-12
    weight[2] = 0
    model = parsed(
        "g (float[1,4,8] x) => (float out) { y = Conv(x, w, b)  out = Identity(y) }",
        w=weight, b=[0.5, 10.0, -3.0],
    )  # fmt: skip
    model.graph.outputs[0].shape = None
    feed = {"x": drawn(1, 4, 8, seed=2)}
    exact, plan = output(model, feed), plan_for(model, feed)

    InsertQdqPass(plan)(model)

    codes = model.graph.initializers["b.int"].const_value.numpy().astype(np.int64)
    assert (
        np.abs(codes).max() <= LARGEST_BIAS_CODE + 64
    )  # float32 has 24 bits, so 2**28 is +- 2**5
    assert "QLinearConv" in operators(model)
    step = step_of(plan, "y")
    assert (np.abs(output(model, feed) - exact)[:, 1:] <= step / 2 * ROUNDING).all()


def test_small_weights_are_pruned_first():
    model, feed = two_convs()
    pruned = np.abs(model.graph.initializers["w"].const_value.numpy()) < 0.5

    InsertQdqPass(plan_for(model, feed, prune_below=0.5))(model)

    codes = model.graph.initializers["w.int"].const_value.numpy()
    assert 0 < pruned.sum() < pruned.size
    assert ((codes == 128) == pruned).all()  # a step is max|w|/127 < 0.05, so nothing else is zero


def without_activation(plan):
    return without(plan, activations={k: v for k, v in plan.activations.items() if k != "r"})


def with_range(plan, name, low, high):
    changed = plan.activations[name].model_copy(update={"low": low, "high": high})
    return without(plan, activations={**plan.activations, name: changed})


def with_weight(plan, **fields):
    return without(
        plan, weights={**plan.weights, "w": plan.weights["w"].model_copy(update=fields)}
    )


REFUSALS = {
    r"node 'n_a' \(Conv\) is planned in integers, and tensor 'r' has no range": without_activation,
    r"range of tensor 'x' is \[2.0, 1.0\], and it must be finite and in order": (
        lambda plan: with_range(plan, "x", 2.0, 1.0)
    ),
    r"range of tensor 'x' is \[0.0, inf\], and it must": (
        lambda plan: with_range(plan, "x", 0.0, np.inf)
    ),
    r"range of tensor 'r' is \[-1.0, 1.0\], and what follows node 'n_a' limits it to ": (
        lambda plan: with_range(plan, "r", -1.0, 1.0)
    ),
    r"keeps weight 'w' in 2 bits, axis 0, .* needs 3 to 8 bits, axis 0": (
        lambda plan: with_weight(plan, bits=2)
    ),
    r"keeps weight 'w' in 8 bits, axis None, ": lambda plan: with_weight(plan, axis=None),
    r"rounds weight 'w' with compensation, and no codes are given": (
        lambda plan: with_weight(plan, rounding="compensated")
    ),
    r"makes integers of 1 weight\(s\) that the model lacks: \['nowhere'\]": (
        lambda plan: without(plan, weights={**plan.weights, "nowhere": plan.weights["w"]})
    ),
    r"integers of weight 'b', and no node of the main graph multiplies by it": (
        lambda plan: without(plan, weights={**plan.weights, "b": plan.weights["w"]})
    ),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_a_plan_that_does_not_fit_is_refused_before_any_change(message):
    model, feed = two_convs()
    plan, before = REFUSALS[message](plan_for(model, feed)), text_of(model)

    with pytest.raises(PlanError, match=message):
        InsertQdqPass(plan)(model)

    assert text_of(model) == before


def test_a_node_that_cannot_be_an_integer_kernel_is_refused():
    model = parsed("g (float[1,4,8] x) => (float[1,6,8] y) { y = Conv(x, w) }", w=drawn(6, 4, 1))
    choice = WeightChoice(form="qdq", bits=8, axis=0, reason="test")
    plan = Plan(model_sha256="0" * 64, weights={"w": choice})

    with pytest.raises(PlanError, match="cannot be an integer kernel: output 'y' is an output of"):
        InsertQdqPass(plan)(model)


def test_a_weight_that_is_not_finite_is_refused():
    model, feed = two_convs()
    plan = plan_for(model, feed)
    model.graph.initializers["b"].const_value = ir.tensor(np.full(4, np.nan, np.float32), name="b")

    with pytest.raises(PlanError, match="makes integers of 'b', which holds NaN or infinity"):
        InsertQdqPass(plan)(model)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-1.0, 3.0),
        (0.0, 6.0),
        (2.0, 5.0),
        (-7.0, -1.0),
        (-1e-6, 5.0),
        (-5.0, 1e-6),
        (1e-30, 2e-30),
    ],
)
def test_the_grid_covers_both_ends_and_holds_zero(low, high):
    """The largest code stands for at least ``high``, up to the scale's rounding to float32."""
    scale, zero = (np.float64(part) for part in activation_grid(low, high))

    assert (255 - zero) * scale >= high * (1 - 2.0**-23)
    assert -zero * scale <= low + abs(low) * 2.0**-23
    assert 0 <= zero <= 255
    assert zero == 0 or low < 0


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (np.nan, 1.0), (0.0, np.inf)])
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(ValueError, match="is not finite or is empty"):
        activation_grid(low, high)
