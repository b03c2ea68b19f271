"""The operator table: the only place that knows an operator by name."""

from __future__ import annotations

import onnx_ir as ir

from onnxsqueeze.ops import (
    control,
    elementwise,
    linear,
    movement,
    norm,
    pool,
    quantize,
    recurrent,
    reduce,
)
from onnxsqueeze.ops.row import IntegerRole, Row, opset

OP_TABLE: tuple[Row, ...] = (
    *linear.ROWS,
    *norm.ROWS,
    *elementwise.ROWS,
    *pool.ROWS,
    *reduce.ROWS,
    *movement.ROWS,
    *recurrent.ROWS,
    *quantize.ROWS,
    *control.ROWS,
)

_ROWS: dict[tuple[str, str], tuple[Row, ...]] = {
    key: tuple(
        sorted(
            (row for row in OP_TABLE if (row.domain, row.op_type) == key), key=lambda r: -r.since
        )
    )
    for key in {(row.domain, row.op_type) for row in OP_TABLE}
}


def row_of(node: ir.Node) -> Row | None:
    """Return the newest row not above the opset of the node's graph, or None without a row.

    No row means that nothing is known about the operator, so it and its tensors stay as they are.

    >>> node = ir.node("MatMul", [ir.Value(name="x"), ir.Value(name="w")])
    >>> row_of(node).op_type
    'MatMul'
    """
    version = opset(node)
    rows = _ROWS.get((node.domain, node.op_type), ())
    return next((row for row in rows if row.since <= version), None)


def integer_role(node: ir.Node) -> IntegerRole | None:
    """Return whether the node makes integers, computes on them or makes floats of them, or None.

    >>> node = ir.node("MatMulNBits", [ir.Value(name="x")], domain="com.microsoft")
    >>> integer_role(node)
    'compute'
    """
    row = row_of(node)
    return quantize.contrib_role(node) if row is None else row.integers
