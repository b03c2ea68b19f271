"""Every weight becomes a plain initializer of the graph that reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import walk
from onnxsqueeze.passes.change import done, left_alone, listed

# The one operator whose node is a constant, and its attributes that hold numbers; sparse_value and
# value_string are missing on purpose. The operator table describes computations; this is none.
_LIFTED = {"Constant": ("value", "value_float", "value_floats", "value_int", "value_ints")}
_DTYPE: dict[str, Any] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def inline_functions(model: ir.Model) -> tuple[Change, ...]:
    """Replace each call of a model-local function by the function's body."""
    count = len(model.functions)
    if not count:
        return ()
    names = ", ".join(sorted(function.name for function in model.functions.values()))
    InlinePass()(model)
    model.functions.clear()
    return (
        done("inline functions", names, f"{count} local function(s)", "their nodes, in the graph"),
    )


def fix_defaults(model: ir.Model) -> tuple[Change, ...]:
    """Turn inputs with a default value into plain initializers, which can no longer be fed.

    ONNX before IR version 4 listed every weight as an input; a later file that does so asks for
    weights that a caller may replace, and a weight that may be replaced cannot be compressed.
    """
    weights = model.graph.initializers
    fixed = [str(value.name) for value in model.graph.inputs if value.name in weights]
    if not fixed:
        return ()
    kept = [value for value in model.graph.inputs if value.name not in weights]
    model.graph.inputs.clear()
    model.graph.inputs.extend(kept)
    model.ir_version = max(model.ir_version, 4)  # before it, weights had to be inputs
    what = f"{len(fixed)} input(s) with a default"
    return (done("fix defaults", listed(fixed), what, "constant: they can no longer be fed"),)


def lift_constants(model: ir.Model) -> tuple[Change, ...]:
    """Turn Constant nodes into initializers of the graph they are in, with the same names.

    Left alone: outputs of a graph, since ONNX Runtime wants them from a node; strings; sparse
    values.
    """
    lifted, changes = 0, []
    for graph in list(walk.graphs(model)):
        if not isinstance(graph, ir.Graph):
            continue
        for node in list(graph):
            keys = _LIFTED.get(node.op_type)
            if keys is None or node.domain:
                continue
            tensor = _tensor(node, keys)
            output = node.outputs[0]
            if tensor is None or output.is_graph_output():
                reason = (
                    "is an output of its graph" if tensor is not None else "is no dense number"
                )
                changes.append(
                    left_alone("lift constants", str(output.name), "Constant node", f"it {reason}")
                )
                continue
            value = ir.Value(
                name=output.name,
                shape=ir.Shape(tensor.shape.numpy()),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            output.replace_all_uses_with(value)
            graph.remove(node, safe=True)
            graph.register_initializer(value)
            lifted += 1
    if lifted:
        changes.append(
            done("lift constants", f"{lifted} value(s)", "Constant nodes", "initializers")
        )
    return tuple(changes)


def _tensor(node: ir.Node, keys: tuple[str, ...]) -> ir.TensorProtocol | None:
    name = str(node.outputs[0].name)
    for key in keys:
        attribute = node.attributes.get(key)
        if attribute is None or attribute.is_ref():
            continue
        if key != "value":
            return ir.tensor(np.asarray(attribute.value, _DTYPE[key]), name=name)
        tensor: ir.TensorProtocol = attribute.as_tensor()
        if tensor.dtype == ir.DataType.STRING:
            return None
        tensor.name = name
        return tensor
    return None
