"""The operator table: the only place that knows an operator by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from onnxsqueeze.ops import (
    control,
    elementwise,
    half,
    linear,
    movement,
    norm,
    pool,
    quantize,
    recurrent,
    reduce,
    torch_control,
    torch_entrywise,
    torch_linear,
    torch_movement,
    torch_norm,
    torch_pool,
    torch_quantize,
    torch_recurrent,
    torch_reduce,
    torch_resize,
)
from onnxsqueeze.ops.row import IntegerRole, Kernel, Row, Shapes, Sources, opset

_KERNELS: Mapping[str, Kernel] = {
    **torch_control.KERNELS,
    **torch_entrywise.KERNELS,
    **torch_linear.KERNELS,
    **torch_movement.KERNELS,
    **torch_norm.KERNELS,
    **torch_pool.KERNELS,
    **torch_quantize.KERNELS,
    **torch_recurrent.KERNELS,
    **torch_reduce.KERNELS,
    **torch_resize.KERNELS,
}


def _with_kernel(row: Row) -> Row:
    if row.domain:
        return row
    return replace(row, kernel=_KERNELS.get(row.op_type), wide=row.op_type in half.WIDE)


OP_TABLE: tuple[Row, ...] = tuple(
    map(
        _with_kernel,
        (
            *linear.ROWS,
            *norm.ROWS,
            *elementwise.ROWS,
            *pool.ROWS,
            *reduce.ROWS,
            *movement.ROWS,
            *recurrent.ROWS,
            *quantize.ROWS,
            *control.ROWS,
        ),
    )
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


def sources(value: ir.Value, shapes: Shapes) -> Sources | None:
    """Return what each entry of a computed shape is, or None where not even their count is known.

    Entries that are computed in a way that the table does not follow (products, say) are None.

    Args:
        value: The shape.
        shapes: Measured shapes by tensor, of which the ranks count.
    """
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None and not value.is_graph_input():
        return tuple(int(one) for one in tensor.numpy().reshape(-1))
    node = value.producer()
    row = None if node is None else row_of(node)
    if node is None or row is None or row.sources is None:
        return None
    return row.sources(node, shapes, lambda one: sources(one, shapes))


def integer_role(node: ir.Node) -> IntegerRole | None:
    """Return whether the node makes integers, computes on them or makes floats of them, or None.

    >>> node = ir.node("MatMulNBits", [ir.Value(name="x")], domain="com.microsoft")
    >>> integer_role(node)
    'compute'
    """
    row = row_of(node)
    return quantize.contrib_role(node) if row is None else row.integers
