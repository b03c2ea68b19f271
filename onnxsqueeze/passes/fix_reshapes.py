"""Give Reshape a constant shape where each computed entry is a dim that it can copy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnxsqueeze.analysis.units import Points, Shape, joined
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.ops import row_of, sources
from onnxsqueeze.ops.row import Dim, Source, attribute, inputs

COPY, REST = 0, -1
"""What these entries of a shape mean (ONNX, Reshape)."""


def fix_reshapes(model: ir.Model, shapes: Mapping[str, Shape]) -> ir.Model:
    """Return a copy of ``model`` in which shapes of Reshape are constants wherever they can be.

    A computed entry that is the length of the input's axis at the same place, as the operator
    table's ties tell, is written as 0 (copy); one other that is computed is written as −1 (what is
    left). Then it is known how the axes go together, and a cut can rewrite the shape.

    Args:
        model: A normalised model; it stays as it is.
        shapes: Measured shape of every tensor.
    """
    copy, known = model.clone(), dict(shapes)
    while changed := _one_round(copy, known):  # what is known of one Reshape tells of the next
        known |= changed
    edit.remove_unused(copy)
    return copy


def _one_round(model: ir.Model, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Fix the shapes that can be; return the new constants with their own shapes."""
    points = joined(model, shapes)
    label, taken = points.components(), walk.value_names(model)
    made: dict[str, Shape] = {}
    for node in model.graph:
        row = row_of(node)
        if row is None or row.refit is None:
            continue
        ports = inputs(node)
        if not {"shape", "data"} <= ports.keys():
            continue
        shape, data = ports["shape"], str(ports["data"].name)
        found = sources(shape, shapes)
        if shape.is_initializer() or found is None or attribute(node, "allowzero"):
            continue
        values = [_written(one, (data, axis), points, label) for axis, one in enumerate(found)]
        if values.count(REST) <= 1:
            name = f"{node.outputs[0].name}.shape"
            fixed = edit.add_initializer(model.graph, name, np.asarray(values, np.int64), taken)
            made[str(fixed.name)] = (len(values),)
            index = next(k for k, value in enumerate(node.inputs) if value is shape)
            node.replace_input_with(index, fixed)
    return made


def _written(one: Source, place: tuple[str, int], points: Points, label: np.ndarray) -> int:
    if isinstance(one, int):
        return one
    if isinstance(one, Dim) and _is_same(points, label, (one.tensor, one.axis), place):
        return COPY
    return REST


def _is_same(points: Points, label: np.ndarray, a: tuple[str, int], b: tuple[str, int]) -> bool:
    """Return whether two axes have the same length in every run, since their entries are tied."""
    if a == b:
        return True
    if a not in points.start or b not in points.start or points.dim[a] != points.dim[b]:
        return False
    return points.dim[a] > 1 and np.array_equal(label[points.of(a)], label[points.of(b)])
