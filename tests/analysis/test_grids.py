from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.grids import integer_candidates

HEADER = '<ir_version: 10, opset_import: ["": {opset}]>\n'


def parsed(text, opset=21, **weights):
    model = ir.from_onnx_text(
        HEADER.format(opset=opset) + text,
        initializers=[ir.tensor(value, name=name) for name, value in weights.items()],
    )
    for node in model.graph:
        node.name = node.name or f"n_{node.outputs[0].name}"
    return model


def filled(*shape):
    return np.ones(shape, np.float32)


def only(model):
    (candidate,) = integer_candidates(model)
    return candidate


def test_conv_is_closed_behind_its_relu():
    one = only(
        parsed(
            """g (float[1,4,8,8] x) => (float[1,6,8,8] out) {
            y = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(y)  out = Sigmoid(r) }""",
            w=filled(6, 4, 3, 3), b=filled(6),
        )
    )  # fmt: skip

    assert (one.node, one.x, one.weight, one.weight_index) == ("n_y", "x", "w", 1)
    assert (one.axis, one.channels, one.bias, one.bias_reader) == (0, 6, "b", "y")
    assert (one.y, one.closes, one.low, one.high, one.reason) == ("y", "r", 0.0, math.inf, "")


@pytest.mark.parametrize(
    ("low", "high", "closes", "ends"),
    [
        (0.0, 6.0, "r", (0.0, 6.0)),
        (-1.0, 6.0, "y", (-math.inf, math.inf)),
        (0.0, -1.0, "y", (-math.inf, math.inf)),
    ],
)
def test_a_clip_is_absorbed_if_it_starts_at_zero(low, high, closes, ends):
    one = only(
        parsed(
            """g (float[1,4,8] x) => (float[1,6,8] out) {
            y = Conv(x, w)  r = Clip(y, low, high)  out = Sigmoid(r) }""",
            w=filled(6, 4, 1), low=np.array(low, np.float32), high=np.array(high, np.float32),
        )
    )  # fmt: skip

    assert (one.closes, (one.low, one.high), one.reason) == (closes, ends, "")


def test_a_clip_with_computed_ends_or_an_upper_end_only_is_not_absorbed():
    computed = only(
        parsed(
            """g (float[1,4,8] x, float low, float high) => (float[1,6,8] out) {
            y = Conv(x, w)  r = Clip(y, low, high)  out = Sigmoid(r) }""",
            w=filled(6, 4, 1),
        )
    )
    above = only(
        parsed(
            """g (float[1,4,8] x) => (float[1,6,8] out) {
            y = Conv(x, w)  r = Clip(y, , high)  out = Sigmoid(r) }""",
            w=filled(6, 4, 1), high=np.array(6, np.float32),
        )
    )  # fmt: skip

    assert (computed.closes, above.closes) == ("y", "y")


@pytest.mark.parametrize(
    "rest",
    [
        "r = Relu(y)  s = Tanh(y)  out = Add(r, s)",  # another reader of y
        "out = Relu(y)",  # the clamp's output leaves the model
        "out = Tanh(y)",  # no clamp
    ],
)
def test_conv_is_closed_at_its_own_output_where_no_clamp_is_its_own(rest):
    one = only(
        parsed(
            f"g (float[1,4,8] x) => (float[1,6,8] out) {{ y = Conv(x, w)  {rest} }}",
            w=filled(6, 4, 1),
        )
    )

    assert (one.closes, one.low, one.high, one.reason) == ("y", -math.inf, math.inf, "")


@pytest.mark.parametrize(("trans_b", "axis"), [(0, 1), (1, 0)])
def test_gemm_needs_no_output_grid(trans_b, axis):
    one = only(
        parsed(
            f"g (float[2,3] x) => (float[2,5] y) {{ y = Gemm<transB={trans_b}>(x, w, b) }}",
            w=filled(*((5, 3) if trans_b else (3, 5))), b=filled(5),
        )
    )  # fmt: skip

    assert (one.closes, one.axis, one.channels, one.bias, one.reason) == (None, axis, 5, "b", "")


