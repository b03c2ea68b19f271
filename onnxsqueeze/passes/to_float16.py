"""Let a model compute in float16, between float32 edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult
from onnx_ir.passes.common import ShapeInferencePass

from onnxsqueeze.graph import edit, walk
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.half import HalfPorts, half_ports

LARGEST = 65504.0
"""The largest value of float16."""


class ToFloat16Pass(InPlacePass):
    """Let nodes read and make float16, with Casts where float32 begins and ends.

    Inputs and outputs of the model keep their names and types. A Cast is made once per tensor,
    whatever reads it. Written here, and not taken from a library, since those convert a protobuf
    (2 GB, every weight in memory) by lists of operator names of their own.

    Scope: nodes of the main graph that the operator table knows, whose schema allows float16, and
    whose float inputs are all float32.

    Leaves alone: operators that the table calls ``wide``; nodes with subgraphs and all inside;
    nodes of constants alone, which are folded when the model loads (but a DequantizeLinear that
    reads initializers, which a kernel may take in, writes float16); nodes with a weight beyond
    65504; and those that ``keep`` names.
    """

    def __init__(self, keep: Callable[[str], bool] | None = None) -> None:
        super().__init__()
        self._keep = keep or (lambda _: False)

    def call(self, model: ir.Model) -> PassResult:
        """Convert what can be; see the class."""
        work = _Work(model, _types(model), walk.value_names(model))
        chosen = self._chosen(work)
        if not chosen:
            return PassResult(model, modified=False)
        for node, ports in chosen.items():
            _read_half(work, node, ports, chosen)
        for node, ports in chosen.items():
            _make_half(work, node, ports, chosen)
        edit.remove_unused(model)
        return PassResult(model, modified=True)

    def _chosen(self, work: _Work) -> dict[ir.Node, HalfPorts]:
        constants: set[ir.Node] = set()
        found: dict[ir.Node, HalfPorts] = {}
        for node in work.model.graph:
            values = [value for value in node.inputs if value is not None]
            row = row_of(node)
            if values and all(_is_constant(value, constants) for value in values):
                constants.add(node)
                # What makes floats of stored integers may be part of the kernel that reads them.
                if row is None or row.integers != "leave" or any(map(_is_made, values)):
                    continue
            names = (node.name or "", *(str(value.name) for value in values))
            if row is None or row.wide or any(walk.subgraphs(node)) or any(map(self._keep, names)):
                continue
            ports = half_ports(node)
            if ports is not None and _fits(node, ports, work.types):
                found[node] = ports
        return found


@dataclass
class _Work:
    """A model under conversion, its element types by name, and the Casts that are there."""

    model: ir.Model
    types: dict[str, ir.DataType]
    taken: set[str]
    narrow: dict[ir.Value, ir.Value] = field(default_factory=dict)


def _types(model: ir.Model) -> dict[str, ir.DataType]:
    """Return the element type of every value that has one, by name, as ONNX infers them."""
    inferred = ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(
        model.clone()
    ).model
    found: dict[str, ir.DataType] = {}
    for value in (*inferred.graph.inputs, *inferred.graph.initializers.values()):
        if value.dtype is not None:
            found[str(value.name)] = value.dtype
    for node in inferred.graph:
        found.update({str(out.name): out.dtype for out in node.outputs if out.dtype is not None})
    return found


def _is_made(value: ir.Value) -> bool:
    return value.producer() is not None


def _is_constant(value: ir.Value, constants: set[ir.Node]) -> bool:
    producer = value.producer()
    if producer is not None:
        return producer in constants
    return value.is_initializer() and not value.is_graph_input()


def _is_half_input(node: ir.Node, ports: HalfPorts, index: int) -> bool:
    """Return whether an input is to be float16: an empty constant stands for one left out."""
    value = node.inputs[index]
    is_empty = value is not None and value.const_value is not None and not value.const_value.size
    return value is not None and not is_empty and ports.inputs[index]


def _fits(node: ir.Node, ports: HalfPorts, types: dict[str, ir.DataType]) -> bool:
    reads = [
        node.inputs[index]
        for index in range(len(node.inputs))
        if _is_half_input(node, ports, index)
    ]
    if not reads or any(
        types.get(str(value.name)) != ir.DataType.FLOAT for value in reads if value
    ):
        return False
    return all(map(_is_in_range, reads))


def _is_in_range(value: ir.Value | None) -> bool:
    if value is None or value.const_value is None or not value.const_value.size:
        return True
    return bool(np.abs(value.const_value.numpy()).max() <= LARGEST)


def _read_half(
    work: _Work, node: ir.Node, ports: HalfPorts, chosen: dict[ir.Node, HalfPorts]
) -> None:
    """Let the node's float inputs come in float16: from its maker, converted, or by a Cast."""
    for index, value in enumerate(node.inputs):
        if value is None or not _is_half_input(node, ports, index):
            continue
        producer = value.producer()
        if producer is not None and _makes_half(producer, value, chosen):
            continue
        if value not in work.narrow:
            work.narrow[value] = _narrowed(work, value)
        node.replace_input_with(index, work.narrow[value])


def _makes_half(node: ir.Node, value: ir.Value, chosen: dict[ir.Node, HalfPorts]) -> bool:
    return node in chosen and chosen[node].outputs[value.index() or 0]


def _narrowed(work: _Work, value: ir.Value) -> ir.Value:
    graph = work.model.graph
    if value.is_initializer() and not value.is_graph_input() and value.const_value is not None:
        # Of two versions the unused one goes in the end, so that most weights are kept once.
        values = value.const_value.numpy().astype(np.float16)
        return edit.add_initializer(graph, f"{value.name}.half", values, work.taken)
    output = edit.shaped_like(value, f"{value.name}.half", ir.DataType.FLOAT16, work.taken)
    edit.insert_behind(graph, value, _cast(value, output, ir.DataType.FLOAT16))
    return output


def _make_half(
    work: _Work, node: ir.Node, ports: HalfPorts, chosen: dict[ir.Node, HalfPorts]
) -> None:
    """Let the node's float outputs be float16; what needs float32 reads a Cast behind them."""
    for value, is_half in zip(node.outputs, ports.outputs, strict=True):
        if not is_half or not value.name:
            continue
        value.type = ir.TensorType(ir.DataType.FLOAT16)
        others = [use for use in value.uses() if not _reads_half(use.node, use.idx, chosen)]
        if not others and not value.is_graph_output():
            continue
        wide = edit.shaped_like(value, f"{value.name}.wide", ir.DataType.FLOAT, work.taken)
        work.model.graph.insert_after(node, _cast(value, wide, ir.DataType.FLOAT))
        for use in others:
            use.node.replace_input_with(use.idx, wide)
        for place, output in enumerate(work.model.graph.outputs):
            if output is value:
                work.model.graph.outputs[place] = wide
                wide.name, value.name = (
                    value.name,
                    walk.unused_name(f"{value.name}.half", work.taken),
                )


def _reads_half(node: ir.Node, index: int, chosen: dict[ir.Node, HalfPorts]) -> bool:
    return node in chosen and _is_half_input(node, chosen[node], index)


def _cast(value: ir.Value, output: ir.Value, dtype: ir.DataType) -> ir.Node:
    return ir.node("Cast", [value], {"to": int(dtype)}, outputs=[output], name=str(output.name))
