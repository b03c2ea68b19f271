"""What a model must be fed with, and what nobody can feed or compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxsqueeze.errors import ModelError
from onnxsqueeze.graph import io
from onnxsqueeze.graph.signature import signature


def test_inputs_have_types_and_shapes_and_weights_are_none():
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float16[N,3] x, float[] u, float[2] w) => (float16[N,3] y) <float[2] w = {1, 2}> {
      y = Relu (x)
    }"""
    specs = signature(ir.from_onnx_text(text))
    assert [str(spec) for spec in specs] == ["x: float16 [N, 3]", "u: float32 [?]"]
    assert specs[0].dtype == np.float16


@pytest.mark.parametrize("dtype", ["bfloat16", "float8e5m2"])
def test_input_that_no_file_of_samples_holds_is_refused(dtype):
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
    g ({dtype}[N] x) => ({dtype}[N] y) {{ y = Identity (x) }}"""
    with pytest.raises(ModelError, match=f"input 'x' is {dtype}, which neither") as caught:
        signature(ir.from_onnx_text(text))
    caught.match("Export the model with float32 or float16 inputs")


def _classifier(output: onnx.ValueInfoProto, folder: Path) -> Path:
    node = helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])], [output]
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def test_sequence_of_maps_is_named_with_what_to_do(tmp_path):
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    map_type = helper.make_map_type_proto(TensorProto.INT64, number)
    output = helper.make_value_info("p", helper.make_sequence_type_proto(map_type))

    with pytest.raises(ModelError, match="output 'p' is a sequence of maps") as caught:
        io.read(_classifier(output, tmp_path))
    caught.match("zipmap")


def test_sequence_of_tensors_as_output_is_refused(tmp_path):
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    output = helper.make_value_info("p", helper.make_sequence_type_proto(tensor))

    with pytest.raises(ModelError, match="output 'p' is a sequence of tensors"):
        io.read(_classifier(output, tmp_path))
