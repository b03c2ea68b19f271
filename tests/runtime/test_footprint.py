from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.errors import ModelError
from onnxsqueeze.runtime.footprint import can_measure, footprint
from tests.runtime.made import made, random

MIB = 1024 * 1024
LARGE = """
g (float[N, 2048] x) => (float[N, 2048] y) <float[2048, 2048] w> { y = MatMul(x, w) }"""

pytestmark = pytest.mark.skipif(not can_measure(), reason="only Linux tells what is resident")


def test_a_loaded_model_holds_its_weights(tmp_path):
    path = tmp_path / "large.onnx"
    ir.save(made(LARGE, w=random(2048, 2048)), path)

    found = footprint(path, {"x": random(1, 2048)})

    # The weight has 16 MiB, and ONNX Runtime may keep it once more, packed.
    assert found.peak_bytes >= 16 * MIB
    assert found.resident_bytes <= found.peak_bytes
    assert found.resident_bytes >= 15 * MIB


def test_a_model_that_does_not_run_there_is_told(tmp_path):
    path = tmp_path / "large.onnx"
    ir.save(made(LARGE, w=random(2048, 2048)), path)
    with pytest.raises(ModelError, match="not loaded and run in a process of its own"):
        footprint(path, {"x": np.zeros((1, 3), np.float32)})
