"""The parts of an ONNX file as protobuf holds it: graphs in graphs, and every tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx


def subgraph_protos(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that the node itself holds."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def graph_protos(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraph_protos(node):
            yield from graph_protos(inner)


def tensor_protos(
    nodes: Iterable[onnx.NodeProto], initializers: Iterable[onnx.TensorProto] = ()
) -> Iterator[onnx.TensorProto]:
    """Yield the initializers, then every tensor of the nodes' attributes and subgraphs."""
    yield from initializers
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for graph in subgraph_protos(node):
            yield from tensor_protos(graph.node, graph.initializer)


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every dense tensor of the model, functions included."""
    yield from tensor_protos(proto.graph.node, proto.graph.initializer)
    for function in proto.functions:
        yield from tensor_protos(function.node)


def external_location(tensor: onnx.TensorProto) -> str | None:
    """Return the file name that the tensor gives for its data, or None if it holds it itself."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return None
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
