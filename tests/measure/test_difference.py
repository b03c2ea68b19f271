"""Files side by side: a stored weight is compared as it is when the model has loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxsqueeze.errors import ModelError
from onnxsqueeze.measure.difference import difference
from tests.models import build, constants, dotted, read, saved

NETWORK = """
g (float[N,8] x) => (float[N,6] y) <float[8,64] w1, float[64,6] w2> {
  a = MatMul (x, w1)
  r = Relu (a)
  y = MatMul (r, w2)
}"""
CODES = """
g (float[N,8] x) => (float[N,6] y)
<float[8,64] w1, int8[64,6] w2_int = {{{codes}}}, float w2_scale = {{0.03125}}> {{
  w2_0 = Cast <to = 1> (w2_int)
  w2_1 = Mul (w2_0, w2_scale)
  a = MatMul (x, w1)
  r = Relu (a)
  y = MatMul (r, w2_1)
}}"""


def test_codes_and_scale_are_compared_as_the_weight_they_make(tmp_path: Path) -> None:
    before = saved(build(NETWORK), tmp_path, "before.onnx")
    w2 = constants(read(NETWORK, tmp_path))["w2"]
    codes = np.clip(np.rint(w2 * 32), -128, 127).astype(int)
    text = CODES.format(codes=", ".join(map(str, codes.ravel())))
    after = saved(dotted(build(text)), tmp_path, "after.onnx")
    found = difference(before, after)
    (change,) = found.tensors
    assert (change.name, found.same) == ("w2", 1)
    assert change.after is not None
    assert (change.after.size_bytes, change.after.parts) == (64 * 6 + 4, ("w2.int", "w2.scale"))
    made = (codes * 0.03125).astype(np.float32)
    expected = 10 * np.log10(np.square(w2, dtype=float).sum() / np.square(w2 - made).sum())
    assert change.sqnr_db == pytest.approx(expected, abs=1e-4)
    back = difference(after, before).tensors[0]
    assert back.before == change.after


def test_missing_file_is_a_model_error(tmp_path: Path) -> None:
    before = saved(build(NETWORK), tmp_path)
    with pytest.raises(ModelError, match="there is no file"):
        difference(before, tmp_path / "absent.onnx")
