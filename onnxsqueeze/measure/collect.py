"""Measure all that planning needs, each kind once: what is in the store is not measured again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze import __version__
from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.analysis.regions import joints
from onnxsqueeze.analysis.weights import NotAWeight, Weight, weights
from onnxsqueeze.data.samples import Samples, evenly
from onnxsqueeze.facts import ranges as range_records
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.grams import Gram, SpreadGrams
from onnxsqueeze.facts.op_latency import OpLatency
from onnxsqueeze.facts.store import Key, Store
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.measure.grams import grams
from onnxsqueeze.measure.kernels import exact_kernels
from onnxsqueeze.measure.large import described_in_parts, large_grams
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.measure.op_latency import op_latencies
from onnxsqueeze.measure.ranges import SMALLEST_OPSET, compared_ranges, ranges
from onnxsqueeze.measure.region_latency import joint_latencies
from onnxsqueeze.measure.sensitivity import sensitivity
from onnxsqueeze.measure.thin_curves import thin_curves
from onnxsqueeze.numerics.columns import FEWEST_FEATURES, column_scale
from onnxsqueeze.numerics.error import TRIED_BITS
from onnxsqueeze.numerics.grid import as_rows, largest_block, max_scale
from onnxsqueeze.passes.round_weights import pruned
from onnxsqueeze.plan.types import INTEGER_FORMS
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.runtime.ort import engine
from onnxsqueeze.runtime.shapes import measured_shapes

Array = npt.NDArray[Any]

TRIED_SAMPLES, TRIED_SAMPLES_LARGE = 4, 2
"""Samples that each weight is tried on; the same few for all, so that they compare."""
BLOCKS = (32, 64, 128)
"""Values per scale that are looked at, or the largest divisors of the features below them."""
SMALLEST_BLOCK = 16
LEAST_COLUMN_GAIN = 0.9
"""Scales of columns that leave more of the noise than this are not worth their bytes."""
GAIN_ELEMENTS = 2**18
"""Values of a weight, in evenly spaced channels, that tell whether scales of columns pay."""
LARGE_ELEMENTS = 30_000_000
"""A model whose tensors of one run have more elements than this is tried on fewer samples."""


@dataclass(frozen=True)
class Subject:
    """What is measured: one cleaned model and its calibration samples.

    Attributes:
        model: The normalised model.
        model_sha256: Fingerprint of the file that it was made from.
        samples: Calibration samples.
        is_synthetic: Whether the samples are random, so that nothing may be fitted to them.
        prune_below: Magnitude under which weights become zero, or None.
        is_thinned: Whether a part of the single weights is to become zero.
        seed: Seed of the choice of rows.
        times_nodes: Whether single nodes are timed, on the CPU, where integers are asked for.
        is_large: Whether the weights lie on disk, and are too many to try each.
        compares_ranges: Whether methods of calibration are compared for each activation.
    """

    model: ir.Model
    model_sha256: str
    samples: Samples
    is_synthetic: bool = False
    prune_below: float | None = None
    is_thinned: bool = False
    seed: int = 0
    is_large: bool = False
    compares_ranges: bool = False
    times_nodes: bool = True

    @property
    def key(self) -> Key:
        """What every measurement of this subject depends on."""
        return {
            "model": self.model_sha256,
            "data": self.samples.fingerprint,
            "seed": self.seed,
            # Another version may clean the model in another way, and name its tensors so.
            "version": __version__,
            "engine": str(engine().__version__),
        }


def collect(
    subject: Subject, store: Store, *, with_integers: bool, progress: Progress | None = None
) -> Facts:
    """Return the facts of one model, measured or found in ``store``.

    Args:
        subject: The model and its calibration samples.
        store: Where records are kept.
        with_integers: Whether activations are calibrated, and single nodes timed, for integer
            kernels.
        progress: Called with (stage, done, all).
    """
    tell = progress or silent
    found, others = weights(subject.model)
    shapes = _shapes(subject, store)
    if subject.is_large:
        return _of_large(subject, found, others, shapes, store, tell)
    measured = {} if subject.is_synthetic else _grams(subject, found, shapes, store, tell)
    damage = _damage(subject, found, shapes, store, tell)
    rows = tuple(described(subject, weight, measured, damage) for weight in found)
    if subject.is_thinned:
        rows = _with_curves(subject, rows, found, measured, damage, store, tell)
    return Facts(
        model_sha256=subject.model_sha256,
        data_sha256=None if subject.is_synthetic else subject.samples.fingerprint,
        shapes=shapes,
        weights=rows,
        left_alone={other.name: other.reason for other in others},
        grams=measured,
        ranges=_ranges(subject, shapes, store, tell) if with_integers else {},
        latencies=(
            _latencies(subject, shapes, store, tell)
            if with_integers and subject.times_nodes
            else {}
        ),
        kernels=exact_kernels(store) if with_integers else None,
    )


def _of_large(
    subject: Subject,
    found: Sequence[Weight],
    others: Sequence[NotAWeight],
    shapes: Mapping[str, tuple[int, ...]],
    store: Store,
    tell: Progress,
) -> Facts:
    """Return the facts of a model whose weights are not tried: activations stay float."""
    measured = SpreadGrams({})
    if not subject.is_synthetic:
        measured = large_grams(
            subject.model,
            found,
            subject.samples,
            shapes,
            store=store,
            key=subject.key,
            seed=subject.seed,
            progress=lambda done, total: tell("input statistics", done, total),
        )
    rows = [
        described_in_parts(
            weight,
            measured.rows(weight.name) if weight.name in measured else 0,
            measured.lost(weight.name) if weight.name in measured else None,
            subject.prune_below,
        )
        for weight in found
    ]
    return Facts(
        model_sha256=subject.model_sha256,
        data_sha256=None if subject.is_synthetic else subject.samples.fingerprint,
        shapes=shapes,
        weights=tuple(rows),
        left_alone={other.name: other.reason for other in others},
        grams=measured,
    )


def _shapes(subject: Subject, store: Store) -> dict[str, tuple[int, ...]]:
    saved = store.get("shapes", subject.key)
    if saved is None:
        shapes = measured_shapes(subject.model, subject.samples[0])
        saved = store.put(
            "shapes", subject.key, {name: list(dims) for name, dims in shapes.items()}
        )
    return {name: tuple(dims) for name, dims in saved.values.items()}


def _grams(
    subject: Subject,
    found: Sequence[Weight],
    shapes: Mapping[str, tuple[int, ...]],
    store: Store,
    tell: Progress,
) -> Mapping[str, Gram]:
    return grams(
        subject.model,
        found,
        subject.samples,
        shapes,
        store=store,
        key=subject.key,
        seed=subject.seed,
        progress=lambda done, total: tell("input statistics", done, total),
    )


def _damage(
    subject: Subject,
    found: Sequence[Weight],
    shapes: Mapping[str, tuple[int, ...]],
    store: Store,
    tell: Progress,
) -> Mapping[str, float]:
    saved = store.get("sensitivity", subject.key)
    if saved is None:
        elements = sum(math.prod(dims) for dims in shapes.values())
        tried = TRIED_SAMPLES if elements <= LARGE_ELEMENTS else TRIED_SAMPLES_LARGE
        count = min(tried, len(subject.samples))
        chosen = [subject.samples[i] for i in evenly(len(subject.samples), count)]
        finite = [weight for weight in found if _is_finite(weight)]
        damage = sensitivity(
            subject.model,
            finite,
            chosen,
            progress=lambda done, total: tell("sensitivity of weights", done, total),
        )
        saved = store.put("sensitivity", subject.key, damage)
    return saved.values


def _with_curves(
    subject: Subject,
    rows: Sequence[WeightFacts],
    found: Sequence[Weight],
    measured: Mapping[str, Gram],
    damage: Mapping[str, float],
    store: Store,
    tell: Progress,
) -> tuple[WeightFacts, ...]:
    curves = thin_curves(
        found,
        measured,
        damage,
        store=store,
        key=subject.key,
        progress=lambda done, total: tell("sensitivity to zeros", done, total),
    )
    return tuple(row.model_copy(update={"thin_damage": curves.get(row.name, {})}) for row in rows)


def _is_finite(weight: Weight) -> bool:
    assert weight.value.const_value is not None  # ONNX: an initializer has a value
    return bool(np.isfinite(weight.value.const_value.numpy()).all())


def described(
    subject: Subject,
    weight: Weight,
    measured: Mapping[str, Gram],
    damage: Mapping[str, float],
) -> WeightFacts:
    """Return what is known of one weight; Gram matrices and damage are by name."""
    rows = measured[weight.name].rows if weight.name in measured else 0
    found = described_in_parts(weight, rows, damage.get(weight.name), subject.prune_below)
    if found.not_finite:
        return found
    assert weight.value.const_value is not None  # ONNX: an initializer has a value
    values = pruned(weight.value.const_value.numpy(), subject.prune_below)
    gains = {
        "block_gain": _block_gain(weight, values),
        "column_gain": _column_gain(weight, values, measured),
    }
    return found.model_copy(update=gains)


def _block_gain(weight: Weight, values: Array) -> dict[int, float]:
    """Return the mean square step of blocks, relative to one scale per channel, for matrices."""
    if len(weight.shape) != 2:
        return {}
    rows = as_rows(values.astype(np.float32), weight.axis)
    whole = _mean_square(max_scale(rows, 4))
    blocks = {largest_block(rows.shape[1], wanted) for wanted in BLOCKS} - {None, rows.shape[1]}
    return {
        block: _mean_square(max_scale(rows, 4, block)) / whole
        for block in sorted(b for b in blocks if b is not None and b >= SMALLEST_BLOCK)
    }


def _mean_square(scale: Array) -> float:
    return float(np.square(scale.astype(np.float64)).mean())  # float32 may lose small squares


def _column_gain(weight: Weight, values: Array, measured: Mapping[str, Gram]) -> float:
    """Return the noise left with scales of columns, 1 where they do not pay."""
    rows = as_rows(values.astype(np.float32), weight.axis)
    if rows.shape[1] < FEWEST_FEATURES:
        return 1.0
    if rows.size > GAIN_ELEMENTS:
        rows = rows[evenly(len(rows), max(1, GAIN_ELEMENTS // rows.shape[1]))]
    importance = None
    if weight.name in measured:
        importance = np.einsum("gkk->k", measured[weight.name].matrix)
    gain = column_scale(rows, TRIED_BITS, None, importance)[1]
    return gain if gain < LEAST_COLUMN_GAIN else 1.0


def watched(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """Return what integer kernels read and write, and channel axis and rank of what they read."""
    tensors: dict[str, None] = {}
    moments: dict[str, tuple[int, int]] = {}
    axes = {w.input_name: w.linear.x_axis for w in weights(model)[0] if w.linear is not None}
    candidates = integer_candidates(model)
    for candidate in candidates:
        if candidate.reason:
            continue
        read_and_written = [t for t in (candidate.x, candidate.closes) if t is not None]
        tensors |= dict.fromkeys(t for t in read_and_written if t in shapes)
        if candidate.x in axes and candidate.x in shapes:
            moments[candidate.x] = axes[candidate.x], len(shapes[candidate.x])
    for joint in joints(model, candidates):
        if not joint.reason:
            tensors |= dict.fromkeys(t for t in (*joint.reads, joint.closes) if t in shapes)
    return list(tensors), moments


def _ranges(
    subject: Subject, shapes: Mapping[str, tuple[int, ...]], store: Store, tell: Progress
) -> range_records.Ranges:
    if subject.model.graph.opset_imports.get("", 0) < SMALLEST_OPSET:
        return {}
    key = {**subject.key, "compared": subject.compares_ranges}
    saved = store.get("ranges", key)
    if saved is None:
        tensors, moments = watched(subject.model, shapes)
        if not tensors:
            return {}
        measure = compared_ranges if subject.compares_ranges else ranges
        measured = measure(
            subject.model,
            subject.samples,
            tensors,
            moments=moments,
            progress=lambda done: tell("calibration", done, len(subject.samples)),
        )
        values, arrays = range_records.to_record(measured)
        saved = store.put("ranges", key, values, arrays)
    return range_records.from_record(saved)


def _latencies(
    subject: Subject, shapes: Mapping[str, tuple[int, ...]], store: Store, tell: Progress
) -> dict[str, OpLatency]:
    here = machine()
    key = {
        "processor": here.processor,
        "features": list(here.features),
        "forms": list(INTEGER_FORMS),
        "in regions": True,
        **subject.key,
    }
    saved = store.get("latency", key)
    if saved is None:
        candidates = integer_candidates(subject.model)
        measured, _ = op_latencies(
            subject.model,
            candidates,
            shapes,
            here,
            progress=lambda done, total: tell("latency of single nodes", done, total),
        )
        measured |= joint_latencies(
            subject.model,
            joints(subject.model, candidates),
            shapes,
            here,
            progress=lambda done, total: tell("latency of nodes between", done, total),
        )
        values = {y: one.model_dump(mode="json") for y, one in measured.items()}
        saved = store.put("latency", key, values)
    return {y: OpLatency.model_validate(one) for y, one in saved.values.items()}
