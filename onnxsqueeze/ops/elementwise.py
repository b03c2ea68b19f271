"""Operators that work entry by entry, with broadcasting: Relu, Clip, Sigmoid, Add, Where."""

from __future__ import annotations

import onnx_ir as ir

from onnxsqueeze.ops.axes import broadcast, known
from onnxsqueeze.ops.dims import of_first
from onnxsqueeze.ops.row import Grid, Row, Shapes, Tie, inputs, outputs


def elementwise_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """Every input is broadcast to every output."""
    if not known(shapes, *outputs(node)):
        return []
    sources = list(inputs(node))
    return [tie for output in outputs(node) for tie in broadcast(shapes, sources, output)]


def _first_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """The first input is what all outputs are made of; others are limits or lend their type."""
    if not known(shapes, *outputs(node)):
        return []
    source = list(inputs(node))[:1]
    return [tie for output in outputs(node) for tie in broadcast(shapes, source, output)]


def _entrywise(since: int, *op_types: str) -> tuple[Row, ...]:
    return tuple(Row(op_type, since=since, ties=elementwise_ties) for op_type in op_types)


def _gridded(since: int, reads: tuple[str, ...], *op_types: str) -> tuple[Row, ...]:
    return tuple(
        Row(
            op_type,
            since=since,
            ties=elementwise_ties,
            grid=lambda _: Grid(reads, "own"),
        )
        for op_type in op_types
    )


ROWS = (
    # Before opset 7 these were broadcast by an attribute.
    *_gridded(7, ("A", "B"), "Add", "Mul"),
    *_gridded(6, ("X",), "LeakyRelu", "Sigmoid"),
    *_gridded(9, ("X", "Y"), "Where"),
    Row("Relu", since=6, ties=_first_ties, clamps=True),
    Row("Clip", since=6, ties=_first_ties, clamps=True),
    *_entrywise(7, "Sub", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"),
    *_entrywise(12, "GreaterOrEqual", "LessOrEqual"),
    *_entrywise(10, "Mod", "IsInf", "ThresholdedRelu"),
    *_entrywise(11, "BitShift", "Round"),
    *_entrywise(18, "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "Mish"),
    *_entrywise(8, "Sum", "Mean", "Max", "Min"),
    *_entrywise(6, "Abs", "Ceil", "Elu", "Exp", "Floor", "HardSigmoid", "Log", "Neg"),
    *_entrywise(6, "Reciprocal", "Selu", "Sqrt", "Tanh"),
    Row("Cast", since=6, ties=elementwise_ties, sources=of_first),
    *_entrywise(7, "PRelu", "Acos", "Asin", "Atan", "Cos", "Sin", "Tan"),
    Row("Identity", ties=elementwise_ties, sources=of_first),
    *_entrywise(1, "Not", "Softplus", "Softsign"),
    *_entrywise(9, "Acosh", "Asinh", "Atanh", "Cosh", "Sinh", "Erf", "IsNaN", "Shrink", "Sign"),
    *_entrywise(12, "Celu"),
    *_entrywise(14, "HardSwish"),
    *_entrywise(20, "Gelu"),
    *_entrywise(24, "Swish"),
    Row("CastLike", since=15, ties=_first_ties),
    Row("Dropout", since=7, ties=_first_ties),
)
