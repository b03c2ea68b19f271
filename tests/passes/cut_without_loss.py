"""Random models that lose nothing by a cut: units are silent, or copies of others that stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from onnxsqueeze.analysis.units import Place, Units, dependencies, joined, staying
from onnxsqueeze.measure.prune_moments import input_moments
from onnxsqueeze.measure.prune_readers import Reader, bias, readers, reading
from onnxsqueeze.measure.prune_repair import Kept, Known, repaired
from onnxsqueeze.passes.cut_units import cut_units
from onnxsqueeze.passes.fix_reshapes import fix_reshapes
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.models import Array, feed

ROUNDING = 1e-4
"""Part of the largest output: float32 sums in another order, through at most six blocks."""


@dataclass(frozen=True)
class Start:
    """A model, and what is to be cut of it.

    Attributes:
        model: The model.
        joined: The same, where what reads a unit that goes reads the one that it is a copy of.
        units: All that may be cut of it.
        kept: What stays of some of them.
        shapes: Shapes of its tensors.
    """

    model: ir.Model
    joined: ir.Model
    units: tuple[Units, ...]
    kept: Kept
    shapes: Mapping[str, tuple[int, ...]]

    def cut(self, model: ir.Model, kept: Kept) -> ir.Model:
        """Return a model of these units with what is kept of them."""
        return cut_units(model, self.units, kept, self.shapes)


def ready(model: ir.Model, dims: Sequence[int]) -> ir.Model:
    """Return the model with its constants as weights, and shapes of Reshape as constants."""
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return fix_reshapes(model, measured_shapes(model, feed(x=(2, *dims))))


def silent(model: ir.Model, dims: Sequence[int], seed: int, part: float = 0.7) -> Start:
    """Return a model with some units of a part of its groups silent, drawn at random.

    Initializers are zero wherever they belong to a unit that is not kept. Weights that read one
    are so, too: whatever it holds changes nothing.
    """
    model, units, shapes = _with_units(model, dims)
    kept = _drawn(units, seed, part)

    def silence(values: Array, unit: Array, stay: Array) -> None:
        values[~staying(unit, stay)] = 0

    changed = _changed(model, units, kept, silence, _places(model, units))
    return Start(changed, changed, units, kept, shapes)


def copied(model: ir.Model, dims: Sequence[int], seed: int) -> Start:
    """Return a model with units that are copies of the first that stays, drawn at random.

    Groups that something reads which no repair can change stay whole.
    """
    model, units, shapes = _with_units(model, dims)
    read, known = joined(model, shapes).read, readers(model)
    fitting = [one for one in units if all(n in known for n, a in one.entries if (n, a) in read)]
    kept = _drawn(fitting, seed, 0.7)

    def copy(values: Array, unit: Array, stay: Array) -> None:
        for gone in np.setdiff1d(unit[unit >= 0], stay):
            values[unit == gone] = values[unit == stay[0]]

    def merge(values: Array, unit: Array, stay: Array) -> None:
        for gone in np.setdiff1d(unit[unit >= 0], stay):
            values[unit == stay[0]] += values[unit == gone]

    places = _places(model, units)
    changed = _changed(model, units, kept, copy, places - read)
    merged = _changed(changed, units, kept, merge, places & read)
    return Start(changed, merged, units, kept, shapes)


def _with_units(
    model: ir.Model, dims: Sequence[int]
) -> tuple[ir.Model, tuple[Units, ...], Mapping[str, tuple[int, ...]]]:
    model = ready(model, dims)
    shapes = [measured_shapes(model, feed(x=(n, *dims))) for n in (2, 3)]
    return model, dependencies(model, shapes).units, shapes[0]


def _drawn(units: Sequence[Units], seed: int, part: float) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        one.name: np.sort(rng.permutation(one.count)[: rng.integers(1, one.count)])
        for one in units
        if rng.random() < part
    }


def _places(model: ir.Model, units: Sequence[Units]) -> set[Place]:
    """Return the axes of initializers that units have entries of."""
    return {
        place for one in units for place in one.entries if place[0] in model.graph.initializers
    }


def _changed(
    model: ir.Model,
    units: Sequence[Units],
    kept: Kept,
    change: Callable[[Array, Array, Array], None],
    places: Collection[Place],
) -> ir.Model:
    """Return a copy with ``change(values, unit of each entry, what stays)`` along the places."""
    copy = model.clone()
    for one in units:
        for place in set(one.entries) & set(places) if one.name in kept else ():
            name, axis = place
            value = copy.graph.initializers[name]
            assert value.const_value is not None
            values = value.const_value.numpy().copy()
            change(np.moveaxis(values, axis, 0), one.entries[place], kept[one.name])
            value.const_value = ir.tensor(values, name=name)
    return copy


def lost_by_the_cut(start: Start, dims: Sequence[int]) -> float:
    """Return the largest difference that cutting makes, in batches of two lengths."""
    cut = start.cut(start.joined, start.kept)
    return largest_difference(start.model, cut, [feed(x=(n, *dims)) for n in (2, 3)])


def largest_difference(
    model: ir.Model, changed: ir.Model, batches: Sequence[Mapping[str, Array]]
) -> float:
    """Return the largest difference of outputs as a part of the batch's largest output."""
    before, after = (ort.session(one, optimization="off") for one in (model, changed))
    found = []
    for batch in batches:
        (wanted,), (got,) = (list(ort.run(one, batch).values()) for one in (before, after))
        assert got.shape == wanted.shape
        assert np.isfinite(wanted).all()
        found.append(float(np.abs(got - wanted).max() / max(1e-6, np.abs(wanted).max())))
    return max(found)


