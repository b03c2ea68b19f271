"""Open a model and its samples: cleaned, checked, split, and remembered in the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from onnxsqueeze import __version__
from onnxsqueeze.data import DataSettings, Samples, open_samples, split, synthetic_samples
from onnxsqueeze.errors import DataError, ModelError
from onnxsqueeze.facts.records import Change
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph import io
from onnxsqueeze.graph.signature import InputSpec, signature
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.passes.normalise import Normalised, normalise
from onnxsqueeze.runtime import ort

CHECKED_SAMPLES = 2
SYNTHETIC_SAMPLES = 8
SYNTHETIC_DIMS = (32, 16, 64, 128, 224, 1, 8, 256)
"""Sizes tried for free axes until the model runs."""


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to be measured.

    Attributes:
        path: The file as it came.
        model: The cleaned model.
        sha256: Fingerprint of the file.
        changes: What cleaning did, undid and left alone.
        calibration: Samples that statistics are made of.
        held_out: Samples that nothing is fitted to, and that the budget is held against.
        is_synthetic: Whether the samples are random, since none were given.
        notes: What the user should know of model and samples.
    """

    path: Path
    model: ir.Model
    sha256: str
    changes: tuple[Change, ...]
    calibration: Samples
    held_out: Samples
    is_synthetic: bool
    notes: tuple[str, ...]


def load(path: Path, data: DataSettings, store: Store | None = None) -> Loaded:
    """Return the cleaned model with its calibration and held-out samples.

    Args:
        path: An ONNX file.
        data: Where samples come from; without a source they are random.
        store: Where the cleaned model is kept and found again.

    Raises:
        ModelError: If the file is no model that runs.
        DataError: If the samples do not fit it.
    """
    specs = signature(io.read(path))
    calibration, held_out, notes = _samples(path, specs, data)
    count = min(CHECKED_SAMPLES, len(calibration))
    feeds = [calibration[index] for index in range(count)]
    cleaned = _cleaned(path, feeds, calibration.fingerprint, store)
    return Loaded(
        path=path,
        model=cleaned.model,
        sha256=cleaned.sha256,
        changes=cleaned.changes,
        calibration=calibration,
        held_out=held_out,
        is_synthetic=data.source is None,
        notes=notes,
    )


def samples_for(path: Path, data: DataSettings) -> tuple[Samples, tuple[str, ...]]:
    """Return all samples to measure a model on: those to evaluate on, or all that were given."""
    specs = signature(io.read(path))
    source = data.source if data.evaluation is None else data.evaluation
    labels = data.labels if data.evaluation is None else data.evaluation_labels
    if source is None:
        return _synthetic(path, specs, data.seed)
    samples = open_samples(source, specs, labels=labels, images=data.images, limit=data.limit)
    return samples, samples.notes


def _samples(
    path: Path, specs: tuple[InputSpec, ...], data: DataSettings
) -> tuple[Samples, Samples, tuple[str, ...]]:
    if data.source is None:
        if data.evaluation is not None or data.labels is not None:
            raise DataError(
                "evaluation samples or labels were given without calibration samples\n"
                "  Give calibration samples too (--data)."
            )
        samples, notes = _synthetic(path, specs, data.seed)
        return samples, samples, notes
    every = open_samples(
        data.source, specs, labels=data.labels, images=data.images, limit=data.limit
    )
    if data.evaluation is None:
        calibration, held_out = split(every, data.held_out, data.seed)
        said = f"{len(held_out)} of {len(every)} samples are held out to measure on"
    else:
        calibration = every
        held_out = open_samples(
            data.evaluation,
            specs,
            labels=data.evaluation_labels,
            images=data.images,
            limit=data.limit,
        )
        if held_out.fingerprint == calibration.fingerprint:
            raise DataError(
                "the same samples are given to calibrate on and to measure on\n"
                "  Leave the evaluation samples out: a part of the others is then held out."
            )
        said = f"measured on {len(held_out)} samples from {held_out.source}"
    return calibration, held_out, (said, *dict.fromkeys((*every.notes, *held_out.notes)))


def _synthetic(
    path: Path, specs: tuple[InputSpec, ...], seed: int
) -> tuple[Samples, tuple[str, ...]]:
    made = ort.session(path)
    failure: ModelError | None = None
    for dim in SYNTHETIC_DIMS:
        samples = synthetic_samples(specs, SYNTHETIC_SAMPLES, seed, dim=dim)
        try:
            ort.run(made, samples[0])
        except ModelError as error:
            failure = failure or error
            continue
        return samples, samples.notes
    assert failure is not None  # at least one size was tried
    raise DataError(
        "no samples were given, and the model does not run on random ones\n"
        f"  {str(failure).splitlines()[0]}\n  Give samples (--data)."
    )


def _cleaned(
    path: Path, feeds: list[dict[str, ort.Array]], data_sha256: str, store: Store | None
) -> Normalised:
    if store is None:
        return normalise(path, feeds)
    key = {
        "model": io.fingerprint(path),
        "data": data_sha256,
        "version": __version__,
        "engine": machine().versions.get("onnxruntime", ""),
    }
    saved = store.get("clean", key)
    if saved is not None:
        kept = store.folder / str(saved.values["file"])
        if _is_intact(kept, str(saved.values["sha256"])):
            changes = tuple(Change.model_validate(change) for change in saved.values["changes"])
            return Normalised(io.read(kept), changes, str(key["model"]))
    cleaned = normalise(path, feeds)
    store.folder.mkdir(parents=True, exist_ok=True)
    kept = store.folder / f"clean-{cleaned.sha256[:12]}.onnx"
    io.write(cleaned.model, kept)
    values = {
        "file": kept.name,
        "sha256": io.fingerprint(kept),
        "changes": [change.model_dump() for change in cleaned.changes],
    }
    store.put("clean", key, values)
    # Read back, so that a run that finds this record has the very same model in hand.
    return Normalised(io.read(kept), cleaned.changes, cleaned.sha256)


def _is_intact(path: Path, sha256: str) -> bool:
    try:
        return path.is_file() and io.fingerprint(path) == sha256
    except ModelError:  # cut off
        return False
