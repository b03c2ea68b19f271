"""A part of a model as a model of its own, so that a walk through it runs every node once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from onnxsqueeze.graph import walk


def frontier(model: ir.Model, position: int) -> tuple[str, ...]:
    """Return what the main graph's nodes from ``position`` on read of what comes before them.

    These are outputs of earlier nodes and inputs of the model, also where only a subgraph reads
    them; initializers are none of them.
    """
    nodes = list(model.graph)
    before = {out for node in nodes[:position] for out in node.outputs}
    before.update(value for value in model.graph.inputs if not value.is_initializer())
    found = dict.fromkeys(
        str(value.name) for node in nodes[position:] for value in _read(node) if value in before
    )
    return tuple(found)


def reached(model: ir.Model, starts: Iterable[ir.Node]) -> set[ir.Value]:
    """Return the values of the main graph that depend on one of the nodes."""
    found = {out for node in starts for out in node.outputs}
    for node in model.graph:
        if any(value in found for value in _read(node)):
            found.update(node.outputs)
    return found


def _read(node: ir.Node) -> list[ir.Value]:
    """Return what a node reads, its subgraphs included."""
    captured = [value for inner in walk.subgraphs(node) for value in walk.captures(inner)]
    return [*(value for value in node.inputs if value is not None), *captured]


def segment(
    model: ir.Model, inputs: Mapping[str, tuple[ir.DataType, int]], outputs: Sequence[str]
) -> ir.Model:
    """Return a copy of ``model`` that takes values of the main graph and goes on from there.

    Args:
        model: The model; it stays as it is.
        inputs: Type and rank of the values that the copy is fed with, by name.
        outputs: Names of values of the main graph, none of them among the inputs.

    Raises:
        KeyError: If the main graph has no value of one of the names.
    """
    copy = model.clone()
    graph = copy.graph
    values = {value.name: value for value in [*graph.inputs, *graph.initializers.values()]}
    values |= {out.name: out for node in graph for out in node.outputs}
    graph.outputs.clear()
    fed = []
    for name, (dtype, rank) in inputs.items():
        old = values[name]
        if not old.is_graph_input():
            old.name = walk.unused_name(f"{name}.before", set(filter(None, values)))
            fresh = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape([None] * rank))
            old.replace_all_uses_with(fresh)
            values[name] = fresh
        fed.append(values[name])
    graph.outputs.extend(values[name] for name in outputs)
    _keep_needed(graph)
    kept = [value for value in graph.inputs if value.is_initializer() and value not in fed]
    graph.inputs.clear()
    graph.inputs.extend([*fed, *kept])
    return copy


def _keep_needed(graph: ir.Graph) -> None:
    """Remove the nodes and initializers that no output depends on.

    The subgraphs of a node that was removed still count as readers of outer values, so what is
    unused cannot be told from ``uses``.
    """
    needed = set(graph.outputs)
    nodes = []
    for node in reversed(graph):
        if any(out in needed for out in node.outputs):
            needed.update(_read(node))
        else:
            nodes.append(node)
    graph.remove(nodes)
    for name, value in list(graph.initializers.items()):
        if value not in needed and not value.is_graph_input():
            del graph.initializers[name]
