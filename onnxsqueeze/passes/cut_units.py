"""Remove units from a model: slice what belongs to them, and rewrite what follows from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.units import Place, Units, staying
from onnxsqueeze.errors import PlanError
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import ports

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
        PlanError: If a name or a unit is unknown, nothing of a group would be left, the units do
            not fit the shapes, or a shape that a node's new attributes follow from is unknown.
    """
    _check(units, kept, shapes)
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
    cut = {name for name, _ in stays}
    for node in copy.graph:
        _refit(copy, node, after, cut)
        for output in node.outputs:
            if not output.is_graph_output():
                output.shape = None
    verify(copy)
    return copy


def _check(units: Sequence[Units], kept: Mapping[str, Array], shapes: Mapping[str, Shape]) -> None:
    by_name = {one.name: one for one in units}
    for name, stay in kept.items():
        if name not in by_name:
            raise PlanError(
                f"the plan cuts {name!r}, and the model has no such group of units\n"
                "  Make a plan for this model: onnxsqueeze plan MODEL"
            )
        found, one = np.asarray(stay), by_name[name]
        if not len(found):
            raise PlanError(
                f"the plan keeps no unit of {name!r}, and at least one of its {one.count} must "
                "stay\n  Correct the plan."
            )
        outside = found[(found < 0) | (found >= one.count)]
        if len(outside):
            raise PlanError(
                f"the plan keeps unit {outside[0]} of {name!r}, which has units 0 to "
                f"{one.count - 1}\n  Correct the plan."
            )
        for (tensor, axis), unit in one.entries.items():
            if shapes.get(tensor, ())[axis : axis + 1] != unit.shape:
                raise PlanError(
                    f"group {name!r} has {len(unit)} entries of axis {axis} of {tensor!r}, whose "
                    f"shape is {shapes.get(tensor, 'unknown')}\n"
                    "  The units belong to another model: find them in this one."
                )


def _stays(units: Sequence[Units], kept: Mapping[str, Array]) -> dict[Place, Array]:
    """Return, for each axis that is cut, which entries stay; several groups may share one axis."""
    stays: dict[Place, Array] = {}
    for one in units:
        if one.name in kept:
            for place, unit in one.entries.items():
                stay = staying(unit, kept[one.name])
                stays[place] = stays[place] & stay if place in stays else stay
    return stays


def _refit(
    model: ir.Model, node: ir.Node, after: Mapping[str, Shape], cut: Collection[str]
) -> None:
    """Rewrite what follows, in a node that reads or makes a tensor that was cut."""
    row = row_of(node)
    if row is None or row.refit is None:
        return
    there = ports(node)
    touched = sorted({str(value.name) for value in there.values()}.intersection(cut))
    if not touched:
        return
    for value in there.values():
        if str(value.name) not in after:
            raise PlanError(
                f"{node.op_type} cannot follow the cut of {touched[0]!r}: the shape of "
                f"{value.name!r} is unknown\n"
                "  It has none in the shapes that were measured; measure them again."
            )
    refit = row.refit(node, {name: after[str(value.name)] for name, value in there.items()})
    for name, new in refit.attributes.items():
        node.attributes[name] = ir.convenience.convert_attribute(name, new)
    for name, values in refit.inputs.items():
        old = there[name]
        index = next(k for k, value in enumerate(node.inputs) if value is old)
        taken = walk.value_names(model)
        new_input = edit.add_initializer(model.graph, f"{old.name}.cut", values, taken)
        node.replace_input_with(index, new_input)
        if old.is_initializer() and not old.uses():
            del model.graph.initializers[str(old.name)]