@dataclass(frozen=True)
class Repair:
    """A model without the units that go, and refitted.

    Attributes:
        model: The model.
        moved: By weight: the mean energy by which its output has moved on the rows that it was
            fitted to, as a part of what its products have at most.
    """

    model: ir.Model
    moved: Mapping[str, float]


def repair(start: Start, samples: Sequence[dict[str, Array]]) -> Repair:
    """Return the model cut and refitted to the samples."""
    read = readers(start.model)
    losing = [r for one in start.units if one.name in start.kept for r, _ in reading(read, one)]
    known = input_moments(start.model, list({r.name: r for r in losing}.values()), samples)
    cut = readers(start.cut(start.joined, start.kept))
    made = repaired(start.model, start.units, start.kept, start.cut, known)
    after = readers(made.model)
    moved = {
        one.weight: _moved(start, read[one.weight], cut[one.weight], after[one.weight], known)
        for one in made.repairs
    }
    return Repair(made.model, moved)


def _moved(start: Start, whole: Reader, cut: Reader, after: Reader, known: Known) -> float:
    """Return E‖(W' − W) x + b' − b‖² / Σ (Σ |w| rms x)², the highest of all groups."""
    stay = np.ones(whole.dims[::2], bool)
    for one in start.units:
        own = whole.unit_of_feature(one) if one.name in start.kept else None
        if own is not None:
            stay &= staying(own, start.kept[one.name])
    old, new = (one.matrix(one.weight()).astype(np.float64) for one in (cut, after))
    shift = np.zeros(old.shape[:2])
    had, has = bias(cut), bias(after)
    if had is not None and has is not None:
        shift = (has.values.astype(np.float64) - had.values).reshape(shift.shape)
    parts = []
    for w, step, b, own, (fit, held) in zip(
        old, new - old, shift, stay, known[whole.name], strict=True
    ):
        rows = fit + held
        gram, mean = rows.gram[np.ix_(own, own)], rows.mean[own]
        energy = np.vdot(step @ gram, step) + 2 * b @ step @ mean + b @ b
        most = np.square(np.abs(w) @ np.sqrt(np.diag(gram))).sum()
        parts.append(float(energy / max(most, 1e-30)))
    return max(parts)
