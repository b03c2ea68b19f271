"""One name, one thing: across the main graph and its subgraphs."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import walk
from onnxsqueeze.passes.change import done, listed


def unique_names(model: ir.Model) -> tuple[Change, ...]:
    """Give values and nodes of all graphs names of their own.

    Inputs and outputs of the main graph keep theirs; after them the first that has a name keeps
    it, outer graphs before inner ones.
    """
    ports = [*model.graph.inputs, *model.graph.outputs]
    renamed = _rename(list(dict.fromkeys([*ports, *_values(model)])))
    renamed += _rename(list(walk.nodes(model)))
    if not renamed:
        return ()
    return (
        done(
            "unique names", listed(renamed), f"{len(renamed)} without a name of its own", "renamed"
        ),
    )


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in walk.graphs(model):
        yield from graph.inputs
        if isinstance(graph, ir.Graph):
            yield from list(graph.initializers.values())
        for node in graph:
            yield from node.outputs


def _is_absent(item: ir.Value | ir.Node) -> bool:
    """An output that is left out has no name, and must have none."""
    is_value = isinstance(item, ir.Value) and not item.name
    return is_value and not (item.uses() or item.is_graph_output())  # type: ignore[union-attr]


def _rename(items: list[ir.Value] | list[ir.Node]) -> list[str]:
    wanted = {item.name for item in items if item.name}
    taken: set[str] = set()
    renamed = []
    for item in items:
        if _is_absent(item):
            continue
        if item.name and item.name not in taken:
            taken.add(item.name)
            continue
        base = item.name or (item.op_type if isinstance(item, ir.Node) else "value")
        name = walk.unused_name(base, taken | wanted)
        taken.add(name)
        renamed.append(f"{item.name!r} -> {name!r}")
        item.name = name
    return renamed
