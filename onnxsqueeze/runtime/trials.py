"""Run one model again and again with other weights, without making a session each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.graph import walk
from onnxsqueeze.runtime import ort

Array = npt.NDArray[Any]


class Trials:
    """A session in which the named initializers are inputs, so that each run may replace some.

    The kernels are those for weights that are not constant, so results are compared only with
    other runs of the same ``Trials``.
    """

    def __init__(self, model: ir.Model, names: Iterable[str], *, threads: int = 1) -> None:
        wanted = set(names)
        copy = model.clone()
        self._weights: dict[str, Array] = {}
        for graph, value in list(walk.initializers(copy)):
            if value.name in wanted:
                assert value.const_value is not None  # ONNX: an initializer has a value
                self._weights[value.name] = np.ascontiguousarray(value.const_value.numpy())
                _make_input(copy, graph, value)
        self._session = ort.session(copy, threads=threads)

    def weight(self, name: str) -> Array:
        """Return an initializer's own value."""
        return self._weights[name]

    def run(
        self, feed: Mapping[str, Array], replaced: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Return the model's outputs for one feed, with some weights replaced."""
        return ort.run(self._session, {**feed, **self._weights, **(replaced or {})})


def _make_input(model: ir.Model, graph: ir.Graph, value: ir.Value) -> None:
    """Turn an initializer of any graph into an input of the main graph, of the same name."""
    name, tensor = value.name or "", value.const_value
    assert tensor is not None  # asked for by the caller
    graph.initializers.pop(name)
    fresh = ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy())
    )
    value.replace_all_uses_with(fresh)
    model.graph.inputs.append(fresh)
