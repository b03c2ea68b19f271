"""What a model is made of: parameters, bytes, operators and multiply-adds, and what they go to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.graph.walk import initializers, nodes
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import inputs, outputs

EMBEDDINGS = "embeddings"
OTHER = "biases and other constants"
STRUCTURE = "graph structure"


@dataclass(frozen=True)
class Work:
    """Multiply-adds of one run.

    Attributes:
        multiply_adds: By node name, for each node whose operator says how many it needs.
        by_operator: The same by operator, most first.
        uncounted: Nodes whose row counts multiply-adds but whose shapes were not measured.
    """

    multiply_adds: dict[str, int]
    by_operator: dict[str, int]
    uncounted: tuple[str, ...]

    @property
    def total(self) -> int | None:
        """Return all multiply-adds, or None where a node could not be counted."""
        return None if self.uncounted else sum(self.by_operator.values())


def operators(model: ir.Model) -> dict[str, int]:
    """Return how many nodes there are of each operator, most first, subgraphs and functions too.

    Operators outside of ai.onnx carry their domain: ``com.microsoft.FusedConv``.
    """
    return dict(Counter(_operator(node) for node in nodes(model)).most_common())


def parameters(model: ir.Model) -> int:
    """Return the number of values in the model's initializers and Constant nodes.

    A weight that is computed from stored tensors alone, such as one that is kept as packed codes
    and scales, counts as what the operator reads: storing it smaller takes no parameter away.
    """
    computed: dict[ir.Value, int] = {}
    parts: set[ir.Value] = set()
    for node in nodes(model):
        row = row_of(node)
        if row is None or row.weights is None:
            continue
        ports = inputs(node)
        for value in [ports.get(port.name) for port in row.weights(node)]:
            if value is None or value.is_initializer() or not _is_static(value.shape):
                continue
            sources = _constant_sources(value)
            if sources and value not in sources:
                assert value.shape is not None  # it is static
                computed[value] = math.prod(value.shape.numpy())
                parts |= sources
    stored = sum(tensor.size for value, tensor in tensors(model) if value not in parts)
    return stored + sum(computed.values())


def _is_static(shape: ir.Shape | None) -> bool:
    return shape is not None and shape.is_static()


def tensors(model: ir.Model) -> list[tuple[ir.Value, ir.TensorProtocol]]:
    """Return every stored tensor with the value it is read through.

    That value is the initializer itself, or the first output of the node (a Constant, for one)
    that holds the tensor as an attribute.
    """
    found = [
        (value, value.const_value)
        for _, value in initializers(model)
        if value.const_value is not None
    ]
    for node in nodes(model):
        for attribute in node.attributes.values():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.TENSOR:
                found.append((node.outputs[0], attribute.as_tensor()))
            elif attribute.type == ir.AttributeType.TENSORS:
                found.extend((node.outputs[0], tensor) for tensor in attribute.as_tensors())
    return found


def bytes_by_dtype(model: ir.Model) -> dict[str, int]:
    """Return the bytes of all stored tensors by element type, most first."""
    counted: Counter[str] = Counter()
    for _, tensor in tensors(model):
        counted[tensor.dtype.name.lower()] += tensor.nbytes
    return dict(counted.most_common())


def bytes_by_cause(model: ir.Model, size_bytes: int) -> dict[str, int]:
    """Return what the bytes of the model's files go to; the entries add up to ``size_bytes``.

    A stored tensor counts for the operator that reads it as a weight, also through nodes that
    compute from stored tensors alone (a weight stored as integers and made float when the model
    loads). Tables that are gathered from are ``embeddings``; what no operator reads as a weight is
    ``biases and other constants``; the rest of the file is ``graph structure``.

    Args:
        model: The model.
        size_bytes: Size of its file and external data together.

    Returns:
        Bytes by cause, most first, ``graph structure`` last. Structure is at least 0: a file may
        be smaller than its tensors where external data is shared.
    """
    causes = weight_causes(model)
    counted: Counter[str] = Counter()
    for value, tensor in tensors(model):
        counted[causes.get(value, OTHER)] += tensor.nbytes
    structure = max(size_bytes - counted.total(), 0)
    return {**dict(counted.most_common()), STRUCTURE: structure}


def weight_causes(model: ir.Model) -> dict[ir.Value, str]:
    """Return, for each stored tensor that is read as a weight, what its bytes are counted for.

    The first reader in graph order names the cause: ``Conv weights``, or ``embeddings``.
    """
    causes: dict[ir.Value, str] = {}
    for node in nodes(model):
        row = row_of(node)
        if row is None or row.weights is None:
            continue
        ports = inputs(node)
        roles: dict[str, str] = {port.name: port.role for port in row.weights(node)}
        if row.macs is not None:
            # A row may need the rank of its weight, which a computed value need not declare.
            undeclared = (name for name, value in ports.items() if _is_undeclared(value))
            roles = {**dict.fromkeys(undeclared, "linear"), **roles}
        for name, role in roles.items():
            cause = EMBEDDINGS if role == "lookup" else f"{_operator(node)} weights"
            for source in _constant_sources(ports.get(name)):
                causes.setdefault(source, cause)
    return causes


def multiply_adds(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> Work:
    """Return the multiply-adds of one run, from measured shapes.

    Args:
        model: The model.
        shapes: Shape of each value by name, as seen in one run; initializers need none.

    Returns:
        The work; operators whose row says nothing about multiply-adds count as none.
    """
    found: dict[str, int] = {}
    by_operator: Counter[str] = Counter()
    uncounted = []
    for node in nodes(model):
        row = row_of(node)
        if row is None or row.macs is None:
            continue
        ports = inputs(node) | outputs(node)
        measured = {name: _shape(value, shapes) for name, value in ports.items()}
        known = {name: shape for name, shape in measured.items() if shape is not None}
        if len(known) < len(measured):
            uncounted.append(node.name or "")
            continue
        count = row.macs(node, known)
        found[node.name or ""] = found.get(node.name or "", 0) + count
        by_operator[_operator(node)] += count
    return Work(found, dict(by_operator.most_common()), tuple(uncounted))


def _is_undeclared(value: ir.Value) -> bool:
    return value.shape is None and value.const_value is None


def _operator(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _shape(value: ir.Value, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    measured = shapes.get(value.name or "")
    if measured is None and value.const_value is not None:
        return tuple(value.const_value.shape.numpy())
    return measured


def _constant_sources(value: ir.Value | None) -> set[ir.Value]:
    """Return the stored tensors that ``value`` is computed from; none if anything else is."""
    sources: set[ir.Value] = set()
    seen: set[ir.Value] = set()
    todo = [value]
    while todo:
        current = todo.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        node = current.producer()
        if current.is_initializer():
            sources.add(current)
        elif node is None:
            return set()
        elif node.inputs:
            todo.extend(node.inputs)
        else:
            sources.add(current)
    return sources
