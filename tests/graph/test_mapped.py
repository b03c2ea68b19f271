from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxsqueeze.graph import edit, io
from onnxsqueeze.graph.mapped import SPILLED_BYTES, DataFile, is_external, release, spill
from tests import models


def wide(folder: Path) -> ir.Model:
    model = models.read(models.RESIDUAL, folder)
    values = np.random.default_rng(0).standard_normal((5, 1024)).astype(np.float32)
    edit.add_initializer(model.graph, "wide", values)
    return model


def test_large_initializers_move_to_the_file_and_small_ones_stay(tmp_path: Path) -> None:
    model = wide(tmp_path)
    before = models.constants(model)

    moved = spill(model, DataFile(tmp_path / "some.data"))

    assert moved == before["wide"].nbytes >= SPILLED_BYTES
    for name, value in model.graph.initializers.items():
        assert isinstance(value.const_value, ir.ExternalTensor) == (name == "wide")
        np.testing.assert_array_equal(value.const_value.numpy(), before[name])
    assert spill(model, DataFile(tmp_path / "other.data")) == 0


def test_a_file_grows_and_what_lies_in_it_stays(tmp_path: Path) -> None:
    file = DataFile(tmp_path / "some.data")
    one = file.moved(ir.tensor(np.arange(5, dtype=np.float32), name="one"))
    two = file.moved(ir.tensor(np.arange(7, dtype=np.int64), name="two"))

    np.testing.assert_array_equal(one.numpy(), np.arange(5))
    np.testing.assert_array_equal(two.numpy(), np.arange(7))
    assert two.offset is not None
    assert two.offset % 4096 == 0


def test_a_released_weight_is_read_again(tmp_path: Path) -> None:
    io.write(wide(tmp_path), tmp_path / "out.onnx", external=True)
    model = io.read(tmp_path / "out.onnx")
    assert is_external(model)
    tensor = model.graph.initializers["wide"].const_value
    assert isinstance(tensor, ir.ExternalTensor)

    first = tensor.numpy().copy()
    release(tensor)
    assert tensor.raw is None
    np.testing.assert_array_equal(tensor.numpy(), first)


def test_a_weight_that_is_still_read_stays_readable(tmp_path: Path) -> None:
    io.write(wide(tmp_path), tmp_path / "out.onnx", external=True)
    tensor = io.read(tmp_path / "out.onnx").graph.initializers["wide"].const_value
    assert tensor is not None
    held = tensor.numpy()

    release(tensor)

    np.testing.assert_array_equal(tensor.numpy(), held)
