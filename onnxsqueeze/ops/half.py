"""Which nodes may compute in float16, and which of their ports are float16 then."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.ops.row import TypedPort, opset, typed_ports

WIDE = frozenset(
    {
        "CumSum",
        "Exp",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "LogSoftmax",
        "Pow",
        "QuantizeLinear",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Softmax",
        "Softplus",
    }
)
"""Operators that stay in float32 when the rest of a model does not.

They sum many values, raise them to powers or divide by small ones: float16 ends at 65504 and has
11 bits. QuantizeLinear stays with the grid that it was given.

Source:
    PyTorch, "CUDA Ops that can autocast to float32" (docs, torch.amp), as far as ONNX has them.
"""

_FLOAT, _HALF = "tensor(float)", "tensor(float16)"


@dataclass(frozen=True)
class HalfPorts:
    """Which inputs and outputs of a node are float16 when it computes in it, by position."""

    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]


def half_ports(node: ir.Node) -> HalfPorts | None:
    """Return the ports that are float16 when a node computes in float16, or None if it cannot.

    By the operator's schema: a type parameter of an output that is one of an input, too, follows
    that input. Where an output's type is told by an attribute, or fixed, or where no output is
    float, the node stays as it is.

    Example:
        >>> x, w = ir.Value(name="x"), ir.Value(name="w")
        >>> half_ports(ir.node("MatMul", [x, w]))
        HalfPorts(inputs=(True, True), outputs=(True,))
        >>> half_ports(ir.node("Cast", [x], {"to": 1})) is None
        True
    """
    sides = typed_ports(node.op_type, node.domain, opset(node))
    if sides is None:
        return None
    read = _at(sides[0], len(node.inputs))
    made = _at(sides[1], len(node.outputs))
    given = {port.parameter for port in read}
    can = {port.parameter for port in (*read, *made) if {_FLOAT, _HALF} <= port.types}
    tied = [port.parameter in can and port.parameter in given for port in made]
    may_be_float = [_FLOAT in port.types for port in made]
    if not any(tied) or tied != may_be_float:
        return None
    return HalfPorts(tuple(port.parameter in can for port in read), tuple(tied))


def _at(side: tuple[TypedPort, ...], count: int) -> tuple[TypedPort, ...]:
    """Return a port for each position; the last one may stand for many."""
    return tuple(side[min(index, len(side) - 1)] for index in range(count)) if side else ()
