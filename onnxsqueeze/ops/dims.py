"""Shape arithmetic: which dims of which tensors a computed shape is made of."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxsqueeze.ops.axes import constant
from onnxsqueeze.ops.row import Dim, Shapes, Source, Sources, attribute, inputs

Of = Callable[[ir.Value], Sources | None]


def of_shape(node: ir.Node, shapes: Shapes, _: Of) -> Sources | None:
    """Return the dims that Shape gives."""
    data = inputs(node)["data"]
    if str(data.name) not in shapes:
        return None
    every = range(len(shapes[str(data.name)]))
    start, end = attribute(node, "start") or 0, attribute(node, "end")
    return tuple(Dim(str(data.name), axis) for axis in every[slice(start, end)])


def of_gather(node: ir.Node, _: Shapes, of: Of) -> Sources | None:
    """Return the entries that Gather picks."""
    data, index = of(inputs(node)["data"]), constant(node, "indices")
    if data is None or index is None or attribute(node, "axis"):
        return None
    return tuple(data[one] for one in index.reshape(-1).tolist())


def of_slice(node: ir.Node, _: Shapes, of: Of) -> Sources | None:
    """Return the entries that Slice leaves."""
    data = of(inputs(node)["data"])
    starts, ends = constant(node, "starts"), constant(node, "ends")
    steps = constant(node, "steps") if "steps" in inputs(node) else None
    if data is None or starts is None or ends is None or (steps is not None and steps.max() != 1):
        return None
    return data[int(starts.reshape(-1)[0]) : int(ends.reshape(-1)[0])]


def of_first(node: ir.Node, _: Shapes, of: Of) -> Sources | None:
    """Return the entries of the first input, of an operator that passes them on."""
    first = node.inputs[0]
    return None if first is None else of(first)


def of_concat(node: ir.Node, shapes: Shapes, of: Of) -> Sources | None:
    """Return the entries of all inputs; one that is not understood counts if it is one entry."""
    found: list[Source] = []
    for value in node.inputs:
        part = None if value is None else of(value)
        if part is not None:
            found += part
        elif value is not None and shapes.get(str(value.name)) == (1,):
            found.append(None)
        else:
            return None
    return tuple(found)
