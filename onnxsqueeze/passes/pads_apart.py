"""Pads of convolutions over columns, written as nodes before them, where that is faster."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.ops import integer_role, row_of
from onnxsqueeze.ops.row import inputs, opset, ports
from onnxsqueeze.passes.change import done

STEP = "pads apart"
SINCE = 18
"""Opset from which Pad has the input ``axes``; with it, ONNX Runtime fuses no Pad into a Conv."""


def pads_apart(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Change, ...]:
    """Write, in place, what some convolutions pad themselves as Pad nodes; outputs stay exact.

    Left alone: what the operator table does not name as faster, integer kernels, tensors whose
    shape was not measured, and models of an opset below 18, whose Pads ONNX Runtime would fuse.

    Args:
        model: The model.
        shapes: Measured shapes, by tensor.
    """
    changes, taken = [], walk.value_names(model)
    for node in list(model.graph):
        row = row_of(node)
        if row is None or row.pads_apart is None or opset(node) < SINCE:
            continue
        x = next(iter(inputs(node).values()))
        source = x.producer()
        if source is not None and integer_role(source) is not None:
            continue
        pads = row.pads_apart(node, {name: _shape(v, shapes) for name, v in ports(node).items()})
        if pads is not None:
            _put_before(node, x, pads, taken)
            changes.append(done(STEP, str(node.name), f"pads {list(pads)}", "Pad before it"))
    return tuple(changes)


def _shape(value: ir.Value, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the measured shape, or that of a weight that is computed from what is stored."""
    known = shapes.get(value.name or "")
    if known is None and value.shape is not None and value.shape.is_static():
        return tuple(value.shape.numpy())
    return known or ()


def _put_before(node: ir.Node, x: ir.Value, pads: tuple[int, int], taken: set[str]) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)  # a node of the main graph
    name = walk.unused_name(f"{x.name}.padded", taken)
    dtype = None if x.dtype is None else ir.TensorType(x.dtype)
    y = ir.Value(name=name, type=dtype)
    amounts = edit.add_initializer(graph, f"{name}.pads", np.array(pads, np.int64), taken)
    axes = edit.add_initializer(graph, f"{name}.axes", np.array([2], np.int64), taken)
    graph.insert_before(node, ir.node("Pad", [x, amounts, None, axes], outputs=[y], name=name))
    node.replace_input_with(list(node.inputs).index(x), y)
    for name in ("auto_pad", "pads"):  # without them it pads nothing
        node.attributes.pop(name, None)