def test_matmul_takes_the_vector_that_is_added_behind_it():
    model = parsed(
        "g (float[2,7,3] x) => (float[2,7,5] out) { y = MatMul(x, w)  out = Add(b, y) }",
        w=filled(3, 5), b=filled(5),
    )  # fmt: skip

    one = only(model)

    assert (one.bias, one.bias_reader, one.closes, one.reason) == ("b", "out", None, "")


def test_matmul_leaves_what_is_added_to_batches_of_matrices():
    one = only(
        parsed(
            "g (float[2,7,3] x, float[2,7,5] z) => (float[2,7,5] out) "
            "{ y = MatMul(x, w)  out = Add(y, z) }",
            w=filled(3, 5),
        )
    )

    assert (one.bias, one.reason) == (None, "")


ALL_REFUSED = {
    "weight 'w' is not an initializer": (
        "g (float[2,3] x, float[3,5] w) => (float[2,5] y) { y = MatMul(x, w) }",
        {},
    ),
    "weight 'w' is DOUBLE, not FLOAT or FLOAT16": (
        "g (double[2,3] x) => (double[2,5] y) { y = MatMul(x, w) }",
        {"w": filled(3, 5).astype(np.float64)},
    ),
    "its second operand has not two axes": (
        "g (float[2,4,3] x) => (float[2,4,5] y) { y = MatMul(x, w) }",
        {"w": filled(2, 3, 5)},
    ),
    "there is no integer kernel for its attributes or operands": (
        "g (float[2,3] x) => (float[2,5] y) { y = Gemm<alpha=2.0>(x, w) }",
        {"w": filled(3, 5)},
    ),
    "its input 'c' is a constant": (
        "g (float[2,3] x) => (float[2,5] y) { y = MatMul(c, w) }",
        {"w": filled(3, 5), "c": filled(2, 3)},
    ),
    "bias 'b' is not a constant vector": (
        "g (float[2,3] x, float[5] b) => (float[2,5] y) { y = Gemm(x, w, b) }",
        {"w": filled(3, 5)},
    ),
    "'z' is added to it, which makes it a float Gemm": (
        "g (float[2,3] x, float[2,5] z) => (float[2,5] out) { y = MatMul(x, w)  out = Add(y, z) }",
        {"w": filled(3, 5)},
    ),
    "output 'y' is an output of the model": (
        "g (float[1,4,8] x) => (float[1,6,8] y) { y = Conv(x, w) }",
        {"w": filled(6, 4, 1)},
    ),
    "weight 'w' is an input or output of the model": (
        "g (float[2,3] x) => (float[2,5] y, float[3,5] w) { y = MatMul(x, w) }",
        {"w": filled(3, 5)},
    ),
}


@pytest.mark.parametrize("reason", ALL_REFUSED)
def test_each_obstacle_is_named(reason):
    text, weights = ALL_REFUSED[reason]

    assert only(parsed(text, **weights)).reason == reason


def test_an_old_opset_is_named():
    model = parsed("g (float[2,3] x) => (float[2,5] y) { y = MatMul(x, w) }", 11, w=filled(3, 5))

    assert only(model).reason == "opset 11 has no scales per channel, opset 13 has"


def test_a_weight_shared_by_products_changes_with_both():
    model = parsed(
        "g (float[2,3] x) => (float[2,3] z) { y = MatMul(x, w)  z = MatMul(y, w) }", w=filled(3, 3)
    )

    assert [one.reason for one in integer_candidates(model)] == ["", ""]


@pytest.mark.parametrize("reader", ["Gemm<alpha=2.0>(y, w)", "Add(y, w)"])
def test_a_weight_that_stays_float_elsewhere_is_refused(reader):
    model = parsed(
        f"g (float[3,3] x) => (float[3,3] z) {{ t = MatMul(x, w) y = Tanh(t) z = {reader} }}",
        w=filled(3, 3),
    )

    assert (
        integer_candidates(model)[0].reason == "weight 'w' is shared with 'n_z', which stays float"
    )


def test_subgraphs_and_other_operators_are_no_candidates():
    model = parsed(
        """g (float[2,3] x, bool c) => (float[2,3] y) {
        y = If(c) <then_branch = t () => (float[2,3] a) { a = MatMul(x, w) },
                   else_branch = e () => (float[2,3] b) { b = Relu(x) }> }""",
        w=filled(3, 3),
    )  # fmt: skip

    assert integer_candidates(model) == ()
