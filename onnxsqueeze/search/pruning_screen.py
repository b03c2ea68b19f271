"""Whether pruning will pay where bytes count first, foretold before anything is tried."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from onnxsqueeze.graph import walk
from onnxsqueeze.measure.prune_widths import RIDGES, multiple_of, removals, work
from onnxsqueeze.numerics.pruning_widths import Curve, Widths, narrowed
from onnxsqueeze.search.cutting import Cutting
from onnxsqueeze.search.pruning import PARTS_LEFT, rungs
from onnxsqueeze.search.trial import Search

LEAST_WEIGHTS = 0.2
"""Part of the weights that must go where bytes count first: the budget that is spent on it would
have saved up to 0.9 bits (5.2 dB) of each weight, at 4 to 5 bits."""
LEAST_MEAN = 0.25
"""Where more multiply-adds go than weights: the mean of both parts that is enough, too."""


@dataclass(frozen=True)
class Saving:
    """What goes with units: parts of all weights, and of all multiply-adds."""

    weights: float
    work: float

    @property
    def is_enough(self) -> bool:
        """Whether it is worth the budget where bytes count first, and time after them."""
        return self.weights >= LEAST_WEIGHTS or (self.weights + self.work) / 2 >= LEAST_MEAN


def value_counts(model: ir.Model) -> dict[str, int]:
    """Return the number of values in each initializer, by name."""
    return {
        value.name or "": prod(value.const_value.shape.numpy())
        for _, value in walk.initializers(model)
        if value.const_value is not None
    }


def foretold_saving(search: Search, cuts: Cutting, allowed: float) -> Saving:
    """Return what will go within a drop, by the layers' own losses.

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
    cost = work(model, units, shapes)
    for widths in narrowed(curves, cost, PARTS_LEFT[: rungs(search)]):
        losses = (curves[name].damage[curves[name].count - n] for name, n in widths.items())
        if float(sum(losses)) <= allowed:
            within = widths
    sizes = value_counts(model)
    read = {
        node.name or "": float(
            sum(sizes.get(v.name or "", 0) for v in node.inputs if v is not None)
        )
        for node in model.graph
    }
    left, every = work(model, units, shapes, read), max(sum(sizes.values()), 1)
    gone = (cost({}) - cost(within)) / cost({}) if within else 0.0
    return Saving((left({}) - left(within)) / every, gone)
