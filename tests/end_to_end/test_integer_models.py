"""Models that were quantized before, by ONNX Runtime's own tools: integers stay, bit for bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from onnxsqueeze import api
from onnxsqueeze.config import Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.graph import walk
from onnxsqueeze.ops import integer_role
from onnxsqueeze.runtime import ort
from tests.end_to_end.shipped import LIMIT, NAMES, Shipped

CODES = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)


class _Images(CalibrationDataReader):
    def __init__(self, path: str) -> None:
        with np.load(path) as archive:
            self.left = iter([{"image": image} for image in archive["image"][:16]])

    def get_next(self):
        return next(self.left, None)


def _quantized(shipped: Shipped, kind: str, folder: Path) -> Path:
    path = folder / f"{shipped.name}-{kind}.onnx"
    if kind == "dynamic":
        quantize_dynamic(shipped.model, path, weight_type=QuantType.QUInt8)
        return path
    products = [
        node.name
        for node in onnx.load(shipped.model).graph.node
        if node.op_type in ("Conv", "Gemm")
    ]
    quantize_static(
        shipped.model,
        path,
        _Images(shipped.calibration),
        quant_format=QuantFormat.QOperator if kind == "operators" else QuantFormat.QDQ,
        per_channel=True,
        nodes_to_quantize=products[:1] if kind == "one node" else None,
    )
    return path


def _codes(path: Path) -> Counter:
    tensors = onnx.load(path).graph.initializer
    return Counter(
        (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        for tensor in tensors
        if tensor.data_type in CODES
    )


def _kernels(path: Path) -> Counter:
    """Integer kernels in the graph that ONNX Runtime makes of a file."""
    nodes = walk.nodes(ort.optimized(path))
    return Counter(node.op_type for node in nodes if integer_role(node) == "compute")


def _compressed(path: Path, calibration: str, folder: Path) -> api.Compressed:
    return api.compress(
        path,
        folder / "small.onnx",
        DataSettings(source=calibration, limit=LIMIT),
        target=Target(objective="balanced"),
        limits=Limits(prune="off"),  # takes a minute, and is tested elsewhere
    )


@pytest.mark.parametrize("kind", ["pairs", "operators", "dynamic"])
@pytest.mark.parametrize("name", NAMES)
def test_integer_model_keeps_its_integers_and_kernels_and_is_no_larger(name, kind, tmp_path):
    shipped = Shipped(name)
    path = _quantized(shipped, kind, tmp_path)

    made = _compressed(path, shipped.calibration, tmp_path)

    assert made.output.stat().st_size <= path.stat().st_size
    assert _codes(path)
    assert not _codes(path) - _codes(made.output)
    assert _kernels(path)
    assert not _kernels(path) - _kernels(made.output)
    assert any(note.startswith("already in integers: ") for note in made.report.notes)
    assert made.report.validation.fidelity[0].drop.high <= 0.01


@pytest.mark.parametrize("name", NAMES)
def test_float_part_of_a_partly_quantized_model_gets_smaller(name, tmp_path):
    shipped = Shipped(name)
    path = _quantized(shipped, "one node", tmp_path)

    made = _compressed(path, shipped.calibration, tmp_path)

    assert made.is_met
    assert made.output.stat().st_size < path.stat().st_size
    assert not _codes(path) - _codes(made.output)
    assert not _kernels(path) - _kernels(made.output)


def test_blockwise_product_stays_and_the_float_one_behind_it_is_stored(tmp_path):
    rng = np.random.default_rng(0)
    k, n, block = 128, 64, 32
    arrays = {
        "codes": rng.integers(0, 256, (n, k // block, block // 2), dtype=np.uint8),
        "scales": rng.uniform(0.01, 0.03, n * k // block).astype(np.float32),
        "w": (rng.standard_normal((n, 128)) / 8).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node(
                "MatMulNBits",
                ["x", "codes", "scales"],
                ["h"],
                domain="com.microsoft",
                K=k,
                N=n,
                bits=4,
                block_size=block,
            ),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 128])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "blocks.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    data = tmp_path / "calib.npz"
    np.savez(data, x=rng.standard_normal((48, 4, k)).astype(np.float32))

    made = _compressed(path, str(data), tmp_path)

    assert made.is_met
    assert [row.name for row in made.report.weights] == ["w"]
    assert not _codes(path) - _codes(made.output)
    assert _kernels(path) == _kernels(made.output) == {"MatMulNBits": 1}
