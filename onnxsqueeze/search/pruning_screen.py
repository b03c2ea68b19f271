"""Whether pruning will pay where bytes count first, foretold before anything is tried."""

from __future__ import annotations

from math import prod

from onnxsqueeze.graph import walk
from onnxsqueeze.measure.prune_widths import RIDGES, multiple_of, removals, work
from onnxsqueeze.numerics.pruning_widths import Curve, Widths, narrowed
from onnxsqueeze.search.cutting import Cutting
from onnxsqueeze.search.pruning import PARTS_LEFT, rungs
from onnxsqueeze.search.trial import Search


def foretold_saving(search: Search, cuts: Cutting, allowed: float) -> float:
    """Return the part of the weights that will go within a drop, by the layers' own losses.

    Each loss is a part of its own layer's output, and they are added up: on MiniLM a third of what
    the whole model's output loses, on a pitch CNN ten times as much.

    Args:
        search: The search.
        cuts: What may be removed.
        allowed: The drop.
    """
    model, shapes, units = search.model, search.facts.shapes, cuts.units
    orders = removals(model, units, cuts.known, ridges=RIDGES[:1])
    curves = {
        one.name: Curve(orders[one.name][0].losses, multiple_of(model, one))
        for one in units
        if one.name in orders
    }
    within: Widths = {}
    for widths in narrowed(curves, work(model, units, shapes), PARTS_LEFT[: rungs(search)]):
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
    left = work(model, units, shapes, read)
    return (left({}) - left(within)) / max(sum(sizes.values()), 1)
