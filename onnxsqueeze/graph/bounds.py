"""How much a small ONNX file may ask for: names, and what its functions grow to when inlined."""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import onnx

from onnxsqueeze.errors import ModelError
from onnxsqueeze.graph.protos import graph_protos, subgraph_protos

LONGEST_NAME = 10_000
"""Characters; the longest names that exporters make are a few hundred."""
MOST_NODES = 1_000_000
"""Nodes after every function is inlined; the largest models in use have some ten thousand."""

_Key = tuple[str, str, str]


def check_bounds(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse names that no program handles, and functions that call themselves or never end.

    Raises:
        ModelError: For a name over ``LONGEST_NAME`` or with a NUL in it, a function that needs
            itself, or functions that grow to more than ``MOST_NODES`` nodes.
    """
    graphs = list(graph_protos(proto.graph))
    functions = [node for function in proto.functions for node in _all(function.node)]
    for name in _names(graphs, functions):
        _check_name(name, path)
    _check_functions(proto, path)


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraph_protos(node):
            for inner in graph_protos(graph):
                yield from inner.node


def _names(graphs: list[onnx.GraphProto], inner: list[onnx.NodeProto]) -> Iterator[str]:
    for graph in graphs:
        yield from (tensor.name for tensor in graph.initializer)
        yield from (tensor.values.name for tensor in graph.sparse_initializer)
        yield from (value.name for value in (*graph.input, *graph.output))
    for node in chain(inner, *(graph.node for graph in graphs)):
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)


def _check_name(name: str | bytes, path: Path) -> None:
    if isinstance(name, bytes):  # so protobuf gives what is no text
        raise ModelError(
            f"the name {name[:40]!r} is not UTF-8\n  In {path}.\n"
            "  The file may be damaged. Copy or export it again."
        )
    if len(name) > LONGEST_NAME:
        raise ModelError(
            f"a name of {len(name)} characters, and at most {LONGEST_NAME} are read: "
            f"{name[:40]!r}…\n  In {path}.\n  Export the model again, with shorter names."
        )
    if "\0" in name:
        raise ModelError(
            f"the name {name!r} holds a NUL, where a name ends for ONNX Runtime\n"
            f"  In {path}.\n  Export the model again; no exporter writes such names."
        )


def _key(function: onnx.FunctionProto | onnx.NodeProto, name: str) -> _Key:
    return function.domain, name, function.overload


def _check_functions(proto: onnx.ModelProto, path: Path) -> None:
    calls = {
        _key(function, function.name): Counter(
            _key(node, node.op_type) for node in _all(function.node)
        )
        for function in proto.functions
    }
    needs = {key: [one for one in called if one in calls] for key, called in calls.items()}
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        name = error.args[1][0][1]
        raise ModelError(
            f"function {name!r} needs itself, so that it can never be done\n"
            f"  In {path}.\n  Export the model again; ONNX allows no such functions."
        ) from error
    nodes: dict[_Key, int] = {}
    for key in order:  # what a function calls comes before it
        nodes[key] = sum(nodes.get(one, 1) * count for one, count in calls[key].items())
    graph = (node for one in graph_protos(proto.graph) for node in one.node)
    total = sum(nodes.get(_key(node, node.op_type), 1) for node in graph)
    if total > MOST_NODES:
        raise ModelError(
            f"the functions of the model grow to {total} nodes, and {MOST_NODES} are the most\n"
            f"  In {path}.\n  A few functions that call each other are enough for that. Export "
            "the model without functions."
        )
