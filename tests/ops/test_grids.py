"""A row's grid is believed only because ONNX Runtime makes an integer kernel of such a node."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxsqueeze.ops import OP_TABLE, row_of
from onnxsqueeze.ops.row import Grid
from tests.ops.example import Example
from tests.ops.examples import EXAMPLES
from tests.ops.running import Array, run, session

IN_SCALE, OUT_SCALE = 1 / 255, 1 / 128  # inputs are in [0.1, 1)


def _grid(example: Example) -> Grid | None:
    node = example.model().graph[0]
    row = row_of(node)
    return row.grid(node) if row.grid else None


def _gridded(example: Example, grid: Grid, *, ends: bool = True) -> ir.Model:
    """Return the example's model with Q/DQ on what it reads and writes, weights as uint8.

    Without ``ends`` the outputs are left as they are.
    """
    proto = ir.to_proto(example.model())
    graph, arrays = proto.graph, example.arrays()
    out_scale = IN_SCALE if grid.writes == "same" else OUT_SCALE
    constants = {"in_scale": np.float32(IN_SCALE), "out_scale": np.float32(out_scale)}
    constants["zero"] = np.uint8(0)
    nodes, (node,) = [], graph.node
    for k, name in enumerate(node.input):
        if name.split("[")[0] not in grid.reads:
            continue
        if name in example.constant:
            codes = np.round(arrays[name] / IN_SCALE).astype(np.uint8)
            constants[f"{name}.q"] = codes
        else:
            q = helper.make_node("QuantizeLinear", [name, "in_scale", "zero"], [f"{name}.q"])
            nodes.append(q)
        dq = helper.make_node(
            "DequantizeLinear", [f"{name}.q", "in_scale", "zero"], [f"{name}.dq"]
        )
        nodes.append(dq)
        node.input[k] = f"{name}.dq"
    nodes.append(node)
    for k, value in enumerate(graph.output if ends else ()):
        node.output[k] = f"{value.name}.float"
        scale = ["out_scale", "zero"]
        nodes += [
            helper.make_node("QuantizeLinear", [node.output[k], *scale], [f"{value.name}.q"]),
            helper.make_node("DequantizeLinear", [f"{value.name}.q", *scale], [value.name]),
        ]
    if grid.bias and grid.bias in example.ports:
        codes = np.round(arrays[grid.bias].reshape(-1) / IN_SCALE**2).astype(np.int32)
        constants |= {"bias.q": codes, "bias_scale": np.float32(IN_SCALE**2)}
        dq = helper.make_node("DequantizeLinear", ["bias.q", "bias_scale"], ["bias.dq"])
        nodes.insert(0, dq)
        node.input[list(node.input).index(grid.bias)] = "bias.dq"
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)
    return ir.from_proto(proto)


def _optimized(model: ir.Model, path: Path) -> Counter[str]:
    session(model, optimized_path=str(path))
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def _varying(example: Example, grid: Grid) -> int:
    return sum(
        name.split("[")[0] in grid.reads and name not in example.constant for name in example.ports
    )


GRIDDED = [example for example in EXAMPLES if example.version == 21 and _grid(example)]
FLOAT = [
    example
    for example in EXAMPLES
    if example.version == 21
    and example.op_type in {e.op_type for e in GRIDDED}
    and not _grid(example)
    and example.op_type != "MaxPool"  # its second output are integers, which no grid holds
]


def test_the_measured_operators_have_a_grid():
    assert {example.op_type for example in GRIDDED} == {
        "Conv",
        "Gemm",
        "MatMul",
        "Add",
        "Mul",
        "LeakyRelu",
        "Sigmoid",
        "Softmax",
        "Where",
        "AveragePool",
        "GlobalAveragePool",
        "Concat",
        "MaxPool",
        "ReduceMax",
        "Resize",
        "Split",
        "Transpose",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "Gather",
        "Expand",
        "Tile",
        "DepthToSpace",
    }


@pytest.mark.parametrize("example", GRIDDED, ids=str)
def test_gridded_node_becomes_an_integer_kernel(example, tmp_path):
    grid = _grid(example)
    kernels = _optimized(_gridded(example, grid), tmp_path / "optimized.onnx")
    # What is left of Q and DQ is the model's own border: one per float input and output.
    assert kernels["QuantizeLinear"] == _varying(example, grid), kernels
    assert kernels["DequantizeLinear"] == example.results, kernels
    if grid.writes == "own":
        assert kernels[example.op_type] == 0, kernels


@pytest.mark.parametrize("example", FLOAT, ids=str)
def test_node_without_a_grid_stays_in_float(example, tmp_path):
    grids = [_grid(e) for e in GRIDDED if e.op_type == example.op_type]
    asked = replace(grids[0], bias=None)
    kernels = _optimized(_gridded(example, asked), tmp_path / "optimized.onnx")
    assert kernels[example.op_type] == 1
    assert kernels["DequantizeLinear"] > example.results, kernels


@pytest.mark.parametrize("example", [e for e in GRIDDED if _grid(e).writes == "own"], ids=str)
def test_integer_kernel_computes_what_the_float_node_does(example):
    grid, rounded = _grid(example), example.arrays()
    for name in rounded:
        if name.split("[")[0] in grid.reads:
            codes = np.clip(np.round(rounded[name] / np.float32(IN_SCALE)), 0, 255)
            rounded[name] = codes * np.float32(IN_SCALE)
    exact = run(example.model(rounded), rounded)[0]
    model = _gridded(example, grid)
    feeds = {value.name: rounded[value.name] for value in model.graph.inputs}
    for optimized in (False, True):
        result = session(model, is_optimized=optimized).run(None, feeds)[0]
        # The kernel rounds once to a step of the output, and lookups and biases once more.
        wanted = np.clip(exact, 0, 255 * OUT_SCALE)
        np.testing.assert_allclose(result, wanted, rtol=0, atol=1.01 * OUT_SCALE)


@pytest.mark.parametrize("example", [e for e in GRIDDED if _grid(e).float_output], ids=str)
def test_kernel_with_float_output_needs_no_grid_there(example, tmp_path):
    kernels = _optimized(
        _gridded(example, _grid(example), ends=False), tmp_path / "optimized.onnx"
    )
    assert kernels[example.op_type] == 0
    assert kernels["DequantizeLinear"] == 0, kernels


@pytest.mark.parametrize("example", [e for e in GRIDDED if _grid(e).writes == "same"], ids=str)
def test_shared_grid_moves_values_exactly(example):
    model = _gridded(example, _grid(example))
    rounded: dict[str, Array] = {}
    for name, array in example.arrays().items():
        is_read = name in _grid(example).reads
        codes = np.round(array / np.float32(IN_SCALE)) if is_read else array
        rounded[name] = codes * np.float32(IN_SCALE) if is_read else array
    expected = run(example.model(rounded), rounded)
    for result, wanted in zip(run(model, example.arrays()), expected, strict=True):
        # Nearest codes, so only the last bit of the product code * scale may differ.
        np.testing.assert_allclose(result, wanted, rtol=2.0**-22)


@pytest.mark.parametrize("example", [e for e in GRIDDED if _grid(e).writes == "same"], ids=str)
def test_shared_grid_must_be_shared(example, tmp_path):
    """With two grids the node runs in float, which is what ``same`` warns of."""
    own = Grid(_grid(example).reads, "own")
    kernels = _optimized(_gridded(example, own), tmp_path / "optimized.onnx")
    assert kernels["DequantizeLinear"] > example.results, kernels


CLAMP = """<ir_version: 10, opset_import: ["" : 21]>
g (float[2,4] a) => (float[2,4] y)
<
    float in_scale = {0.01}, float out_scale = {SCALE}, uint8 zero = {ZERO},
    float low = {0.0}, float high = {6.0}
