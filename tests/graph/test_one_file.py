from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.graph import edit, io
from onnxsqueeze.graph.mapped import DataFile, spill
from tests import models


@pytest.mark.parametrize("name", models.ALL)
def test_one_file_is_byte_by_byte_what_serializing_in_memory_gives(
    tmp_path: Path, name: str
) -> None:
    io.write(models.read(models.ALL[name][0], tmp_path), tmp_path / "out.onnx", external=True)
    model = io.read(tmp_path / "out.onnx")

    io.write(model, tmp_path / "one.onnx")

    assert (tmp_path / "one.onnx").read_bytes() == io.serialized(model)


def test_four_bits_and_weights_of_several_files_go_inside(tmp_path: Path) -> None:
    io.write(models.read(models.RESIDUAL, tmp_path), tmp_path / "out.onnx", external=True)
    model = io.read(tmp_path / "out.onnx")
    rng = np.random.default_rng(0)
    codes = rng.integers(-8, 8, (64, 200)).astype(ml_dtypes.int4)
    edit.add_initializer(model.graph, "codes", codes)
    spill(model, DataFile(tmp_path / "more.data"))
    assert isinstance(model.graph.initializers["codes"].const_value, ir.ExternalTensor)

    io.write(model, tmp_path / "one.onnx")

    assert (tmp_path / "one.onnx").read_bytes() == io.serialized(model)
    back = io.read(tmp_path / "one.onnx")
    assert not any(
        isinstance(value.const_value, ir.ExternalTensor)
        for value in back.graph.initializers.values()
    )
    np.testing.assert_array_equal(
        back.graph.initializers["codes"].const_value.numpy().astype(np.int8),
        codes.astype(np.int8),
    )


def test_a_thin_file_names_the_data_beside_the_original(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    original = tmp_path / "out.onnx"
    io.write(models.read(models.RESIDUAL, tmp_path), original, external=True)
    model = io.read(original)

    io.write_thin(model, tmp_path / "run" / "thin.onnx")
    back = io.read(tmp_path / "run" / "thin.onnx", beside=original)

    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thin.onnx"]
    feed = models.feed(x=(2, 3, 8, 8))
    expected = models.outputs(original, feed)["y"]
    np.testing.assert_array_equal(models.outputs(back, feed)["y"], expected)
