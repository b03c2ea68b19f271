from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.summary import (
    OTHER,
    STRUCTURE,
    bytes_by_cause,
    bytes_by_dtype,
    multiply_adds,
    operators,
    parameters,
    tensors,
)

CONV = """<ir_version: 10, opset_import: ["" : 21]>
main (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y)
<float[4, 3, 3, 3] w = {WEIGHT}, float[4] b = {0, 1, 2, 3}> {
    c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    y = Relu (c)
}""".replace("WEIGHT", ", ".join(["1"] * 108))

STORED = """<ir_version: 10, opset_import: ["" : 21]>
main (float[2, 4] x) => (float[2, 3] y)
<int8[4, 3] q = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] s = {1, 2, 3}, float[3] b = {0, 0, 0}> {
    f = Cast <to = 1> (q)
    w = Mul (f, s)
    p = MatMul (x, w)
    y = Add (p, b)
}"""

CONSTANT = """<ir_version: 10, opset_import: ["" : 21]>
main (float[2, 2] x) => (float[2, 2] y) {
    w = Constant <value = float[2, 2] {1, 2, 3, 4}> ()
    y = MatMul (x, w)
}"""

COMPUTED = """<ir_version: 10, opset_import: ["" : 21]>
main (float[2, 2] x, float[2, 2] z) => (float[2, 2] y)
<float[2, 2] c = {1, 2, 3, 4}> {
    w = Mul (z, c)
    y = MatMul (x, w)
}"""

BRANCHES = """<ir_version: 10, opset_import: ["" : 21]>
main (bool k, float[2] x) => (float[2] y) {
    y = If (k) <
        then_branch = yes () => (float[2] a) <float[2] t = {1, 2}> { a = Add (x, t) },
        else_branch = no () => (float[2] b) { b = Neg (x) }
    >
}"""


def model(text):
    return ir.from_onnx_text(text)


def test_conv_bytes_go_to_the_weight_the_bias_and_the_rest():
    assert bytes_by_cause(model(CONV), 1000) == {
        "Conv weights": 432,
        OTHER: 16,
        STRUCTURE: 1000 - 448,
    }
    assert parameters(model(CONV)) == 112
    assert bytes_by_dtype(model(CONV)) == {"float": 448}


def test_weight_stored_as_integers_counts_for_the_operator_that_reads_it():
    """q (12 bytes) and s (12 bytes) make w; b is added, not multiplied with."""
    assert bytes_by_cause(model(STORED), 36) == {"MatMul weights": 24, OTHER: 12, STRUCTURE: 0}
    assert bytes_by_dtype(model(STORED)) == {"float": 24, "int8": 12}


def test_weight_in_a_constant_node_counts_as_a_weight():
    assert bytes_by_cause(model(CONSTANT), 20) == {"MatMul weights": 16, STRUCTURE: 4}
    assert parameters(model(CONSTANT)) == 4


def test_what_depends_on_an_input_is_no_weight():
    assert bytes_by_cause(model(COMPUTED), 16) == {OTHER: 16, STRUCTURE: 0}


def test_structure_is_never_negative():
    assert bytes_by_cause(model(CONSTANT), 3)[STRUCTURE] == 0


def test_subgraphs_are_counted():
    assert operators(model(BRANCHES)) == {"If": 1, "Add": 1, "Neg": 1}
    assert parameters(model(BRANCHES)) == 2
    assert [value.name for value, _ in tensors(model(BRANCHES))] == ["t"]


def test_functions_and_domains_are_counted():
    text = """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
    main (float[2] x) => (float[2] y) { y = own.twice (x) }
    <domain: "own", opset_import: ["" : 21]>
    twice (a) => (b) { b = Add (a, a) }"""
    assert operators(model(text)) == {"own.twice": 1, "Add": 1}


def test_narrow_types_count_their_packed_bytes():
    packed = model(CONSTANT)
    packed.graph.register_initializer(
        ir.Value(name="q", const_value=ir.tensor([1, 2, 3], dtype=ir.DataType.INT4, name="q"))
    )
    assert bytes_by_dtype(packed) == {"float": 16, "int4": 2}


def test_multiply_adds_of_measured_shapes():
    """Each of 4*8*8 outputs is a sum over 3*3*3; shapes of w and b come from the initializers."""
    work = multiply_adds(model(CONV), {"x": (1, 3, 8, 8), "c": (1, 4, 8, 8)})

    assert work.by_operator == {"Conv": 4 * 8 * 8 * 27}
    assert work.total == 4 * 8 * 8 * 27
    assert work.uncounted == ()


def test_multiply_adds_without_shapes_are_unknown_not_zero():
    unnamed = model(CONV)
    unnamed.graph[0].name = "first"

    work = multiply_adds(unnamed, {"x": (1, 3, 8, 8)})

    assert work.total is None
    assert work.uncounted == ("first",)
    assert work.multiply_adds == {}


def test_empty_model_is_empty():
    empty = model('<ir_version: 10, opset_import: ["" : 21]> main (float[1] x) => (x) { }')

    assert parameters(empty) == 0
    assert operators(empty) == {}
    assert bytes_by_cause(empty, 50) == {STRUCTURE: 50}
    assert multiply_adds(empty, {}).total == 0


@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_parameters_count_values_not_bytes(dtype):
    one = model(CONSTANT)
    one.graph.register_initializer(
        ir.Value(name="q", const_value=ir.tensor(np.zeros((3, 5), dtype), name="q"))
    )
    assert parameters(one) == 4 + 15


def test_a_stored_weight_counts_as_what_is_multiplied_with():
    # 12 codes and 3 scales make a weight of 4 x 3; the bias has 3 values.
    stored = model(STORED)
    node = next(node for node in stored.graph if node.op_type == "Mul")
    node.outputs[0].shape = ir.Shape([4, 3])
    assert parameters(stored) == 12 + 3


def test_a_computed_weight_of_unknown_shape_counts_as_its_parts():
    assert parameters(model(STORED)) == 12 + 3 + 3