> {
    aq = QuantizeLinear(a, in_scale, zero)
    ad = DequantizeLinear(aq, in_scale, zero)
    sum = Add(ad, ad)
    limited = CLAMP
    yq = QuantizeLinear(limited, out_scale, zero)
    y = DequantizeLinear(yq, out_scale, zero)
}"""
CLAMPS = {"Relu": "Relu(sum)", "Clip": "Clip(sum, low, high)"}


def _clamped(name: str, *, zero: int) -> ir.Model:
    text = CLAMP.replace("CLAMP", CLAMPS[name]).replace("ZERO", str(zero))
    return ir.from_onnx_text(text.replace("SCALE", "0.02"))  # 255 · 0.02 is less than 6


def test_operators_that_clamp_are_those_a_grid_absorbs():
    assert {row.op_type for row in OP_TABLE if row.clamps} == set(CLAMPS)


@pytest.mark.parametrize("name", CLAMPS)
def test_grid_that_ends_where_values_are_clamped_absorbs_the_clamp(name, tmp_path):
    absorbed = _optimized(_clamped(name, zero=0), tmp_path / "absorbed.onnx")
    assert absorbed[name] == 0
    assert absorbed["QLinearAdd"] == 1
    kept = _optimized(_clamped(name, zero=128), tmp_path / "kept.onnx")
    assert kept[name] == 1
