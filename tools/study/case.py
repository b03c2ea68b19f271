"""A model that is studied: its units, its samples, and what removing some of them does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.units import Units, dependencies
from onnxsqueeze.data import Samples, open_samples
from onnxsqueeze.errors import ModelError
from onnxsqueeze.graph import io
from onnxsqueeze.graph.signature import signature
from onnxsqueeze.measure.prune_moments import input_moments
from onnxsqueeze.measure.prune_readers import readers
from onnxsqueeze.measure.prune_repair import Known, repaired
from onnxsqueeze.measure.prune_rows import mask_input
from onnxsqueeze.numerics.error import relative_energy
from onnxsqueeze.numerics.metrics import is_float
from onnxsqueeze.passes.cut_units import cut_units
from onnxsqueeze.passes.fix_reshapes import fix_reshapes
from onnxsqueeze.passes.normalise import normalise
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.shapes import measured_shapes

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """What is the same for all criteria.

    Attributes:
        name: For the table.
        model: Cleaned.
        units: Groups of units that can go.
        shapes: Measured shapes.
        calibration: What criteria see, and repairs are fitted to.
        held_out: What damage is measured on.
        outputs: The model's outputs on them.
        known: Moments that repairs are fitted to.
    """

    name: str
    model: ir.Model
    units: Sequence[Units]
    shapes: Mapping[str, tuple[int, ...]]
    calibration: Samples
    held_out: Samples
    outputs: Sequence[Mapping[str, Array]] = field(repr=False)
    known: Known = field(repr=False)

    def without(self, kept: Mapping[str, Array], *, refit: bool) -> ir.Model:
        """Return the model with only these units of the groups named."""
        if not refit:
            return self.cut(self.model, kept)
        return repaired(self.model, self.units, kept, self.cut, self.known).model

    def cut(self, model: ir.Model, kept: Mapping[str, Array]) -> ir.Model:
        return cut_units(model, self.units, kept, self.shapes)

    def damage(self, changed: ir.Model, samples: int | None = None) -> float:
        """Return the mean relative error energy of the float outputs on held-out samples."""
        made = ort.session(changed)
        errors = []
        for index in range(len(self.held_out) if samples is None else samples):
            found = ort.run(made, self.held_out[index])
            wanted = self.outputs[index]
            errors += [relative_energy(wanted[n], found[n]) for n in wanted if is_float(wanted[n])]
        return float(np.mean(errors))

    def agreement(self, changed: ir.Model) -> float:
        """Return the part of held-out samples whose first output has its largest entry there."""
        made = ort.session(changed)
        same = []
        for feed, wanted in zip(self.held_out, self.outputs, strict=True):
            name = next(iter(wanted))
            found = ort.run(made, feed, [name])[name]
            same.append(np.mean(found.argmax(axis=-1) == wanted[name].argmax(axis=-1)))
        return float(np.mean(same))


def open_case(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the case in a folder with model.onnx, calib.npz and eval.npz."""
    path = folder / "model.onnx"
    specs = signature(io.read(path))
    first = open_samples(folder / "calib.npz", specs, limit=calibration)
    held = open_samples(folder / "eval.npz", specs, limit=held_out)
    feeds = [first[0], first[len(first) - 1]]
    model = normalise(path, feeds).model
    model = fix_reshapes(model, _doubled(model, feeds[0]))
    shapes = [measured_shapes(model, feed) for feed in feeds]
    units = dependencies(model, shapes).units
    read = [
        reader
        for reader in readers(model).values()
        if any(reader.unit_of_feature(one) is not None for one in units)
    ]
    has_places = any(len(reader.shape) > 2 for reader in read)
    mask = None if has_places else mask_input(model, first)
    known = input_moments(model, read, first, mask=mask)
    outputs = ort.run_all(ort.session(model), held)
    return Case(folder.name, model, units, shapes[0], first, held, outputs, known)


def _doubled(model: ir.Model, feed: Mapping[str, Array]) -> Mapping[str, tuple[int, ...]]:
    try:
        return measured_shapes(model, {n: np.concatenate([v, v]) for n, v in feed.items()})
    except (ModelError, ValueError):  # a fixed batch
        return measured_shapes(model, feed)
