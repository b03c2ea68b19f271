"""Initializers with the same contents become one, in the innermost graph that all readers see."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import walk
from onnxsqueeze.graph.mapped import release
from onnxsqueeze.ops import integer_role
from onnxsqueeze.passes.change import done

SMALLEST_BYTES = 1024
"""Smaller duplicates stay apart: an initializer with two readers ties what they may be changed to,
so that a shape that two nodes share could not be refitted for one of them."""


def merge_duplicates(model: ir.Model) -> tuple[Change, ...]:
    """Keep one of several equal initializers (same type, shape and bytes); all readers read it.

    The kept one is in the main graph if its twins are in different graphs: a subgraph reads outer
    values by name. Left alone: inputs and outputs of graphs, what nodes among integers read, small
    ones, and those that hold one value throughout, like biases of zero, equal by accident.
    """
    groups: dict[tuple[object, ...], list[tuple[ir.Graph, ir.Value]]] = defaultdict(list)
    by_size: dict[tuple[object, ...], list[tuple[ir.Graph, ir.Value]]] = defaultdict(list)
    for graph, value in walk.initializers(model):
        tensor = value.const_value
        if tensor is not None and tensor.dtype != ir.DataType.STRING and _may_move(value):
            by_size[tensor.dtype, tuple(tensor.shape.numpy())].append((graph, value))
    for kind, members in by_size.items():
        if len(members) > 1:
            for graph, value in members:
                if not _is_uniform(value):
                    groups[(*kind, _digest(value))].append((graph, value))
                release(value.const_value)
    merged, saved = 0, 0
    for twins in groups.values():
        if len(twins) > 1:
            merged += len(twins) - 1
            saved += _merge(model.graph, twins)
    if not merged:
        return ()
    return (
        done(
            "merge duplicates",
            f"{merged} initializer(s)",
            f"{saved} bytes stored again",
            "read from one place",
        ),
    )


def _may_move(value: ir.Value) -> bool:
    assert value.const_value is not None
    if value.const_value.nbytes < SMALLEST_BYTES:
        return False
    if value.is_graph_input() or value.is_graph_output():
        return False
    # ONNX Runtime fuses a DequantizeLinear only if no other one reads the same initializers.
    return all(integer_role(node) is None for node in walk.readers(value))


def _is_uniform(value: ir.Value) -> bool:
    assert value.const_value is not None
    values = value.const_value.numpy()
    return bool((values == values.reshape(-1)[0]).all())


def _digest(value: ir.Value) -> bytes:
    assert value.const_value is not None
    return hashlib.sha256(value.const_value.tobytes()).digest()


def _merge(main: ir.Graph, twins: list[tuple[ir.Graph, ir.Value]]) -> int:
    """Return the bytes that are no longer stored."""
    home, kept = twins[0]
    if any(graph is not home for graph, _ in twins) and home is not main:
        home.initializers.pop(str(kept.name))
        kept.name = walk.unused_name(str(kept.name), set(main.initializers))
        main.register_initializer(kept)
    for graph, value in twins[1:]:
        value.replace_all_uses_with(kept)
        del graph.initializers[str(value.name)]
    assert kept.const_value is not None
    return int(kept.const_value.nbytes) * (len(twins) - 1)
