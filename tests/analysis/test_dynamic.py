from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.analysis.dynamic import without_ranges
from onnxsqueeze.analysis.grids import integer_candidates

SHAPES = {"c": (4, 4, 1), "w": (8, 5), "a": (4, 6), "t": (6, 8)}


def network():
    return ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["": 21]>
        g (float[1,4,8] x, float[4,3] z, float[3,8] v, float[2,4,4] q)
            => (float[1,4,5] out, float[3,6] y, float[3,6] u, float[1,4,8] p) {
        h = Conv(x, c)  k = Tanh(h)  out = MatMul(k, w)
        y = Gemm<transA=1>(z, a)  u = Gemm<transB=1>(v, t)  p = MatMul(q, x) }""",
        initializers=[
            ir.tensor(np.ones(shape, np.float32), name=name) for name, shape in SHAPES.items()
        ],
    )


def test_only_products_that_write_floats_and_transpose_no_input_need_no_range():
    model = network()

    found = without_ranges(model, integer_candidates(model))

    assert {one.y: one.reason for one in found} == {
        "h": "its kernel writes integers, which needs a measured range",
        "out": "",
        "y": "its input is transposed",
        "u": "",
        "p": "its second operand has not two axes",
    }


def test_reasons_against_any_integer_kernel_stay_and_nothing_else_changes():
    model = network()
    before = integer_candidates(model)

    found = without_ranges(model, before)

    assert [one.y for one in found] == [one.y for one in before]
    assert [one for one in before if one.reason] == [one for one in found if one.y == "p"]
    able = [one for one in found if not one.reason]
    assert able == [one for one in before if one.y in {"out", "u"}]
