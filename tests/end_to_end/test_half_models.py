"""Models in half precision: smaller in every form, with inputs and outputs as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze import api
from onnxsqueeze.config import Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.graph import io, walk
from onnxsqueeze.runtime import ort
from tests.end_to_end.shipped import LIMIT, NAMES, Shipped

HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def in_half(source: Path, target: Path) -> Path:
    """Write the model with all floats in half precision: weights, values, inputs and outputs."""
    model = io.read(source)
    for _, value in walk.initializers(model):
        if value.dtype == FLOAT:
            array = value.const_value.numpy().astype(np.float16)
            value.const_value = ir.tensor(array, name=value.name)
            value.type = ir.TensorType(HALF)
    outputs = [value for node in walk.nodes(model) for value in node.outputs]
    for value in (*model.graph.inputs, *outputs):
        if value.dtype == FLOAT:
            value.type = ir.TensorType(HALF)
    io.write(model, target)
    return target


def _case(name: str, folder: Path) -> tuple[Path, Path]:
    shipped = Shipped(name)
    data = folder / "calib.npz"
    with np.load(shipped.calibration) as archive:
        np.savez(data, image=archive["image"].astype(np.float16))
    return in_half(shipped.model, folder / "half.onnx"), data


@pytest.mark.parametrize("objective", ["size", "latency"])
@pytest.mark.parametrize("name", NAMES)
def test_half_model_gets_smaller_within_the_budget(name, objective, tmp_path):
    path, data = _case(name, tmp_path)

    made = api.compress(
        path,
        tmp_path / "small.onnx",
        DataSettings(source=str(data), limit=LIMIT),
        target=Target.model_validate({"objective": objective}),
    )

    assert made.is_met
    # Codes of 8 bits are half of half precision, and the rest of these files is little. For speed
    # a scale of 32 bits for every 16 codes is allowed, too.
    most = 0.6 if objective == "size" else 0.1 + (8 + 32 / 16) / 16
    assert made.output.stat().st_size < most * path.stat().st_size
    result = io.read(made.output)
    assert [value.dtype for value in (*result.graph.inputs, *result.graph.outputs)] == [HALF, HALF]
    with np.load(data) as archive:
        feed = {"image": archive["image"][0]}
    before, after = (ort.run(ort.session(one), feed) for one in (path, made.output))
    assert {name: value.dtype for name, value in after.items()} == {
        name: value.dtype for name, value in before.items()
    }
