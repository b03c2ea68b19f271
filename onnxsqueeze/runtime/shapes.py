"""Shapes as they are in a run; what a file declares is not trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.graph import walk
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.profile import events

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


def measured_shapes(model: ir.Model, feed: Mapping[str, Array]) -> dict[str, Shape]:
    """Return the shape that every value has when the model is run on ``feed``, by name.

    Values that the run did not make (a branch not taken) and values that are no tensors are
    absent. A value of a Loop's or Scan's body has the shape of its last iteration.
    """
    copy = model.clone()
    by_node: dict[str, ir.Node] = {}
    for number, node in enumerate(walk.nodes(copy)):
        node.name = f"n{number}"
        by_node[node.name] = node
    shapes: dict[str, Shape] = {name: np.shape(value) for name, value in feed.items()}
    for _, value in walk.initializers(copy):
        assert value.const_value is not None  # ONNX: an initializer has a value
        shapes[value.name or ""] = tuple(value.const_value.shape.numpy())
    options = ort.session_options("off", threads=1, low_memory=True)
    for event in events(copy, feed, options):
        arguments = event.get("args", {})
        found = by_node.get(event.get("name", "").removesuffix("_kernel_time"))
        if found is None or "output_type_shape" not in arguments:
            continue
        present = [output for output in found.outputs if output.name]
        made = arguments["output_type_shape"]
        if len(present) == len(made):
            for output, one in zip(present, made, strict=True):
                shapes[output.name or ""] = tuple(next(iter(one.values())))
    return shapes | _of_functions(copy, feed, shapes)


def _of_functions(
    model: ir.Model, feed: Mapping[str, Array], known: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Return the shapes of the main graph's tensors that no event tells of.

    An operator without a kernel runs as the nodes that ONNX defines it by, under other names.
    """
    outputs = [value.name or "" for node in model.graph for value in node.outputs]
    lacking = [name for name in outputs if name and name not in known]
    if not lacking:
        return {}
    made = ort.session(ort.expose(model, lacking), optimization="off", threads=1, low_memory=True)
    values = ort.run(made, {one.name: feed[one.name] for one in made.get_inputs()})
    return {name: value.shape for name, value in values.items() if isinstance(value, np.ndarray)}
