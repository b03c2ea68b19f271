"""What a model is made of: graphs, nodes, initializers, readers; subgraphs and functions too."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

GraphLike = ir.Graph | ir.Function


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs that the node itself holds (the bodies of an If, Loop or Scan)."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def nested(graph: GraphLike) -> Iterator[GraphLike]:
    """Yield the graph and every graph inside it, outer before inner."""
    yield graph
    for node in graph:
        for inner in subgraphs(node):
            yield from nested(inner)


def graphs(model: ir.Model) -> Iterator[GraphLike]:
    """Yield the main graph, the graphs inside it, then every function with those inside it."""
    yield from nested(model.graph)
    for function in model.functions.values():
        yield from nested(function)


def nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Yield every node of every graph and function."""
    for graph in graphs(model):
        yield from graph


def initializers(model: ir.Model) -> Iterator[tuple[ir.Graph, ir.Value]]:
    """Yield every initializer with the graph that owns it; functions have none."""
    for graph in graphs(model):
        if isinstance(graph, ir.Graph):
            for value in graph.initializers.values():
                yield graph, value


def readers(value: ir.Value) -> tuple[ir.Node, ...]:
    """Return the nodes that read the value, each once, also from inside subgraphs.

    A graph output is no node; see ``value.is_graph_output()``.
    """
    return tuple(dict.fromkeys(use.node for use in value.uses()))


def captures(graph: ir.Graph) -> tuple[ir.Value, ...]:
    """Return the outer values that the graph, or a graph inside it, reads (implicit inputs)."""
    inside = set(nested(graph))
    found: dict[ir.Value, None] = {}
    for inner in inside:
        read = [value for node in inner for value in node.inputs if value is not None]
        for value in [*read, *inner.outputs]:
            if value.graph is not None and value.graph not in inside:
                found[value] = None
    return tuple(found)


def value_names(model: ir.Model) -> set[str]:
    """Return the name of every value of every graph and function."""
    names: set[str] = set()
    for graph in graphs(model):
        values = [*graph.inputs, *(output for node in graph for output in node.outputs)]
        if isinstance(graph, ir.Graph):
            values.extend(graph.initializers.values())
        names.update(value.name for value in values if value.name)
    return names


def unused_name(wanted: str, taken: set[str]) -> str:
    """Return ``wanted``, or ``wanted.2``, ``wanted.3``, ... if it is taken; ``taken`` gets it.

    Example:
        >>> taken = {"w", "w.2"}
        >>> unused_name("w", taken)
        'w.3'
        >>> unused_name("x", taken)
        'x'
    """
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}.{number}"
    taken.add(name)
    return name


def node_count(model: ir.Model) -> int:
    """Return the number of nodes in all graphs and functions."""
    return sum(1 for _ in nodes(model))
