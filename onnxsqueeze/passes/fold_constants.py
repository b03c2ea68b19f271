"""Nodes that read only constants are run once, now, where that stores no more bytes."""

from __future__ import annotations

import onnx_ir as ir

from onnxsqueeze.errors import ModelError
from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.ops import integer_role
from onnxsqueeze.passes.change import done, left_alone, listed
from onnxsqueeze.runtime import ort

STEP = "fold constants"
_NODE_BYTES = 64  # what a node costs in the file, about: names, operator, attributes
# Operators that must stay although their inputs are constant: they draw random numbers.
_STAY = dict.fromkeys(
    ["Bernoulli", "Dropout", "EyeLike", "Multinomial", "RandomNormalLike", "RandomUniformLike"],
    True)  # fmt: skip
_STORED_BITS = 8  # integers of at most so many bits are stored weights, but for a few
_FEW = 64


def fold_constants(model: ir.Model, most_bytes: int | None = None) -> tuple[Change, ...]:
    """Replace nodes on initializers by their results, computed by ONNX Runtime.

    Left alone: what would store more bytes than it frees (a Cast from float16, an Expand, a result
    of a weight that others read too), stored integer weights, random numbers, other domains, nodes
    with subgraphs, and outputs of a graph; with ``most_bytes``, nodes that read more.
    """
    folded, changes = [], []
    for graph in list(walk.graphs(model)):
        if not isinstance(graph, ir.Graph):
            continue
        for node in list(graph):
            if not _may_fold(node):
                continue
            results = _too_large(node, most_bytes) or _results(node)
            if isinstance(results, str):
                changes.append(left_alone(STEP, str(node.outputs[0].name), node.op_type, results))
                continue
            folded.append(f"{node.op_type} {node.name!r}")
            _replace(graph, node, results)
    if folded:
        changes.append(done(STEP, listed(folded), f"{len(folded)} node(s)", "their results"))
    return tuple(changes)


def _too_large(node: ir.Node, most_bytes: int | None) -> str:
    read = sum(
        v.const_value.nbytes for v in node.inputs if v is not None and v.const_value is not None
    )
    if most_bytes is None or read <= most_bytes:
        return ""
    return f"it reads {read} bytes, and its result would be held in memory"


def _may_fold(node: ir.Node) -> bool:
    present = [value for value in node.inputs if value is not None]
    if node.domain or not present or _STAY.get(node.op_type) or list(walk.subgraphs(node)):
        return False
    if integer_role(node) is not None:  # the compressed form of a weight
        return False
    if any(output.is_graph_output() for output in node.outputs):
        return False
    return all(v.is_initializer() and not v.is_graph_input() and _is_plain(v) for v in present)


def _is_plain(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return False
    is_few = tensor.size <= _FEW or tensor.dtype == ir.DataType.BOOL
    return is_few or tensor.dtype.bitwidth > _STORED_BITS


def _results(node: ir.Node) -> list[ir.TensorProtocol | None] | str:
    """The contents of the node's outputs, or why they are not stored."""
    try:
        arrays = ort.run(ort.session(_alone(node), optimization="off"), {})
    except ModelError as error:
        return str(error).splitlines()[0]
    used = [output.name if output.uses() else None for output in node.outputs]
    stored = sum(arrays[name].nbytes for name in used if name)
    freed = sum(
        value.const_value.nbytes
        for value in dict.fromkeys(node.inputs)
        if value is not None and value.const_value is not None and len(walk.readers(value)) == 1
    )
    if stored > freed + _NODE_BYTES:
        return f"its result takes {stored} bytes and frees {freed}"
    return [ir.tensor(arrays[name], name=name) if name else None for name in used]


def _alone(node: ir.Node) -> ir.Model:
    """A model of the node and its initializers."""
    copies = {
        value: ir.Value(
            name=value.name, shape=value.shape, type=value.type, const_value=value.const_value
        )
        for value in node.inputs
        if value is not None
    }
    copy = ir.Node(
        node.domain, node.op_type, [None if v is None else copies[v] for v in node.inputs],
        list(node.attributes.values()),
        outputs=[ir.Value(name=output.name) for output in node.outputs],
    )  # fmt: skip
    outputs = [
        value
        for value, original in zip(copy.outputs, node.outputs, strict=True)
        if original.uses()
    ]
    imports = {} if node.graph is None else dict(node.graph.opset_imports)
    graph = ir.Graph(
        [], outputs, nodes=[copy], initializers=list(copies.values()), opset_imports=imports
    )
    return ir.Model(graph, ir_version=10)


def _replace(graph: ir.Graph, node: ir.Node, results: list[ir.TensorProtocol | None]) -> None:
    outputs = list(node.outputs)
    values = []
    for output, tensor in zip(outputs, results, strict=True):
        if tensor is not None:
            name, output.name = str(output.name), None
            value = edit.add_initializer(graph, name, tensor)
            output.replace_all_uses_with(value)
            values.append(value)
    inputs = dict.fromkeys(node.inputs)
    graph.remove(node, safe=True)
    for read in inputs:
        if read is not None and not read.uses() and not read.is_graph_output():
            owner = read.graph
            if isinstance(owner, ir.Graph):
                del owner.initializers[str(read.name)]
