"""What counts as integer already, and where ONNX Runtime makes integers of a float weight."""

from __future__ import annotations

import pytest

from onnxsqueeze.analysis.integers import already_integer, between_integers, integer_weights
from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.graph import walk
from onnxsqueeze.runtime import ort
from tests import models

GRIDS = "float xs = {0.03}, uint8 xz = {128}, float ys = {0.03}, uint8 yz = {128}"
STATIC = f"""
g (float[2,16] x) => (float[2,16] y) <{GRIDS}, float[16,16] w, float[16] b> {{
  q = QuantizeLinear (x, xs, xz)
  d = DequantizeLinear (q, xs, xz)
  h = PRODUCT
  r = QuantizeLinear (h, ys, yz)
  y = DequantizeLinear (r, ys, yz)
}}"""
BEHIND = """
g (float[2,16] x) => (float[2,16] y) <int8[16,16] w, float s = {0.01}> {
  d = DequantizeLinear (w, s)
  h = MatMul (x, d)
  y = Relu (h)
}"""
STORED = """
g (float[2,16] x) => (float[2,16] y) <int8[16,16] w, float s = {0.01}> {
  c = Cast <to = 1> (w)
  d = Mul (c, s)
  y = MatMul (x, d)
}"""
DYNAMIC = """
g (float[2,16] x) => (float[2,16] y) <uint8[16,16] w, uint8 z = {128}, float s = {0.01}> {
  q, a, b = DynamicQuantizeLinear (x)
  i = MatMulInteger (q, w, b, z)
  c = Cast <to = 1> (i)
  t = Mul (a, s)
  y = Mul (c, t)
}"""


def _names(text, tmp_path):
    found = already_integer(models.read(text, tmp_path, opset=21, ir_version=10))
    return [node.op_type for node in found.nodes], found.weights, found.weight_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BEHIND, (["MatMul"], ("w",), 256)),
        (DYNAMIC, (["MatMulInteger"], ("w",), 256)),
        (STATIC.replace("PRODUCT", "Gemm (d, w, b)"), (["Gemm"], (), 0)),
        (STORED, ([], (), 0)),  # floats when the model has loaded
        (models.RESIDUAL, ([], (), 0)),
    ],
)
def test_nodes_and_weights_among_integers_are_found(text, expected, tmp_path):
    assert _names(text, tmp_path) == expected


def test_kernels_of_other_domains_count_and_their_scales_are_no_weights(tmp_path):
    text = """
    g (float[2,64] x) => (float[2,512] y) <uint8[512,2,16] w, float[1024] s> {
      y = com.microsoft.MatMulNBits <K = 64, N = 512, bits = 4, block_size = 32> (x, w, s)
    }"""
    proto = models.build(text, opset=21, ir_version=10)
    entry = proto.opset_import.add()
    entry.domain, entry.version = "com.microsoft", 1
    model = models.io.read(models.saved(proto, tmp_path))

    assert already_integer(model).weights == ("w",)
    found, others = weights(model)
    assert not found
    assert [other.reason for other in others] == [
        "MatMulNBits reads it for integers that were decided elsewhere"
    ]


def test_note_tells_numbers_and_is_empty_for_float_models(tmp_path):
    note = already_integer(models.read(BEHIND, tmp_path, opset=21, ir_version=10)).note
    assert note == (
        "already in integers: 1 node(s) kept as they are, with 1 integer weight(s) of 256 bytes"
    )
    assert already_integer(models.read(models.RESIDUAL, tmp_path)).note == ""


def test_settings_and_zero_points_are_no_weights(tmp_path):
    text = """
    g (float[2,100] x) => (float[2,100] y) <float[100] s, int8[100] z, int8[2,4] few> {
      q = QuantizeLinear <axis = 1> (x, s, z)
      y = DequantizeLinear <axis = 1> (q, s, z)
    }"""
    assert integer_weights(models.read(text, tmp_path, opset=21, ir_version=10)) == []


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        ("Gemm (d, w, b)", True),
        ("Gemm (x, w, b)", False),  # reads floats
    ],
)
def test_float_weights_between_integers_are_those_that_the_engine_quantizes(
    product, expected, tmp_path
):
    model = models.read(STATIC.replace("PRODUCT", product), tmp_path, opset=21, ir_version=10)
    node = next(node for node in model.graph if node.op_type == "Gemm")
    assert between_integers(node) is expected

    basic = ort.optimized(model, "basic")
    gemm = next(node for node in walk.nodes(basic) if node.op_type == "Gemm")
    made = gemm.inputs[1].producer()
    assert (made is not None and made.op_type == "DequantizeLinear") is expected


def test_clamp_between_a_product_and_its_grid_changes_nothing(tmp_path):
    text = STATIC.replace("h = PRODUCT", "g = Gemm (d, w, b)\n  h = Relu (g)")
    model = models.read(text, tmp_path, opset=21, ir_version=10)
    node = next(node for node in model.graph if node.op_type == "Gemm")
    assert between_integers(node)


def test_float_weight_between_integers_is_no_weight(tmp_path):
    text = STATIC.replace("PRODUCT", "Gemm (d, w, b)")
    found, others = weights(models.read(text, tmp_path, opset=21, ir_version=10))
    assert not found
    assert [other.reason for other in others] == [
        "ONNX Runtime quantizes a float weight between integers by itself"
    ]
