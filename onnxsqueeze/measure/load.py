"""Open a model and its samples: cleaned, checked, split, and remembered in the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from onnxsqueeze import __version__
from onnxsqueeze.data import DataSettings, Samples, open_samples, split, synthetic_samples
from onnxsqueeze.data.leakage import check_separate, leakage_note
from onnxsqueeze.errors import DataError, ModelError
from onnxsqueeze.facts.records import Change
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph import io, walk
from onnxsqueeze.graph.mapped import is_external
from onnxsqueeze.graph.signature import InputSpec, signature
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.passes.normalise import Normalised, normalise
from onnxsqueeze.runtime import ort

CHECKED_SAMPLES = 2
SYNTHETIC_SAMPLES = 8
INSIDE_BYTES = 100_000_000
"""A large model may hold so much beside what it has in external data."""
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
        is_large: Whether the weights lie on disk, and are to be treated one at a time.
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
    is_large: bool = False


def load(
    path: Path,
    data: DataSettings,
    store: Store | None = None,
    *,
    large_bytes: int = io.LARGE_BYTES,
) -> Loaded:
    """Return the cleaned model with its calibration and held-out samples.

    Args:
        path: An ONNX file.
        data: Where samples come from; without a source they are random.
        store: Where the cleaned model is kept and found again.
        large_bytes: A model with more weights is large, and its weights stay on disk; only with a
            store.

    Raises:
        ModelError: If the file is no model that runs.
        DataError: If the samples do not fit it.
    """
    model = io.read(path)
    specs = signature(model)
    is_large = store is not None and io.weight_bytes(model) > large_bytes
    del model  # a large one may hold its weights
    calibration, held_out, notes = _samples(path, specs, data)
    count = min(CHECKED_SAMPLES, len(calibration))
    feeds = [calibration[index] for index in range(count)]
    cleaned = _cleaned(path, feeds, calibration.fingerprint, store, is_large=is_large)
    return Loaded(
        path=path,
        model=cleaned.model,
        sha256=cleaned.sha256,
        changes=cleaned.changes,
        calibration=calibration,
        held_out=held_out,
        is_synthetic=data.source is None,
        notes=notes,
        is_large=is_large,
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
        check_separate(calibration, held_out)
        said = f"measured on {len(held_out)} samples from {held_out.source}"
    told = [said, leakage_note(calibration, held_out)]
    return (
        calibration,
        held_out,
        (*filter(None, told), *dict.fromkeys((*every.notes, *held_out.notes))),
    )


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
    path: Path,
    feeds: list[dict[str, ort.Array]],
    data_sha256: str,
    store: Store | None,
    *,
    is_large: bool,
) -> Normalised:
    if store is None:
        return normalise(path, feeds)
    key = {
        "model": io.fingerprint(path),
        "data": data_sha256,
        "version": __version__,
        "engine": machine().versions.get("onnxruntime", ""),
        **({"large": True} if is_large else {}),
    }
    beside = _outside(path, store, str(key["model"])) if is_large else None
    saved = store.get("clean", key)
    if saved is not None:
        kept = store.folder / str(saved.values["file"])
        if _is_intact(kept, str(saved.values["sha256"])):
            changes = tuple(Change.model_validate(change) for change in saved.values["changes"])
            return Normalised(io.read(kept, beside=beside), changes, str(key["model"]))
    large = None if beside is None else io.read(beside)
    cleaned = normalise(path, feeds, large=large)
    store.folder.mkdir(parents=True, exist_ok=True)
    kept = store.folder / f"clean-{cleaned.sha256[:12]}.onnx"
    (io.write if beside is None else io.write_thin)(cleaned.model, kept)
    values = {
        "file": kept.name,
        "sha256": io.sha256_of(kept),
        "changes": [change.model_dump() for change in cleaned.changes],
    }
    store.put("clean", key, values)
    # Read back, so that a run that finds this record has the very same model in hand.
    return Normalised(io.read(kept, beside=beside), cleaned.changes, cleaned.sha256)


def _outside(path: Path, store: Store, sha256: str) -> Path:
    """Return a file of the same model with its weights in external data: the model's own, or new.

    A model that has them there is not copied.
    """
    model = io.read(path)
    tensors = [value.const_value for _, value in walk.initializers(model)]
    inside = sum(
        t.nbytes for t in tensors if t is not None and not isinstance(t, ir.ExternalTensor)
    )
    if inside <= INSIDE_BYTES and is_external(model):
        return path
    store.folder.mkdir(parents=True, exist_ok=True)
    made = store.folder / f"weights-{sha256[:12]}.onnx"
    if not made.is_file():  # it appears when its data file is there
        io.write(model, made, external=True)
    return made


def _is_intact(path: Path, sha256: str) -> bool:
    return path.is_file() and io.sha256_of(path) == sha256
