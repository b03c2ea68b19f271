"""Convolutions over columns, as exporters write those over time: padded by nodes before them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxsqueeze import api
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.graph import io
from tests.runtime.made import made, random

TEXT = """
g (float[N,1,64,1] x) => (float[N,4] y)
<float[8,1,9,1] w, float[8] b, float[4,512] u> {
  h = Conv <pads = [4, 0, 4, 0]> (x, w, b)
  r = Relu (h)
  f = Flatten (r)
  y = Gemm <transB = 1> (f, u)
}"""


def test_columns_are_padded_apart_where_their_weights_stay_floats(tmp_path: Path) -> None:
    model = made(TEXT)
    io.write(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "x.npz", x=random(40, 1, 64, 1))
    done = api.compress(
        tmp_path / "model.onnx",
        tmp_path / "out.onnx",
        DataSettings(str(tmp_path / "x.npz")),
        budget=Budget(max_drop=0.01),
        target=Target(objective="size"),
        limits=Limits(bits=(16,)),
    )
    result = io.read(tmp_path / "out.onnx")
    operators = [node.op_type for node in result.graph]
    assert operators[operators.index("Conv") - 1] == "Pad"
    assert {name: one.form for name, one in done.plan.weights.items()} == {"u": "float16"}
    assert any(one.step == "pads apart" and one.outcome == "done" for one in done.report.changes)
