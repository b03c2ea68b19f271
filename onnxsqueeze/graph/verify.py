"""The promises that every graph must keep between two changes, checked."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from onnxsqueeze.errors import VerificationError
from onnxsqueeze.graph import walk
from onnxsqueeze.graph.io import LARGEST_FILE_BYTES


def verify(model: ir.Model) -> None:
    """Check a model as a whole: its structure, and that the ONNX checker agrees.

    The checker is left out with over 1.9 GB in memory, where it would need a file.

    Raises:
        VerificationError: With the first place where a promise does not hold.
    """
    verify_structure(model)
    tensors = [value.const_value for _, value in walk.initializers(model)]
    inside = sum(
        t.nbytes for t in tensors if t is not None and not isinstance(t, ir.ExternalTensor)
    )
    if inside > LARGEST_FILE_BYTES:
        return
    try:
        onnx.checker.check_model(_declared(ir.to_proto(model)))
    except onnx.checker.ValidationError as error:
        raise VerificationError(f"the ONNX checker refuses the graph: {error}") from error


def verify_structure(model: ir.Model) -> None:
    """Check names, order and weights.

    Names are unique over all graphs, every value that is read is an input, an initializer or made
    by an earlier node of the same or an outer graph, and every initializer has contents of its
    declared shape and type.

    Raises:
        VerificationError: With the first place where one of these does not hold.
    """
    outers: list[walk.GraphLike] = [model.graph, *model.functions.values()]
    for outer in outers:
        _check_names(outer)
        _check_order(outer, frozenset(), f"graph {outer.name!r}")
    for graph, value in walk.initializers(model):
        _check_contents(value, f"graph {graph.name!r}")


def _declared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every input and output given some shape, and external weights as inputs.

    The checker insists on a shape, though it does not use it, and ONNX Runtime runs models
    without. It looks for external data in the working folder.
    """
    for tensor in list(proto.graph.initializer):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            proto.graph.initializer.remove(tensor)
            made = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            if all(value.name != tensor.name for value in proto.graph.input):
                proto.graph.input.append(made)
    for value in (*proto.graph.input, *proto.graph.output):
        if not value.HasField("type"):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return proto


def _values(graph: walk.GraphLike) -> Iterator[ir.Value]:
    yield from graph.inputs
    if isinstance(graph, ir.Graph):
        yield from (value for value in graph.initializers.values() if not value.is_graph_input())
    for node in graph:
        yield from node.outputs


def _check_names(outer: walk.GraphLike) -> None:
    owner: dict[str, walk.GraphLike] = {}
    for graph in walk.nested(outer):
        for value in _values(graph):
            if not value.name:
                if value.uses() or value.is_graph_output():
                    raise VerificationError(f"a value of graph {graph.name!r} has no name")
                continue
            if value.name in owner:
                raise VerificationError(
                    f"value name {value.name!r} is used twice\n"
                    f"  In graphs {owner[value.name].name!r} and {graph.name!r}."
                )
            owner[value.name] = graph


def _check_order(graph: walk.GraphLike, outer: frozenset[ir.Value], place: str) -> None:
    known = set(outer)
    known.update(graph.inputs)
    if isinstance(graph, ir.Graph):
        known.update(graph.initializers.values())
    for node in graph:
        label = f"node {node.name!r} ({node.op_type})"
        for value in node.inputs:
            if value is not None and value not in known:
                raise VerificationError(
                    f"{label} reads {value.name!r}, which nothing before it produces\n"
                    f"  In {place}."
                )
        for inner in walk.subgraphs(node):
            _check_order(inner, frozenset(known), f"{place}, {label}")
        known.update(node.outputs)
    for value in graph.outputs:
        if value not in known:
            raise VerificationError(f"output {value.name!r} is produced by nothing\n  In {place}.")


def _check_contents(value: ir.Value, place: str) -> None:
    tensor = value.const_value
    if tensor is None:
        raise VerificationError(f"initializer {value.name!r} has no contents\n  In {place}.")
    if value.dtype is not None and value.dtype != tensor.dtype:
        raise VerificationError(
            f"initializer {value.name!r} is declared {value.dtype.name} and holds "
            f"{tensor.dtype.name}\n  In {place}."
        )
    declared = None if value.shape is None else [d for d in value.shape if isinstance(d, int)]
    shape = list(tensor.shape.numpy())
    if value.shape is not None and declared != shape:
        raise VerificationError(
            f"initializer {value.name!r} is declared {value.shape} and holds {shape}\n"
            f"  In {place}."
        )
