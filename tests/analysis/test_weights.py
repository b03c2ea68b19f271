from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.analysis.weights import SMALLEST_BYTES, weights
from tests.runtime.made import made, random


def only(text, **values):
    (found,), others = weights(made(text, **values))
    assert others == ()
    return found


CASES = {
    "MatMul": ("g (float[N,16] x) => (float[] y) <float[16,32] w> { y = MatMul (x, w) }",
               1, "linear", (1, 32, 16)),
    "Gemm": ("g (float[N,16] x) => (float[] y) <float[16,32] w> { y = Gemm (x, w) }",
             1, "linear", (1, 32, 16)),
    "Gemm transB": (("g (float[N,16] x) => (float[] y) <float[32,16] w> {"
                    " y = Gemm <transB = 1> (x, w) }"), 0, "linear", (1, 32, 16)),
    "Conv": (("g (float[N,8,4,4] x) => (float[] y) <float[16,4,3,3] w> {"
             " y = Conv <group = 2> (x, w) }"), 0, "linear", (2, 8, 36)),
    "Gather": ("g (int64[N] x) => (float[] y) <float[32,16] w> { y = Gather (w, x) }",
               0, "lookup", None),
    "ConvTranspose": (("g (float[N,8,4,4] x) => (float[] y) <float[8,4,3,3] w> {"
                      " y = ConvTranspose (x, w) }"), 1, "linear", None),
    "left factor": ("g (float[16,N] x) => (float[] y) <float[32,16] w> { y = MatMul (w, x) }",
                    0, "linear", None),
    "batched": ("g (float[2,N,16] x) => (float[] y) <float[2,16,16] w> { y = MatMul (x, w) }",
                2, "linear", None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_axis_role_and_matrix(name):
    text, axis, role, matrix = CASES[name]
    found = only(text)
    assert (found.name, found.axis, found.role) == ("w", axis, role)
    assert found.size_bytes == 4 * np.prod(found.shape)
    if matrix is None:
        assert found.linear is None
    else:
        values = found.value.const_value.numpy()
        assert found.linear.matrix(found.node, values).shape == matrix
        assert found.input_name == "x"


def test_recurrent_matrices():
    found, _ = weights(made(
        "g (float[5,1,16] x) => (float[] y) <float[1,32,16] w, float[1,32,8] r> {"
        " y = LSTM <hidden_size = 8> (x, w, r) }"
    ))  # fmt: skip
    assert [(one.name, one.axis, one.role) for one in found] == [
        ("w", 1, "recurrent"), ("r", 1, "recurrent")]  # fmt: skip


def test_half_weights_are_weights():
    found = only("g (float16[N,32] x) => (float16[] y) <float16[32,16] w> { y = MatMul (x, w) }")
    assert found.size_bytes == SMALLEST_BYTES


def test_small_and_integer_initializers_are_in_neither_list():
    model = made("""
    g (float[N,16] x) => (float[] y) <float[16,15] w, int64[200] i> {
      m = MatMul (x, w)
      y = Gather <axis = 1> (m, i)
    }""", i=np.zeros(200, np.int64))  # fmt: skip
    assert weights(model) == ((), ())  # 960 bytes of floats, 1600 of integers


def test_a_weight_that_two_nodes_read_alike_is_one():
    found = only("""
    g (float[N,16] x) => (float[] y) <float[16,16] w> {
      a = MatMul (x, w)
      y = MatMul (a, w)
    }""")
    assert (found.input_name, found.axis) == ("x", 1)


LEFT_ALONE = {
    "its readers take different axes as channels": """
    g (float[N,16] x) => (float[] y) <float[16,16] w> {
      a = MatMul (x, w)
      y = Gemm <transB = 1> (a, w)
    }""",
    "Add does not read it as a weight (input B)": """
    g (float[16,16] x) => (float[] y) <float[16,16] w> {
      a = MatMul (x, w)
      y = Add (a, w)
    }""",
    "no node reads it": "g (float[N] x) => (float[N] y) <float[16,16] w> { y = Relu (x) }",
    "it is an output of the graph": """
    g (float[N,16] x) => (float[N,16] y, float[16,16] w) <float[16,16] w> { y = MatMul (x, w) }""",
    "Foo has no row in the operator table": """
    g (float[N,16] x) => (float[] y) <float[16,16] w> { y = local.Foo (x, w) }
    <domain: "local", opset_import: ["" : 21]> Foo (a, b) => (c) { c = MatMul (a, b) }""",
}


@pytest.mark.parametrize("reason", LEFT_ALONE)
def test_what_is_no_weight_says_why(reason):
    found, (other,) = weights(made(LEFT_ALONE[reason]))
    assert found == ()
    assert (other.name, other.size_bytes, other.reason) == ("w", 1024, reason)


def test_weights_of_branches_are_found_and_have_no_rows_to_fit_to():
    numbers = ", ".join(str(round(x, 3)) for x in random(256).tolist())
    found, others = weights(made(f"""
    g (float[N,16] x, bool c) => (float[N,16] y) <float[16,16] w> {{
      y = If (c) <
        then_branch = t () => (float[N,16] a) <float[16,16] v = {{{numbers}}}> {{
          a = MatMul (x, v) }},
        else_branch = e () => (float[N,16] b) {{ b = MatMul (x, w) }}
      >
    }}"""))  # fmt: skip
    assert others == ()
    by_name = {one.name: one for one in found}
    assert sorted(by_name) == ["v", "w"]
    # What a branch makes is no value of the main graph, wherever the weight itself lies.
    assert by_name["v"].linear is None
    assert by_name["w"].linear is None


def test_a_table_that_is_multiplied_by_through_a_transpose_is_one_weight_of_both():
    found = only(
        """g (int64[N] i) => (float[] y) <float[32,16] w> {
        e = Gather (w, i)  t = Transpose <perm = [1, 0]> (w)  y = MatMul (e, t) }"""
    )
    assert (found.name, found.axis, found.node.op_type) == ("w", 0, "Gather")
    assert found.linear is None  # its rows are read as they are, too, so none are fitted


def test_a_matrix_behind_a_transpose_is_a_weight():
    found = only(
        "g (float[N,16] x) => (float[] y) <float[32,16] w> {"
        " t = Transpose (w)  y = MatMul (x, t) }"
    )
    assert (found.axis, found.role) == (0, "linear")


def test_a_transposed_matrix_that_others_read_too_is_left_alone():
    _, (other,) = weights(
        made("""
    g (float[N,16] x) => (float[] y, float[] z) <float[16,16] w> {
      t = Transpose (w)  y = MatMul (x, t)  z = Exp (t) }""")
    )
    assert other.reason == "Exp does not read it as a weight behind Transpose"
