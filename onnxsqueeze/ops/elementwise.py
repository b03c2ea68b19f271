"""Operators that work entry by entry, with broadcasting: Relu, Clip, Sigmoid, Add, Where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxsqueeze.ops.axes import broadcast, known, setting, varies
from onnxsqueeze.ops.dims import of_first
from onnxsqueeze.ops.row import (
    Grid,
    Row,
    Scaling,
    Shapes,
    Tie,
    homogeneous,
    inputs,
    outputs,
)


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


_Scaled = Callable[[ir.Node], Scaling | None]


def _clip_scaling(node: ir.Node) -> Scaling | None:
    """Only a lower limit of zero, as in Relu, goes with every scale."""
    low, high = setting(node, "min"), setting(node, "max")
    is_relu = low is not None and np.ravel(low).tolist() == [0.0]
    is_open = not varies(node, "max") and (high is None or bool(np.isposinf(high).all()))
    return Scaling(together=(next(iter(inputs(node))),)) if is_relu and is_open else None


def _all_scaling(node: ir.Node) -> Scaling:
    return Scaling(together=tuple(inputs(node)))


def _product_scaling(_: ir.Node) -> Scaling:
    return Scaling(one_of=("A", "B"))


def _entrywise(since: int, *op_types: str, scaling: _Scaled | None = None) -> tuple[Row, ...]:
    return tuple(
        Row(op_type, since=since, ties=elementwise_ties, scaling=scaling) for op_type in op_types
    )


def _gridded(
    since: int, reads: tuple[str, ...], *op_types: str, scaling: _Scaled | None = None
) -> tuple[Row, ...]:
    return tuple(
        Row(
            op_type,
            since=since,
            ties=elementwise_ties,
            grid=lambda _: Grid(reads, "own"),
            scaling=scaling,
        )
        for op_type in op_types
    )


ROWS = (
    # Before opset 7 these were broadcast by an attribute.
    *_gridded(7, ("A", "B"), "Add", scaling=homogeneous("A", "B")),
    *_gridded(7, ("A", "B"), "Mul", scaling=_product_scaling),
    *_gridded(6, ("X",), "LeakyRelu", scaling=homogeneous("X")),
    *_gridded(6, ("X",), "Sigmoid"),
    *_gridded(9, ("X", "Y"), "Where"),
    Row("Relu", since=6, ties=_first_ties, clamps=True, scaling=homogeneous("X")),
    Row("Clip", since=6, ties=_first_ties, clamps=True, scaling=_clip_scaling),
    *_entrywise(7, "Sub", scaling=homogeneous("A", "B")),
    *_entrywise(7, "Div", scaling=homogeneous("A")),
    *_entrywise(7, "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"),
    *_entrywise(12, "GreaterOrEqual", "LessOrEqual"),
    *_entrywise(10, "Mod", "IsInf", "ThresholdedRelu"),
    *_entrywise(11, "BitShift", "Round"),
    *_entrywise(18, "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "Mish"),
    *_entrywise(8, "Sum", "Mean", "Max", "Min", scaling=_all_scaling),
    *_entrywise(6, "Abs", "Neg", scaling=homogeneous("X")),
    *_entrywise(6, "Ceil", "Elu", "Exp", "Floor", "HardSigmoid", "Log"),
    *_entrywise(6, "Reciprocal", "Selu", "Sqrt", "Tanh"),
    Row("Cast", since=6, ties=elementwise_ties, sources=of_first),
    *_entrywise(7, "PRelu", scaling=homogeneous("X")),
    *_entrywise(7, "Acos", "Asin", "Atan", "Cos", "Sin", "Tan"),
    Row("Identity", ties=elementwise_ties, sources=of_first, scaling=homogeneous("input")),
    *_entrywise(1, "Not", "Softplus", "Softsign"),
    *_entrywise(9, "Acosh", "Asinh", "Atanh", "Cosh", "Sinh", "Erf", "IsNaN", "Shrink", "Sign"),
    *_entrywise(12, "Celu"),
    *_entrywise(14, "HardSwish"),
    *_entrywise(20, "Gelu"),
    *_entrywise(24, "Swish"),
    Row("CastLike", since=15, ties=_first_ties),
    Row("Dropout", since=7, ties=_first_ties, scaling=homogeneous("data")),
)
