"""Models in memory, with the weights that a test needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.graph import edit, walk
from onnxsqueeze.runtime import ort
from tests import models

Array = npt.NDArray[Any]


def made(text: str, opset: int = 21, **weights: Array) -> ir.Model:
    """Parse a model; initializers (of any graph) get the values given, others random ones."""
    model = ir.from_proto(models.build(text, opset, ir_version=10))
    edit.set_opsets(model)
    for _, value in walk.initializers(model):
        if value.name in weights:
            edit.set_value(value, weights.pop(value.name))
    assert not weights
    return model


def random(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def run(model: ir.Model, feed: Mapping[str, Array], optimization: Any = "default") -> Any:
    return ort.run(ort.session(model, optimization=optimization), feed)
