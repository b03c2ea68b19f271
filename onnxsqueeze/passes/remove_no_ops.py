"""Nodes that hand on what they read are removed."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.passes import affine
from onnxsqueeze.passes.change import done, listed


def _casts_to_same(node: ir.Node) -> bool:
    """Types of inputs and initializers are facts; other declared types are only claims."""
    value = node.inputs[0]
    if value is None or not (value.is_graph_input() or value.is_initializer()):
        return False
    return value.dtype is not None and int(value.dtype) == node.attributes.get_int("to", 0)


def _is_off(node: ir.Node) -> bool:
    """A Dropout at inference: no training flag, and nobody reads the mask."""
    flag = node.inputs[2] if len(node.inputs) > 2 else None
    values = affine.constant(flag)
    is_training = flag is not None and (values is None or bool(values.any()))
    return not is_training and not any(
        output.uses() or output.is_graph_output() for output in node.outputs[1:]
    )


def _keeps_order(node: ir.Node) -> bool:
    perm = node.attributes.get_ints("perm", ())
    return bool(perm) and list(perm) == list(range(len(perm)))


def _reshapes_again(node: ir.Node) -> bool:
    """A second Reshape to the same constant shape; zeros would mean another input's dims."""
    before = None if node.inputs[0] is None else node.inputs[0].producer()
    rule = None if before is None else _NO_OPS.get(before.op_type)
    if before is None or rule is not _reshapes_again:
        return False
    first, second = affine.constant(before.inputs[1]), affine.constant(node.inputs[1])
    if first is None or second is None or first.shape != second.shape:
        return False
    return bool((first == second).all() and (second != 0).all())


# Operators that may do nothing, and when they do.
_NO_OPS: dict[str, Callable[[ir.Node], bool]] = {
    "Identity": lambda _: True,
    "Cast": _casts_to_same,
    "Concat": lambda node: len(node.inputs) == 1,
    "Dropout": _is_off,
    "Reshape": _reshapes_again,
    "Transpose": _keeps_order,
}


def remove_no_ops(model: ir.Model) -> tuple[Change, ...]:
    """Remove Identity, Cast to the same type, Dropout, Reshape to the shape before, and so on.

    Graph outputs keep their names. Left alone: a node between a graph's input, initializer, output
    or an outer value, and that graph's output, since both names must stay.
    """
    removed = []
    for node in list(walk.nodes(model)):
        is_no_op = _NO_OPS.get(node.op_type)
        if is_no_op is None or node.domain or not node.inputs or not is_no_op(node):
            continue
        source, output = node.inputs[0], node.outputs[0]
        if source is None or (output.is_graph_output() and _has_fixed_name(source, node)):
            continue
        edit.replace_value(output, source)
        edit.remove_node(node)
        removed.append(f"{node.op_type} {node.name!r}")
    if not removed:
        return ()
    return (done("remove no-ops", listed(removed), f"{len(removed)} node(s)", "removed"),)


def _has_fixed_name(value: ir.Value, node: ir.Node) -> bool:
    made_here = value.producer() is not None and value.producer().graph is node.graph  # type: ignore[union-attr]
    return not made_here or value.is_graph_output()
