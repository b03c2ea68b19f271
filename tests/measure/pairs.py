"""Small pairs of models, as files and samples, for the tests of this folder."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.data import open_samples
from onnxsqueeze.graph.signature import signature

LINEAR = """
<ir_version: 10, opset_import: ["" : 21]>
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2, 2] w = {1, 0, 0, 1}>
{ y = MatMul(x, w) }
"""
# The second output column is 0.9 of what it was.
SHRUNK = LINEAR.replace("{1, 0, 0, 1}", "{1, 0, 0, 0.9}")
# 1 / x: infinite where x is 0.
INVERSE = LINEAR.replace("MatMul(x, w)", "Div(x, w0)").replace(
    "float[2, 2] w = {1, 0, 0, 1}", "float[2] w0 = {1, 0}"
)
SCORES = """
<ir_version: 10, opset_import: ["" : 21]>
agraph (float[N, 3] x) => (float[N, 3] y)
<float[3] b = {0, 0, 0}>
{ y = Add(x, b) }
"""
BIASED = SCORES.replace("{0, 0, 0}", "{0, 0, 2}")


def saved(tmp_path, name, text):
    path = tmp_path / f"{name}.onnx"
    ir.save(ir.from_onnx_text(text), path)
    return path


def samples(text, feeds, labels=None):
    items = [{"x": np.asarray(feed, dtype=np.float32)} for feed in feeds]
    return open_samples(items, signature(ir.from_onnx_text(text)), labels=labels)
