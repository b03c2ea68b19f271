"""Cut a model and refit every weight that reads what was cut, so that its output stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.units import Units, staying
from onnxsqueeze.measure.grams import Samples
from onnxsqueeze.measure.prune_moments import Pair, paired_moments
from onnxsqueeze.measure.prune_readers import Reader, bias, readers, repair
from onnxsqueeze.measure.prune_windows import Windows, as_windows, windows
from onnxsqueeze.numerics.pruning_descent import descended
from onnxsqueeze.numerics.pruning_refit import (
    ENOUGH_ROWS,
    Fit,
    Inputs,
    Moments,
    refit,
    refit_to,
)

Array = npt.NDArray[Any]
Kept = Mapping[str, Array]
"""Units that stay, ascending, by name of their ``Units``; one that is absent stays whole."""
Known = Mapping[str, tuple[tuple[Inputs, Inputs], ...]]
"""By weight, for each matrix, moments of the original to fit to and to choose by."""
Cut = Callable[[ir.Model, Kept], ir.Model]
"""Returns a copy of the model without the other units; it fits nothing."""


@dataclass(frozen=True)
class Repair:
    """How one weight was fitted to what is left.

    Attributes:
        weight: The initializer.
        rows_per_feature: Rows for each feature that it was fitted to.
        gain: Its output's error energy on held-out rows, as a part of that without the fit.
    """

    weight: str
    rows_per_feature: float
    gain: float

    @property
    def is_short(self) -> bool:
        """Whether there were too few rows to trust the fit."""
        return self.rows_per_feature < ENOUGH_ROWS


@dataclass(frozen=True)
class Repaired:
    """A model that was cut and refitted, and how each of its weights was."""

    model: ir.Model
    repairs: tuple[Repair, ...]


def repaired(
    original: ir.Model, units: Sequence[Units], kept: Kept, cut: Cut, known: Known
) -> Repaired:
    """Return the cut model, each reader refitted to the original's own rows of what is left.

    No model is run: errors of the layers before are not seen, see ``sequential``.

    Args:
        original: The whole model.
        units: All that may be cut.
        kept: What stays.
        cut: Removes the rest.
        known: The original's moments by weight, of all readers of ``units``.
    """
    changed = cut(original, kept)
    repairs = []
    for pair in _pairs(original, changed, units, kept):
        if pair.before.name in known:
            w = pair.before.matrix(pair.before.weight())
            features = _kept_features(pair.before, units, kept)
            groups = zip(w, pair.outputs, features, known[pair.before.name], strict=True)
            has_bias = bias(pair.after) is not None
            fits, counts = [], []
            for one, outs, stay, (fit, held) in groups:
                fits.append(refit_to(fit, held, one[outs], stay, has_bias=has_bias))
                counts.append((fit.rows + held.rows) / max(len(stay), 1))
            repairs.append(_put(changed, pair, fits, min(counts)))
    return Repaired(changed, tuple(repairs))


def sequential(
    original: ir.Model,
    start: Repaired,
    units: Sequence[Units],
    kept: Kept,
    cut: Cut,
    samples: Samples,
    *,
    stages: int = 16,
    mask: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Repaired:
    """Return a cut model with each reader refitted to what it really reads there.

    Weights go in the order of the graph, in ``stages`` parts: each part is fitted to the rows of
    a model in which all before it are, with the original's outputs as targets, so that errors do
    not add up.

    Args:
        original: The whole model.
        start: A cut model, refitted in parallel; it stays as it is.
        units: All that may be cut.
        kept: What stays in ``start``.
        cut: Removes the rest.
        samples: Feeds to fit to.
        stages: Most passes over the samples.
        mask: Input that tells which places count; see ``mask_input``.
        seed: Seed of the choice of rows.
        progress: Called with (done, all) of samples times stages.
    """
    changed = start.model.clone()
    pairs = _pairs(original, changed, units, kept)
    # What the parallel fit saw is no fair choice beside fits to a part of the same rows.
    plain = readers(cut(original, kept))
    repairs: list[Repair] = []
    parts = np.array_split(np.arange(len(pairs)), min(stages, len(pairs)) or 1)
    for number, part in enumerate(parts):
        now = [pairs[index] for index in part]
        tell = partial(_tell, progress, number, len(parts))
        narrow = [pair for pair in now if not pair.before.is_wide]
        found = paired_moments(
            original, changed, narrow, samples, mask=mask, seed=seed, progress=tell
        )
        wide = {
            one.before.name: (one, windows(original, changed, one, samples, mask=mask, seed=seed))
            for one in (as_windows(pair) for pair in now if pair.before.is_wide)
        }
        for pair in now:
            name = pair.before.name
            as_cut = plain[name].weight()
            if name in found:
                matrix = pair.after.matrix(as_cut)
                repairs.append(_refit(changed, pair, matrix, found[name]))
            elif name in wide:
                repairs += _refit_windows(changed, *wide[name], as_cut)
    return Repaired(changed, tuple(repairs))


def _tell(
    progress: Callable[[int, int], None] | None, stage: int, stages: int, done: int, total: int
) -> None:
    if progress is not None:
        progress(stage * total + done, stages * total)


def _pairs(
    original: ir.Model, changed: ir.Model, units: Sequence[Units], kept: Kept
) -> list[Pair]:
    """Return the weights that lose features, where both models have them, in graph order."""
    before = readers(original)
    after = readers(changed, wide=[name for name, reader in before.items() if reader.is_wide])
    return [
        Pair(before[name], after[name], _kept_outputs(before[name], units, kept))
        for name in touched(before, units, kept)
        if name in after
    ]


def touched(found: Mapping[str, Reader], units: Sequence[Units], kept: Kept) -> list[str]:
    """Return the readers, in order, that lose features."""
    return [
        name
        for name, reader in found.items()
        if any(_loses(reader, one, kept) for one in units if one.name in kept)
    ]


def _loses(reader: Reader, units: Units, kept: Kept) -> bool:
    own = reader.unit_of_feature(units)
    return own is not None and not staying(own, kept[units.name]).all()


def _kept_features(reader: Reader, units: Sequence[Units], kept: Kept) -> list[Array]:
    """Return per matrix the positions of the features that stay."""
    groups, _, features = reader.dims
    stay = np.ones((groups, features), bool)
    for one in units:
        own = reader.unit_of_feature(one) if one.name in kept else None
        if own is not None:
            stay &= staying(own, kept[one.name])
    return [np.flatnonzero(row) for row in stay]


def _kept_outputs(reader: Reader, units: Sequence[Units], kept: Kept) -> Array:
    entries: dict[int, Array] = {}
    for one in units:
        for (name, axis), unit in one.entries.items():
            if name == reader.name and one.name in kept:
                stay = np.flatnonzero(staying(unit, kept[one.name]))
                entries[axis] = np.intersect1d(entries.get(axis, stay), stay)
    return reader.kept_outputs(entries)


def _refit(
    changed: ir.Model, pair: Pair, as_cut: Array, splits: Sequence[tuple[Moments, Moments]]
) -> Repair:
    """Refit one weight of the changed model in place."""
    has_bias = bias(pair.after) is not None
    fits = [
        refit(fit, held, weight, has_bias=has_bias)
        for weight, (fit, held) in zip(as_cut, splits, strict=True)
    ]
    return _put(changed, pair, fits, min((fit + held).rows_per_feature for fit, held in splits))


def _refit_windows(
    changed: ir.Model, pair: Pair, seen: Windows | None, as_cut: Array
) -> list[Repair]:
    """Refit one wide weight of the changed model in place, where windows of it were seen."""
    if seen is None:
        return []
    start, has_bias = pair.after.matrix(as_cut)[0], bias(pair.after) is not None
    made = descended(seen.fit, seen.held_out, start, has_bias=has_bias)
    rows = len(seen.fit) + len(seen.held_out)
    return [_put(changed, pair, [made], rows / pair.after.features)]


def _put(changed: ir.Model, pair: Pair, fits: Sequence[Fit], rows_per_feature: float) -> Repair:
    """Give a weight of the changed model its new values, and return how it was fitted."""
    place, constant = bias(pair.after), None
    if place is not None:
        # A wide weight has an output per place of the kernel, and they are added up.
        whole = np.stack([one.bias for one in fits]).reshape(place.values.size, -1).sum(axis=1)
        constant = _old_bias(pair) + whole
    repair(changed, pair.after, np.stack([one.weight for one in fits]), constant)
    gain = float(np.mean([one.gain for one in fits]))
    return Repair(pair.before.name, rows_per_feature, gain)


def _old_bias(pair: Pair) -> Array:
    """Return the original's bias of the outputs that stay."""
    own = bias(pair.before)
    assert own is not None  # cutting takes no bias away
    values: Array = own.values.reshape(-1)
    stay = pair.outputs.reshape(len(values), -1)[:, 0]
    return values[stay]
