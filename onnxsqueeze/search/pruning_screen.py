"""Whether pruning will pay where bytes count first, foretold before anything is tried."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy.typing as npt

from onnxsqueeze.graph import walk
from onnxsqueeze.measure.prune_widths import multiple_of, work
from onnxsqueeze.numerics.pruning import Removal
from onnxsqueeze.numerics.pruning_widths import Curve, narrowed
from onnxsqueeze.search.cutting import Cutting
from onnxsqueeze.search.pruning import PARTS_LEFT, Orders, rungs
from onnxsqueeze.search.trial import Search

Array = npt.NDArray[Any]


def foretold_saving(search: Search, cuts: Cutting, orders: Orders, allowed: float) -> float:
    """Return the part of the weights that will go within a drop, by the layers' own losses.

    Each loss is a part of its own layer's output, and they are added up: on MiniLM a third of what
    the whole model's output loses, on a pitch CNN ten times as much.

    Args:
        search: The search.
        cuts: What may be removed.
        orders: In which order; see ``removals``.
        allowed: The drop.
    """
    model, shapes = search.model, search.facts.shapes
    curves = {
        one.name: Curve(_least(orders[one.name]), multiple_of(model, one))
        for one in cuts.units
        if one.name in orders
    }
    goals = PARTS_LEFT[: rungs(search)]
    within = {}
    for widths in narrowed(curves, work(model, cuts.units, shapes), goals):
        losses = (curves[name].damage[curves[name].count - n] for name, n in widths.items())
        if float(sum(losses)) <= allowed:
            within = widths
    sizes = {
        value.name: prod(value.const_value.shape.numpy())
        for _, value in walk.initializers(model)
        if value.const_value is not None
    }
    read = {
        node.name or "": float(sum(sizes.get(v.name, 0) for v in node.inputs if v is not None))
        for node in model.graph
    }
    left = work(model, cuts.units, shapes, read)
    return (left({}) - left(within)) / max(sum(sizes.values()), 1)


def _least(orders: tuple[Removal, ...]) -> Array:
    """Return the losses of the order that loses least at half of the units."""
    best = min(orders, key=lambda one: float(one.losses[len(one.order) // 2]))
    return best.losses
