"""What each group of units loses at each width, and what the model costs at chosen widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.summary import multiply_adds
from onnxsqueeze.analysis.units import Units
from onnxsqueeze.graph import walk
from onnxsqueeze.measure.fidelity import Reference
from onnxsqueeze.measure.prune_readers import consumers, readers, reading
from onnxsqueeze.measure.prune_repair import Cut, Known, repaired
from onnxsqueeze.numerics.error import relative_energy
from onnxsqueeze.numerics.metrics import is_float
from onnxsqueeze.numerics.pruning import Criterion, Removal, ranked, removal
from onnxsqueeze.numerics.pruning_widths import Curve, Widths
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.shapes import Shape

Array = npt.NDArray[Any]

RIDGES = (0.1, 0.01)
"""Ridges under which units are ranked, of which the better is chosen for each group.

At half of all widths 0.1 gave a small CNN 1.2 dB more than 0.01, and MiniLM 0.15 dB less.
"""
CHANNELS_AT_ONCE = 8
"""Convolutions work on blocks of 8 channels, so other widths save bytes but no time."""
TRIED_SAMPLES = 16
TRIED_PARTS = (0.75, 0.5, 0.25, 0.125)
"""Parts of its width that each group is tried at."""


def removals(
    model: ir.Model,
    units: Sequence[Units],
    known: Known,
    criterion: Criterion = "obs",
    scores: Mapping[str, Array] | None = None,
    ridges: Sequence[float] = RIDGES,
) -> dict[str, tuple[Removal, ...]]:
    """Return by group the orders in which its units may go; groups that no weight reads have none.

    Args:
        model: The whole model.
        units: The groups.
        known: Moments of what the weights read, see ``input_moments``.
        criterion: What ranks units.
        scores: How much each unit matters, by group, where that is known; what matters least goes
            first, whatever the criterion.
        ridges: There is one order for each.
    """
    found = {}
    read = readers(model)
    given = {name: np.argsort(one, kind="stable") for name, one in (scores or {}).items()}
    for one in units:
        matrices = consumers(reading(read, one), known)
        if matrices:
            order = given.get(one.name)
            orders = (
                ranked(matrices, one.count, ridge, criterion)
                if order is None
                else removal(matrices, one.count, ridge, order)
                for ridge in ridges
            )
            found[one.name] = tuple(orders)
    return found


def curves(
    model: ir.Model,
    units: Sequence[Units],
    orders: Mapping[str, Sequence[Removal]],
    cut: Cut,
    known: Known,
    reference: Reference,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[Curve, Removal]]:
    """Return the expected damage of each group at each width, and the better of its orders.

    Each group is cut by itself to a few widths and repaired, and the relative error energy of the
    model's float outputs is measured on a few samples. Between these widths the losses of the
    layer give the course of the curve: alone, they are no good beside those of other layers, and
    flatter layers with few rows for each feature. The order is that which damages least at about
    half of the width.

    Args:
        model: The whole model.
        units: The groups.
        orders: See ``removals``; groups without are left out.
        cut: Removes units.
        known: Moments of the weights that are refitted.
        reference: The original's outputs.
        progress: Called with (done, all) of the groups.
    """
    found = {}
    for number, one in enumerate(units):
        if one.name in orders:

            def damage(order: Removal, width: int, name: str = one.name) -> float:
                made = repaired(model, units, {name: order.kept(width)}, cut, known)
                return _damage(reference, made.model)

            found[one.name] = _curve(orders[one.name], multiple_of(model, one), damage)
        if progress is not None:
            progress(number + 1, len(units))
    return found


def tried_widths(curve: Curve) -> list[int]:
    """Return the widths nearest to ``TRIED_PARTS`` of the whole, the whole itself left out.

    Example:
        >>> tried_widths(Curve(np.zeros(33), multiple=8))
        [24, 16, 8]
    """
    narrower = curve.widths()[1:]
    nearest = [
        min(narrower, key=lambda width: abs(width - part * curve.count))
        for part in TRIED_PARTS
        if narrower
    ]
    return sorted(set(nearest), reverse=True)


def through(losses: Array, tried: Mapping[int, float]) -> Array:
    """Return ``losses`` scaled so that they go through what was measured, never falling.

    The scale is interpolated between the numbers of units that were tried, in its logarithm.

    Args:
        losses: Loss by number of units gone.
        tried: Measured damage by number of units gone.

    Example:
        >>> through(np.array([0.0, 1.0, 2.0, 4.0]), {1: 0.5, 3: 8.0}).tolist()
        [0.0, 0.5, 2.0, 8.0]
    """
    points = sorted((n, damage) for n, damage in tried.items() if damage > 0 and losses[n] > 0)
    if not points:
        return losses
    gone = [n for n, _ in points]
    scales = [np.log(damage / losses[n]) for n, damage in points]
    scaled = losses * np.exp(np.interp(np.arange(len(losses)), gone, scales))
    rising: Array = np.maximum.accumulate(scaled)
    return rising


def _curve(
    orders: Sequence[Removal], multiple: int, damage: Callable[[Removal, int], float]
) -> tuple[Curve, Removal]:
    """Return the curve of one group and its order, from the damage of orders at widths."""
    plain = Curve(orders[0].losses, multiple)
    widths = tried_widths(plain)
    if not widths:
        return plain, orders[0]
    half = min(widths, key=lambda width: abs(2 * width - plain.count))
    tried = [damage(order, half) for order in orders]
    best = orders[int(np.argmin(tried))]
    measured = {plain.count - half: min(tried)}
    measured |= {plain.count - width: damage(best, width) for width in widths if width != half}
    return Curve(through(best.losses, measured), multiple), best


def _damage(reference: Reference, changed: ir.Model) -> float:
    """Return the relative error energy of the float outputs on a few samples."""
    made = ort.session(changed, threads=reference.conditions.threads)
    errors = []
    for number, (feed, outputs) in enumerate(reference.pairs()):
        if number == TRIED_SAMPLES:
            break
        found = ort.run(made, feed, list(outputs))
        pairs = [(np.asarray(value), found[name]) for name, value in outputs.items()]
        errors += [relative_energy(a, b) for a, b in pairs if is_float(a)]
    finite = [one for one in errors if np.isfinite(one)]
    return float(np.mean(finite)) if finite else 1.0


def multiple_of(model: ir.Model, units: Units) -> int:
    """Return what widths must be multiples of: 8 where a kernel with places has the units.

    Groups of fewer than 16 units, and blocks of a matrix (neurons, heads), may have any width.
    """
    ranks = {
        len(value.const_value.shape)
        for _, value in walk.initializers(model)
        if value.const_value is not None and any(name == value.name for name, _ in units.entries)
    }
    has_places = max(ranks, default=0) > 2
    return CHANNELS_AT_ONCE if has_places and units.count >= 2 * CHANNELS_AT_ONCE else 1


def work(
    model: ir.Model,
    units: Sequence[Units],
    shapes: Mapping[str, Shape],
    node_costs: Mapping[str, float] | None = None,
) -> Callable[[Widths], float]:
    """Return the function from widths to the model's cost.

    A node that multiplies by a weight costs in proportion to what is left of the weight; one that
    multiplies activations, in proportion to the groups that its inputs belong to.

    Args:
        model: The whole model.
        units: The groups.
        shapes: Measured shapes.
        node_costs: Cost of each node by name; None for multiply-adds.
    """
    costs = multiply_adds(model, shapes).multiply_adds if node_costs is None else node_costs
    share = _shares(units)
    factors: list[tuple[float, list[tuple[str, float]]]] = []
    for node in model.graph:
        cost = float(costs.get(node.name or "", 0))
        if cost:
            names = [value.name or "" for value in node.inputs if value is not None]
            weights = [name for name in names if name in model.graph.initializers]
            held = [one for name in weights for one in share.get(name, [])]
            matrices = [name for name in weights if len(_dims(model, name)) > 1]
            if matrices:
                factors.append((cost, [one for name in matrices for one in share.get(name, [])]))
            else:
                seen = held + [one for name in names for one in share.get(name, [])]
                factors.append((cost, list(dict(seen).items())))
    counts = {one.name: one.count for one in units}

    def cost_of(widths: Widths) -> float:
        left = {name: widths.get(name, count) / count for name, count in counts.items()}
        return sum(
            cost * prod(1 - part * (1 - left[name]) for name, part in axes)
            for cost, axes in factors
        )

    return cost_of


def _shares(units: Sequence[Units]) -> dict[str, list[tuple[str, float]]]:
    """Return by tensor, for each axis with units: the group, and which part of the axis it is."""
    found: dict[str, list[tuple[str, float]]] = {}
    for one in units:
        for (name, _), entries in one.entries.items():
            part = float(np.mean(entries >= 0))
            found.setdefault(name, []).append((one.name, part))
    return found


def _dims(model: ir.Model, name: str) -> tuple[int, ...]:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None  # ONNX: an initializer has a value
    return tuple(tensor.shape.numpy())
