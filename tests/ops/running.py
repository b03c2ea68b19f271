"""Run one node in ONNX Runtime as a model of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper

from onnxsqueeze.ops.row import inputs, outputs

Array = np.ndarray[Any, Any]
OPSET = 21


def make(
    op_type: str,
    arrays: Mapping[str, Array],
    *,
    results: int = 1,
    constant: tuple[str, ...] = (),
    version: int = OPSET,
    domain: str = "",
    **attributes: Any,
) -> ir.Model:
    """Make a model of one node; ``arrays`` are its inputs by schema name, "" where one is absent.

    Inputs that are named in ``constant`` become initializers, the others graph inputs.
    """
    schema = onnx.defs.get_schema(op_type, max_inclusive_version=version, domain=domain)
    names: list[str] = []
    for parameter in schema.inputs:
        entries = [name for name in arrays if name.split("[")[0] == parameter.name]
        names += entries or [""]
    while names and not names[-1]:
        names.pop()
    out = [f"out{k}" for k in range(results)]
    node = helper.make_node(op_type, names, out, name="node", domain=domain, **attributes)
    declared = {
        name: helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in arrays.items()
    }
    graph = helper.make_graph(
        [node],
        "one_node",
        [declared[name] for name in names if name and name not in constant],
        [onnx.ValueInfoProto(name=name) for name in out],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(arrays[n]), n) for n in constant],
    )
    imports = [helper.make_opsetid("", version)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    proto = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return ir.from_proto(proto)


def session(
    model: ir.Model, *, is_optimized: bool = False, optimized_path: str = ""
) -> ort.InferenceSession:
    """Make a session of the graph as written or, as always with a path, optimized by default."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL
    if is_optimized or optimized_path:
        options.graph_optimization_level = level.ORT_ENABLE_ALL
    if optimized_path:
        options.optimized_model_filepath = optimized_path
    proto = ir.to_proto(model)
    return ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: ir.Model, arrays: Mapping[str, Array]) -> list[Array]:
    """Return the outputs of a model whose graph inputs are found in ``arrays``."""
    feeds = {value.name: arrays[value.name] for value in model.graph.inputs}
    return session(model).run(None, feeds)


def run_node(op_type: str, arrays: Mapping[str, Array], **settings: Any) -> list[Array]:
    """Return the outputs of one node."""
    return run(make(op_type, arrays, **settings), arrays)


def ports(node: ir.Node, arrays: Mapping[str, Array], results: list[Array]) -> dict[str, Array]:
    """Return all arrays of a node by port name."""
    named = {name: arrays[value.name or ""] for name, value in inputs(node).items()}
    return named | dict(zip(outputs(node), results, strict=False))
