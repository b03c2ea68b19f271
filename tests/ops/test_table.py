"""Which row holds for a node, and the multiply-adds and weights of rows outside linear.py."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.axes import constant, setting
from onnxsqueeze.ops.row import WeightPort
from tests.ops.example import op


def _node(text: str) -> ir.Node:
    return ir.from_onnx_text(text).graph[0]


def test_newest_row_not_above_the_opset_is_used():
    text = """<ir_version: 8, opset_import: ["" : {}]>
    g (float[2,3] x) => (float[2,3] y) {{ y = Softmax(x) }}"""
    rows = {opset: row_of(_node(text.format(opset))) for opset in (1, 12, 13, 21)}
    assert [row.since for row in rows.values() if row] == [1, 1, 13, 13]


def test_operator_before_its_first_row_has_none():
    text = """<ir_version: 8, opset_import: ["" : 6]>
    g (float[2] a, float[2] b) => (float[2] c) { c = Add <broadcast = 1> (a, b) }"""
    assert row_of(_node(text)) is None


def test_operator_of_another_domain_has_no_row_even_under_a_known_name():
    text = """<ir_version: 8, opset_import: ["" : 21, "elsewhere" : 1]>
    g (float[2] a) => (float[2] b) { b = elsewhere.Relu(a) }"""
    assert row_of(_node(text)) is None


CONSTANTS = """<ir_version: 8, opset_import: ["" : 21]>
g (float[2,1] x, int64[1] given) => (float[2] y)
<int64[1] stored = {1}> {
    made = Constant <value_ints = [1]> ()
    y = Squeeze(x, NAME)
}"""


@pytest.mark.parametrize(("name", "expected"), [("stored", [1]), ("made", [1]), ("given", None)])
def test_constant_inputs_are_initializers_and_constants_but_no_graph_inputs(name, expected):
    node = ir.from_onnx_text(CONSTANTS.replace("NAME", name)).graph[1]
    assert setting(node, "axes") == expected
    assert constant(node, "data") is None


def test_initializer_that_may_be_fed_is_not_constant():
    model = ir.from_onnx_text(CONSTANTS.replace("NAME", "stored"))
    model.graph.inputs.append(model.graph.initializers["stored"])
    assert setting(model.graph[1], "axes") is None


@pytest.mark.parametrize(
    ("node", "shapes", "expected"),
    [
        # 5 steps of 2 sequences, 4 gates of 3 units, 6 inputs and 3 states each.
        (
            op("LSTM", X=(5, 2, 6), W=(1, 12, 6), R=(1, 12, 3), with_={"hidden_size": 3}),
            {"X": (5, 2, 6), "W": (1, 12, 6), "R": (1, 12, 3)},
            5 * 2 * 12 * (6 + 3),
        ),
        (
            op("AveragePool", X=(1, 2, 4, 4), with_={"kernel_shape": [2, 2]}),
            {"X": (1, 2, 4, 4), "Y": (1, 2, 3, 3)},
            2 * 9 * 4,
        ),
        (op("GlobalAveragePool", X=(1, 2, 4, 4)), {"X": (1, 2, 4, 4)}, 32),
        (op("ReduceMean", data=(2, 3)), {"data": (2, 3)}, 6),
        (
            op("MatMulInteger", A=np.uint8([[1, 2]]), B=np.uint8([[1], [2]])),
            {"A": (1, 2), "B": (2, 1), "Y": (1, 1)},
            2,
        ),
    ],
    ids=lambda value: str(value) if hasattr(value, "op_type") else None,
)
def test_macs_are_the_products_and_sums_of_the_operator(node, shapes, expected):
    made = node.model().graph[0]
    row = row_of(made)
    assert row.macs(made, shapes) == expected
    assert row.macs(made, {}) == 0


def test_rows_of_an_embedding_keep_their_own_scales():
    node = op("Gather", const_data=(9, 4), indices=np.int64([1])).model().graph[0]
    assert row_of(node).weights(node) == (WeightPort("data", 0, "lookup"),)


def test_vector_that_is_gathered_from_is_no_weight():
    node = op("Gather", const_data=(9,), indices=np.int64([1])).model().graph[0]
    assert row_of(node).weights(node) == ()


def test_gates_of_a_recurrent_unit_keep_their_own_scales():
    made = op("GRU", X=(5, 2, 6), const_W=(1, 9, 6), const_R=(1, 9, 3)).model().graph[0]
    assert row_of(made).weights(made) == (
        WeightPort("W", 1, "recurrent"),
        WeightPort("R", 1, "recurrent"),
    )


def test_resized_axis_is_frozen_even_where_its_dim_stays():
    scales = np.float32([1, 1, 1.2, 1])
    node = op("Resize", X=(2, 4, 3, 3), const_scales=scales).model().graph[0]
    shapes = {"X": (2, 4, 3, 3), "Y": (2, 4, 3, 3)}
    assert {tie.a.axis for tie in row_of(node).ties(node, shapes)} == {0, 1, 3}
