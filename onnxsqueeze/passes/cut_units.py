"""Remove units from a model: slice what belongs to them, and rewrite what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.units import Place, Units
from onnxsqueeze.errors import PlanError
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import inputs, outputs

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


def cut_units(
    model: ir.Model,
    units: Sequence[Units],
    kept: Mapping[str, Array],
    shapes: Mapping[str, Shape],
) -> ir.Model:
    """Return a copy of the model without the units that are not kept.

    Initializers are sliced along every axis that the units have entries of; attributes and
    constant inputs that follow from the new shapes are rewritten. Nothing is made up for.

    Args:
        model: The model that ``units`` were found in; it stays as it is.
        units: All that may be removed.
        kept: Units that stay, ascending, by name; groups that are absent stay whole.
        shapes: Measured shape of every tensor of ``model``.

    Raises:
        PlanError: If a name or a unit is unknown, or nothing of a group would be left.
    """
    _check(units, kept)
    stays = _stays(units, kept)
    copy = model.clone()
    after = dict(shapes)
    for (name, axis), stay in stays.items():
        shape = list(after[name])
        shape[axis] = int(stay.sum())
        after[name] = tuple(shape)
        value = copy.graph.initializers.get(name)
        if value is not None and value.const_value is not None:
            values = np.compress(stay, value.const_value.numpy(), axis=axis)
            edit.set_value(value, np.ascontiguousarray(values))
    for node in copy.graph:
        _refit(copy, node, after)
        for output in node.outputs:
            if not output.is_graph_output():
                output.shape = None
    verify(copy)
    return copy


def _check(units: Sequence[Units], kept: Mapping[str, Array]) -> None:
    counts = {one.name: one.count for one in units}
    for name, stay in kept.items():
        if name not in counts:
            raise PlanError(
                f"the plan cuts {name!r}, and the model has no such group of units\n"
                "  Make a plan for this model: onnxsqueeze plan MODEL"
            )
        found = np.asarray(stay)
        if not len(found) or found.min() < 0 or found.max() >= counts[name]:
            raise PlanError(
                f"the plan keeps units {found.tolist()[:4]} … of {name!r}, which has "
                f"{counts[name]}, and at least one must stay\n  Correct the plan."
            )


def _stays(units: Sequence[Units], kept: Mapping[str, Array]) -> dict[Place, Array]:
    """Return, for each axis that is cut, which entries stay; several groups may share one axis."""
    stays: dict[Place, Array] = {}
    for one in units:
        if one.name in kept:
            for place, unit in one.entries.items():
                stay = (unit < 0) | np.isin(unit, kept[one.name])
                stays[place] = stays[place] & stay if place in stays else stay
    return stays


def _refit(model: ir.Model, node: ir.Node, after: Mapping[str, Shape]) -> None:
    row = row_of(node)
    if row is None or row.refit is None:
        return
    ports = {**inputs(node), **outputs(node)}
    known = {n: after[str(v.name)] for n, v in ports.items() if str(v.name) in after}
    if len(known) < len(ports):
        return
    refit = row.refit(node, known)
    for name, new in refit.attributes.items():
        node.attributes[name] = ir.convenience.convert_attribute(name, new)
    for name, values in refit.inputs.items():
        index = next(k for k, value in enumerate(node.inputs) if value is ports[name])
        wanted = f"{ports[name].name}.cut"
        new_input = edit.add_initializer(model.graph, wanted, values, walk.value_names(model))
        node.replace_input_with(index, new_input)
