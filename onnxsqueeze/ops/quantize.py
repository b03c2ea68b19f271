"""QuantizeLinear, DequantizeLinear, and the operators of models that are integer already."""

from __future__ import annotations

import onnx_ir as ir

from onnxsqueeze.ops.axes import count, known, passing
from onnxsqueeze.ops.row import Port, Row, Shapes, Tie, attribute, inputs, same


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
    Row("QuantizeLinear", since=13, ties=_grid_ties),
    Row("DequantizeLinear", since=13, ties=_grid_ties),
    Row("DynamicQuantizeLinear", since=11),  # the scale comes from all entries
    Row("QLinearConv", since=10, macs=_conv_macs),
    Row("ConvInteger", since=10, macs=_conv_macs),
    Row("QLinearMatMul", since=10, macs=_matmul_macs),
    Row("MatMulInteger", since=10, macs=_integer_macs),
)
