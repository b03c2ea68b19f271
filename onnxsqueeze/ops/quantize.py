"""QuantizeLinear, DequantizeLinear, and the operators of models that are integer already."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from onnxsqueeze.ops.axes import count, known, passing
from onnxsqueeze.ops.row import IntegerRole, Port, Row, Shapes, Tie, attribute, inputs, same


def _grid_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (...) -> y (...); scales per entry of ``axis`` go with it, scales per block freeze all."""
    if attribute(node, "block_size") or not known(shapes, *inputs(node), "y"):
        return []
    ties = passing(shapes, "x", "y")
    vectors = [name for name in list(inputs(node))[1:] if len(shapes[name]) == 1]
    if not vectors:
        return ties
    axis = attribute(node, "axis") % len(shapes["x"])
    dim = shapes["x"][axis]
    return ties + [
        same(Port(name, 0), Port("y", axis), dim) for name in vectors if shapes[name] == (dim,)
    ]


def _conv_macs(_: ir.Node, shapes: Shapes) -> int:
    return count(shapes["y"]) * count(shapes["w"][1:]) if known(shapes, "y", "w") else 0


def _integer_macs(_: ir.Node, shapes: Shapes) -> int:
    return count(shapes["Y"]) * shapes["A"][-1] if known(shapes, "Y", "A") else 0


def _matmul_macs(_: ir.Node, shapes: Shapes) -> int:
    return count(shapes["y"]) * shapes["a"][-1] if known(shapes, "y", "a") else 0


ROWS = (
    Row("QuantizeLinear", since=13, ties=_grid_ties, integers="enter"),
    Row("DequantizeLinear", since=13, ties=_grid_ties, integers="leave"),
    # The scale comes from all entries.
    Row("DynamicQuantizeLinear", since=11, integers="enter"),
    Row("QLinearConv", since=10, macs=_conv_macs, integers="compute"),
    Row("ConvInteger", since=10, macs=_conv_macs, integers="compute"),
    Row("QLinearMatMul", since=10, macs=_matmul_macs, integers="compute"),
    Row("MatMulInteger", since=10, macs=_integer_macs, integers="compute"),
)

CONTRIB_ROLES: Mapping[str, IntegerRole] = {
    "QuantizeLinear": "enter",
    "DequantizeLinear": "leave",
    **dict.fromkeys(
        (
            "DynamicQuantizeLSTM",
            "DynamicQuantizeMatMul",
            "GatherBlockQuantized",
            "MatMulBnb4",
            "MatMulInteger16",
            "MatMulIntegerToFloat",
            "MatMulNBits",
            "QAttention",
            "QEmbedLayerNormalization",
            "QGemm",
            "QLinearAdd",
            "QLinearAveragePool",
            "QLinearConcat",
            "QLinearConv",
            "QLinearGlobalAveragePool",
            "QLinearLeakyRelu",
            "QLinearMul",
            "QLinearReduceMean",
            "QLinearSigmoid",
            "QLinearSoftmax",
            "QLinearWhere",
            "QMoE",
            "QOrderedMatMul",
        ),
        "compute",
    ),
}
"""ONNX Runtime's own operators in models that were quantized before, by name.

Source:
    ONNX Runtime 1.32, docs/ContribOperators.md.
"""


def contrib_role(node: ir.Node) -> IntegerRole | None:
    """Return what an operator of ONNX Runtime's own is to integers; it has no row."""
    return CONTRIB_ROLES.get(node.op_type) if node.domain == "com.microsoft" else None
