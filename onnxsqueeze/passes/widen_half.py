"""Nodes in half precision that are to be integer kernels first compute in float32."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from onnxsqueeze.analysis.grids import Candidate, integer_candidates
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.plan.types import INTEGER_FORMS, Plan


def widen_half(model: ir.Model, plan: Plan) -> Plan:
    """Put the planned float16 nodes between Casts, and return the plan in the new names.

    ONNX Runtime's integer kernels write float32, and its CPU provider computes float16 in float32
    anyway, between Casts of its own. Planned nodes that follow each other pass float32 on, so
    that no Cast parts them. What a planned node makes keeps its name; what others make, and is
    cast for one, has a new name, by which the returned plan calls its grid. Inputs and outputs of
    the model stay as they are.

    Scope: nodes of the main graph whose weight is planned as ``qdq`` or ``dynamic`` and holds
    float16, with the addition and the clamp behind them. Does nothing to others.
    """
    planned = [one for one in integer_candidates(model) if _is_half(model, plan, one)]
    if not planned:
        return plan
    made_by = {str(out.name): node for node in model.graph for out in node.outputs}
    island: dict[ir.Node, None] = {}
    for one in planned:
        names = (one.y, one.bias_reader, one.closes)
        island.update({made_by[name]: None for name in names if name is not None})
    taken = walk.value_names(model)
    renamed = _widen_inputs(model.graph, island, {one.weight for one in planned}, taken)
    renamed |= _narrow_outputs(model.graph, island, taken)
    grids = {renamed.get(name, name): grid for name, grid in plan.activations.items()}
    return plan.model_copy(update={"activations": grids})


def _is_half(model: ir.Model, plan: Plan, one: Candidate) -> bool:
    choice = plan.weights.get(one.weight)
    if one.reason or choice is None or choice.form not in INTEGER_FORMS:
        return False
    return model.graph.initializers[one.weight].dtype == ir.DataType.FLOAT16


def _widen_inputs(
    graph: ir.Graph, island: Iterable[ir.Node], weights: set[str], taken: set[str]
) -> dict[str, str]:
    """Let the nodes read float32; return the new names of the tensors that are cast for them."""
    inside = set(island)
    wide: dict[ir.Value, ir.Value] = {}
    renamed: dict[str, str] = {}
    for node in island:
        for index, value in enumerate(node.inputs):
            if value is None or value.producer() in inside:
                continue
            if value.name in weights and value.is_initializer():
                _set_wide(value)  # all of its readers are planned
                continue
            if value not in wide:
                wide[value] = _wide(graph, value, taken)
                renamed[str(value.name)] = str(wide[value].name)
            node.replace_input_with(index, wide[value])
    return renamed


def _set_wide(value: ir.Value) -> None:
    assert value.const_value is not None  # candidates have initializers with values
    if value.dtype == ir.DataType.FLOAT16:
        edit.set_value(value, value.const_value.numpy().astype(np.float32))


def _wide(graph: ir.Graph, value: ir.Value, taken: set[str]) -> ir.Value:
    if value.is_initializer() and value.const_value is not None:
        values = value.const_value.numpy().astype(np.float32)
        return edit.add_initializer(graph, f"{value.name}.wide", values, taken)
    cast, output = _cast(value, f"{value.name}.wide", ir.DataType.FLOAT, taken)
    edit.insert_behind(graph, value, cast)
    return output


def _narrow_outputs(graph: ir.Graph, island: Iterable[ir.Node], taken: set[str]) -> dict[str, str]:
    """Let all other readers read float16; return the new names of what was an output."""
    inside = set(island)
    renamed: dict[str, str] = {}
    for node in island:
        value = node.outputs[0]
        value.type = ir.TensorType(ir.DataType.FLOAT)
        uses = [use for use in value.uses() if use.node not in inside]
        if not uses and not value.is_graph_output():
            continue
        cast, half = _cast(value, f"{value.name}.half", ir.DataType.FLOAT16, taken)
        graph.insert_after(node, cast)
        for use in uses:
            use.node.replace_input_with(use.idx, half)
        for place, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[place] = half
                name = walk.unused_name(f"{value.name}.wide", taken)
                renamed[str(value.name)] = name
                value.name, half.name = name, value.name
    return renamed


def _cast(
    value: ir.Value, name: str, dtype: ir.DataType, taken: set[str]
) -> tuple[ir.Node, ir.Value]:
    output = edit.shaped_like(value, name, dtype, taken)
    node = ir.node("Cast", [value], {"to": int(dtype)}, outputs=[output], name=str(output.name))
    return node, output
