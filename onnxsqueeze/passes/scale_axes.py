"""A plan's scalings taken into the constants around an axis, and into what was measured of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.scalable import Part, Scalable, scalable
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.grams import Gram, Rescaled
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.numerics.scaling import from_steps
from onnxsqueeze.ops import row_of
from onnxsqueeze.plan.types import Plan, ScalingChoice

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Scaled:
    """A model with scaled axes.

    Attributes:
        model: The new model; in floats it gives what the other gave.
        shapes: Shapes of its tensors.
        grams: Gram matrices of what its weights read.
        tensors: By the scaling's name, the values that it changed.
        inserted: By the scaling's name, what its readers read where a product was put in.
        readers: By the scaling's name, the weights that are multiplied with its factors.
    """

    model: ir.Model
    shapes: Mapping[str, Shape]
    grams: Mapping[str, Gram]
    tensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inserted: Mapping[str, str] = field(default_factory=dict)
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def scale_axes(
    plan: Plan, model: ir.Model, shapes: Mapping[str, Shape], grams: Mapping[str, Gram]
) -> Scaled:
    """Return a copy of ``model`` with the plan's scalings, and what was measured, scaled, too.

    With x a scaled tensor, ``x' = x / s`` where it is made and ``W' = s · W`` where it is read.
    All factors are taken into constants that are there, unless the plan says that a product is
    put in; that one is shared by all linear nodes that read x.

    Left alone: all that the plan does not name.

    Args:
        plan: Its ``scalings`` are carried out.
        model: A normalised model; it stays as it is.
        shapes: Measured shape of every tensor.
        grams: Gram matrices of the inputs of weights, by weight.

    Raises:
        PlanError: If the plan names what cannot be scaled, or not by so many factors.

    Source:
        See ``analysis.scalable``. Gram matrices follow: ``H' = D⁻¹ H D⁻¹`` for inputs that are
        divided by the diagonal of D.
    """
    if not plan.scalings:
        return Scaled(model, shapes, grams)
    copy = model.clone()
    groups = {group.name: group for group in scalable(copy, shapes)[0]}
    _check(plan.scalings, groups)
    values = {str(value.name): value for _, value in walk.initializers(copy)}
    factors: dict[str, Array] = {}
    tensors, inserted, seen = dict[str, tuple[str, ...]](), dict[str, str](), dict(shapes)
    for name, choice in plan.scalings.items():
        group, scale = groups[name], from_steps(choice.steps)
        for part in group.parts:
            _multiply(values[part.name], part, scale)
        for weight in group.readers:
            factors[weight] = per_feature(values[weight], group, scale)
        if group.obstacle:
            inserted[name] = str(_insert(copy, group, scale, len(shapes[name])).name)
            seen[inserted[name]] = shapes[name]
        else:
            tensors[name] = group.tensors
    digest = hashlib.sha256(
        json.dumps({name: one.steps for name, one in plan.scalings.items()}).encode()
    ).hexdigest()
    readers = {name: groups[name].readers for name in plan.scalings}
    grams = Rescaled(grams, factors, digest)
    return Scaled(copy, seen, grams, tensors, inserted, readers)


def _check(scalings: Mapping[str, ScalingChoice], groups: Mapping[str, Scalable]) -> None:
    for name, choice in scalings.items():
        group = groups.get(name)
        if group is None:
            raise PlanError(
                f"the plan scales {name!r}, which cannot be scaled in this model\n"
                f"  {len(groups)} tensors can. Make a plan: onnxsqueeze plan MODEL"
            )
        if len(choice.steps) != group.dim:
            raise PlanError(
                f"the plan scales {name!r} by {len(choice.steps)} factors, and it has {group.dim} "
                "entries\n  Make a plan for this model: onnxsqueeze plan MODEL"
            )
        if group.obstacle and not choice.inserted:
            raise PlanError(
                f"the scaling of {name!r} needs a product before its readers: {group.obstacle}\n"
                '  Set "inserted" to true, or take the scaling out of the plan.'
            )


def _multiply(value: ir.Value, part: Part, scale: Array) -> None:
    """Multiply or divide a constant along an axis, in float64, rounded once."""
    assert value.const_value is not None  # ONNX: an initializer has a value
    old = value.const_value.numpy()
    shape = [1] * old.ndim
    shape[part.axis] = -1
    factor = (1 / scale if part.is_divided else scale).reshape(shape)
    edit.set_value(value, (old.astype(np.float64) * factor).astype(old.dtype))


def per_feature(weight: ir.Value, group: Scalable, scale: Array) -> Array:
    """Return the factor of each feature of a linear weight, shape (groups, features).

    Args:
        weight: A weight that reads the entries.
        group: The entries.
        scale: Their factors.
    """
    (part,) = [part for part in group.parts if part.name == weight.name and not part.is_divided]
    node = walk.readers(weight)[0]
    row = row_of(node)
    assert row is not None and row.linear is not None  # noqa: PT018 - readers are linear
    linear = row.linear(node)
    assert linear is not None
    assert weight.const_value is not None
    shape = [1] * len(weight.const_value.shape)
    shape[part.axis] = -1
    spread = np.broadcast_to(scale.reshape(shape), weight.const_value.shape.numpy())
    matrix: Array = linear.matrix(node, spread)[:, 0, :]
    return matrix


def _insert(model: ir.Model, group: Scalable, scale: Array, ndim: int) -> ir.Value:
    """Put a product before the readers of a tensor, and return what they read then."""
    graph, taken = model.graph, walk.value_names(model)
    weights = set(group.readers)
    nodes = [
        node
        for node in graph
        if any(value is not None and value.name in weights for value in node.inputs)
    ]
    x = next(
        value for node in nodes for value in node.inputs if value and value.name == group.name
    )
    axis = _axis(nodes[0], ndim)
    shape = [1] * (ndim - axis)
    shape[0] = -1
    factor = edit.add_initializer(
        graph, f"{x.name}.scale", (1 / scale).astype(np.float32).reshape(shape), taken
    )
    output = edit.shaped_like(x, f"{x.name}.scaled", ir.DataType.FLOAT, taken)
    product = ir.node("Mul", [x, factor], outputs=[output], name=str(output.name))
    edit.insert_behind(graph, x, product)
    for node in nodes:
        for index, value in enumerate(node.inputs):
            if value is x:
                node.replace_input_with(index, output)
    return output


def _axis(node: ir.Node, ndim: int) -> int:
    """Return the axis of its input that a linear node sums over."""
    row = row_of(node)
    linear = None if row is None or row.linear is None else row.linear(node)
    assert linear is not None  # it reads a scaled axis
    return linear.x_axis % ndim
