"""Shape arithmetic: which dims of which tensors a computed shape is made of."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.ops.axes import constant
from onnxsqueeze.ops.row import Shapes, attribute, inputs


@dataclass(frozen=True)
class Dim:
    """The length of one axis of a tensor."""

    tensor: str
    axis: int


Source = int | Dim | None
"""A number, the dim that it is, or None where neither is known."""


def sources(value: ir.Value, shapes: Shapes) -> tuple[Source, ...] | None:
    """Return what each entry of a computed shape is, or None where not even their count is known.

    Followed are constants, Shape, and Gather, Slice, Squeeze, Unsqueeze, Concat, Cast and Identity
    of such. Entries that are computed in another way (products, say) are None.

    Args:
        value: The shape.
        shapes: Measured shapes by tensor, of which the ranks count.
    """
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None and not value.is_graph_input():
        return tuple(int(one) for one in tensor.numpy().reshape(-1))
    node = value.producer()
    if node is None or node.domain:
        return None
    made = _MAKERS.get(node.op_type)
    return None if made is None else made(node, shapes)


def _shape(node: ir.Node, shapes: Shapes) -> tuple[Source, ...] | None:
    data = inputs(node)["data"]
    if str(data.name) not in shapes:
        return None
    every = range(len(shapes[str(data.name)]))
    start, end = attribute(node, "start") or 0, attribute(node, "end")
    return tuple(Dim(str(data.name), axis) for axis in every[slice(start, end)])


def _gather(node: ir.Node, shapes: Shapes) -> tuple[Source, ...] | None:
    data, index = sources(inputs(node)["data"], shapes), constant(node, "indices")
    if data is None or index is None or attribute(node, "axis"):
        return None
    return tuple(data[one] for one in index.reshape(-1).tolist())


def _slice(node: ir.Node, shapes: Shapes) -> tuple[Source, ...] | None:
    data = sources(inputs(node)["data"], shapes)
    starts, ends = constant(node, "starts"), constant(node, "ends")
    steps = constant(node, "steps") if "steps" in inputs(node) else None
    if data is None or starts is None or ends is None or (steps is not None and steps.max() != 1):
        return None
    return data[int(starts.reshape(-1)[0]) : int(ends.reshape(-1)[0])]


def _first(node: ir.Node, shapes: Shapes) -> tuple[Source, ...] | None:
    first = node.inputs[0]
    return None if first is None else sources(first, shapes)


def _concat(node: ir.Node, shapes: Shapes) -> tuple[Source, ...] | None:
    parts = [None if value is None else sources(value, shapes) for value in node.inputs]
    # An input that is not understood counts as one entry only if it is known to be one.
    found: list[Source] = []
    for part, value in zip(parts, node.inputs, strict=True):
        if part is not None:
            found += part
        elif value is not None and shapes.get(str(value.name)) == (1,):
            found.append(None)
        else:
            return None
    return tuple(found)


_MAKERS = {
    "Shape": _shape,
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _first,
    "Unsqueeze": _first,
    "Cast": _first,
    "Identity": _first,
    "Concat": _concat,
}
