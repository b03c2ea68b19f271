"""Changes to a graph that keep it whole: names stay unique and nodes stay in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnxsqueeze.graph import walk


def add_initializer(
    graph: ir.Graph,
    name: str,
    values: npt.NDArray[Any] | ir.TensorProtocol,
    taken: set[str] | None = None,
) -> ir.Value:
    """Return a new initializer of the graph.

    Args:
        graph: The graph that owns it.
        name: Its name; if ``taken`` is given, made unique against it, and added to it.
        values: What it holds.
        taken: Names that are in use anywhere in the model; see ``walk.value_names``.

    Raises:
        ValueError: If the graph has another initializer of that name and ``taken`` is not given.
    """
    if taken is not None:
        name = walk.unused_name(name, taken)
    tensor = ir.tensor(values, name=name) if isinstance(values, np.ndarray) else values
    value = ir.Value(
        name=name,
        shape=ir.Shape(tensor.shape.numpy()),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    if name in graph.initializers:
        raise ValueError(f"the graph has an initializer {name!r} already")
    graph.register_initializer(value)
    return value


def set_value(value: ir.Value, values: npt.NDArray[Any]) -> None:
    """Give an initializer new contents; its name stays, its shape and type follow."""
    value.const_value = ir.tensor(values, name=value.name)
    value.shape = ir.Shape(values.shape)
    # Not value.dtype: clones of a model share the type, and setting its element type changes all.
    value.type = ir.TensorType(value.const_value.dtype)


def read_through(graph: ir.Graph, initializer: ir.Value, nodes: Sequence[ir.Node]) -> ir.Value:
    """Let every reader of an initializer read the last node's output; return that output.

    The nodes must belong to no graph yet; those among them that read the initializer go on reading
    it. They are placed in ``graph`` before its first reader, also where that is inside a subgraph.

    Raises:
        ValueError: If there are no nodes, or nothing reads the initializer.
    """
    if not nodes:
        raise ValueError("there are no nodes to read through")
    chain = set(nodes)
    uses = [use for use in initializer.uses() if use.node not in chain]
    if not uses:
        raise ValueError(f"nothing reads initializer {initializer.name!r}")
    holders = {_holder(use.node, graph) for use in uses}
    first = next(node for node in graph if node in holders)
    graph.insert_before(first, nodes)
    output = nodes[-1].outputs[0]
    for use in uses:
        use.node.replace_input_with(use.idx, output)
    return output


def insert_behind(graph: ir.Graph, value: ir.Value, nodes: ir.Node | Sequence[ir.Node]) -> None:
    """Place nodes behind the one that makes a value, or first where the value is given."""
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    elif len(graph):
        graph.insert_before(graph[0], nodes)
    else:
        graph.extend([nodes] if isinstance(nodes, ir.Node) else nodes)


def shaped_like(value: ir.Value, name: str, dtype: ir.DataType, taken: set[str]) -> ir.Value:
    """Return a new value of another type in the shape of one; its name is unique in ``taken``."""
    return ir.Value(
        name=walk.unused_name(name, taken),
        type=ir.TensorType(dtype),
        shape=None if value.shape is None else value.shape.copy(),
    )


def _holder(node: ir.Node, graph: ir.Graph) -> ir.Node:
    """The node of ``graph`` that is, or contains, the node."""
    if node.graph is graph:
        return node
    return next(
        outer
        for outer in graph
        if any(
            node.graph is inner for held in walk.subgraphs(outer) for inner in walk.nested(held)
        )
    )


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Let everything that reads ``old``, graph outputs included, read ``new``.

    Where ``old`` is a graph output its name, type and shape go to ``new``: outputs stay declared.
    """
    if old.is_graph_output():
        name, old.name = old.name, f"{old.name}.replaced"
        new.name, new.type, new.shape = name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def remove_node(node: ir.Node) -> None:
    """Take a node that nothing reads any more out of its graph."""
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def remove_unused(model: ir.Model) -> tuple[str, ...]:
    """Remove nodes and initializers that no output needs; return what was removed, by name.

    Graph inputs and outputs stay.
    """
    before = dict(_items(model))
    RemoveUnusedNodesPass()(model)
    for graph in list(walk.graphs(model)):
        if isinstance(graph, ir.Graph):
            for name, value in list(graph.initializers.items()):
                is_port = value.is_graph_output() or value.is_graph_input()
                if not value.uses() and not is_port:
                    del graph.initializers[name]
    after = dict(_items(model))
    return tuple(name for item, name in before.items() if item not in after)


def _items(model: ir.Model) -> Iterable[tuple[ir.Node | ir.Value, str]]:
    for node in walk.nodes(model):
        yield node, f"{node.op_type} {node.name!r}"
    for _, value in walk.initializers(model):
        yield value, f"initializer {value.name!r}"


def set_opsets(model: ir.Model) -> None:
    """Copy the opset imports inward: in a file a subgraph has none, and its nodes need theirs."""
    imports = model.graph.opset_imports
    if "ai.onnx" in imports:
        imports.setdefault("", imports["ai.onnx"])
        del imports["ai.onnx"]
    for function in model.functions.values():
        for domain, version in imports.items():
            function.opset_imports.setdefault(domain, version)
    outers: list[walk.GraphLike] = [model.graph, *model.functions.values()]
    for outer in outers:
        for graph in walk.nested(outer):
            if graph is not outer:
                graph.opset_imports.clear()
                graph.opset_imports.update(outer.opset_imports)
