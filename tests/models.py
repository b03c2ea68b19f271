"""Tiny models as ONNX text, with weights drawn from a fixed seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import numpy_helper, parser

from onnxsqueeze.graph import io, walk
from onnxsqueeze.runtime import ort

Array = npt.NDArray[Any]


def build(text: str, opset: int = 17, ir_version: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Parse a model; values that it declares in the angle brackets and never makes become weights.

    They are normal with variance 1 / (product of all dims but the first): no layer saturates.
    """
    head = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "local" : 1]>'
    model = parser.parse_model(head + text)
    rng = np.random.default_rng(seed)
    graph = model.graph
    made = {name for node in graph.node for name in node.output}
    made.update(tensor.name for tensor in graph.initializer)
    for info in list(graph.value_info):
        if info.name in made:
            continue
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        values = rng.standard_normal(shape) / np.sqrt(max(1, int(np.prod(shape[1:]))))
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        graph.initializer.append(numpy_helper.from_array(values.astype(dtype), info.name))
        graph.value_info.remove(info)
    if not any(node.domain == "local" for node in graph.node):
        kept = [entry for entry in model.opset_import if entry.domain != "local"]
        del model.opset_import[:]
        model.opset_import.extend(kept)
    return model


def dotted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a dot for each underscore in its names, which the text cannot have."""
    graph = model.graph
    for named in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        named.name = named.name.replace("_", ".")
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name.replace("_", ".") for name in names]
    return model


def saved(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    onnx.save(model, path)
    return path


def read(text: str, folder: Path, opset: int = 17, ir_version: int = 8) -> ir.Model:
    """Build, save and read back a model."""
    return io.read(saved(build(text, opset, ir_version), folder))


def outputs(model: ir.Model | Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a model as it is written."""
    return ort.run(ort.session(model, optimization="off"), inputs)


def operators(model: ir.Model) -> list[str]:
    """The operators of all graphs, in order."""
    return [node.op_type for node in walk.nodes(model)]


def constants(model: ir.Model) -> dict[str, Array]:
    return {str(v.name): v.const_value.numpy() for _, v in walk.initializers(model)}


def feed(seed: int = 1, **shapes: tuple[int, ...]) -> dict[str, Array]:
    """Standard normal float32 inputs of the given shapes."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


RESIDUAL = """
g (float[N,3,8,8] x) => (float[N,5] y)
<float[4,3,3,3] w1, float[4] b1, float[4,4,3,3] w2, float[5,4] w3, float[5] b3> {
  a = Conv <pads = [1,1,1,1]> (x, w1, b1)
  r = Relu (a)
  c = Conv <pads = [1,1,1,1]> (r, w2)
  s = Add (c, r)
  p = GlobalAveragePool (s)
  f = Flatten (p)
  y = Gemm <transB = 1> (f, w3, b3)
}"""

CONCAT = """
g (float[N,3,8,8] x) => (float[N,2,8,8] y)
<float[4,3,1,1] w1, float[2,3,1,1] w2, float[2,6,1,1] w3> {
  a = Conv (x, w1)
  b = Conv (x, w2)
  c = Concat <axis = 1> (a, b)
  y = Conv (c, w3)
}"""

DEPTHWISE = """
g (float[N,4,8,8] x) => (float[N,6,8,8] y) <float[4,1,3,3] dw, float[6,4,1,1] pw> {
  d = Conv <group = 4, pads = [1,1,1,1]> (x, dw)
  r = Relu (d)
  y = Conv (r, pw)
}"""

GROUPED = """
g (float[N,4,8,8] x) => (float[N,6,8,8] y) <float[6,2,1,1] w> {
  y = Conv <group = 2> (x, w)
}"""

SHARED_WEIGHT = """
g (float[N,4] x) => (float[N,4] y) <float[4,4] w> {
  a = MatMul (x, w)
  r = Relu (a)
  y = MatMul (r, w)
}"""

SUBGRAPH = """
g (float[N,4] x, bool c) => (float[N,4] y) <float[4,4] w> {
  y = If (c) <
    then_branch = then_g () => (float[N,4] t) { t = MatMul (x, w) },
    else_branch = else_g () => (float[N,4] e) {
      k = Constant <value = float[4] {1, 2, 3, 4}> ()
      e = Add (x, k)
    }
  >
}"""

LOCAL_FUNCTION = """
g (float[N,4] x) => (float[N,4] y) <float[4,4] w> {
  h = MatMul (x, w)
  y = local.twice (h)
}
<domain: "local", opset_import: ["" : 17]>
twice (a) => (b) { b = Add (a, a) }
"""

FLOAT16 = """
g (float[N,4] x) => (float[N,4] y) <float16[4,4] w> {
  wide = Cast <to = 1> (w)
  y = MatMul (x, wide)
}"""

NO_SHAPE = """
g (float[] x) => (float[] y) <float[4,4] w> {
  a = MatMul (x, w)
  y = Relu (a)
}"""

ALL = {
    "residual": (RESIDUAL, {"x": (2, 3, 8, 8)}),
    "concat": (CONCAT, {"x": (2, 3, 8, 8)}),
    "depthwise": (DEPTHWISE, {"x": (2, 4, 8, 8)}),
    "grouped": (GROUPED, {"x": (2, 4, 8, 8)}),
    "shared_weight": (SHARED_WEIGHT, {"x": (3, 4)}),
    "local_function": (LOCAL_FUNCTION, {"x": (3, 4)}),
    "float16": (FLOAT16, {"x": (3, 4)}),
    "no_shape": (NO_SHAPE, {"x": (3, 4)}),
}
