"""Fidelity: a result held against the original, sample by sample, on the same feeds.

``fidelity`` runs both models side by side. ``reference`` runs the original once and keeps its
outputs, for a search that holds many results against it. Both give the same numbers.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.config import Provider
from onnxsqueeze.data.samples import Samples
from onnxsqueeze.data.spool import Spool
from onnxsqueeze.errors import DataError, OutputError
from onnxsqueeze.facts.records import Fidelity, Interval
from onnxsqueeze.numerics.error import EXACT_DB
from onnxsqueeze.numerics.metrics import Metric, Outputs, error_energy, is_float, metric_named
from onnxsqueeze.numerics.perplexity import perplexities, rise
from onnxsqueeze.numerics.statistics import (
    Estimate,
    lost_fraction,
    no_less_than_shown,
    paired_bootstrap,
)
from onnxsqueeze.progress import Progress
from onnxsqueeze.runtime import ort, providers

Model = ir.Model | Path | bytes
Optimization = Literal["default", "off"]
"""Called with (stage, done, total) while a measurement runs."""
Pair = tuple[ort.Feed, Outputs]

LOOKS = 16
"""Samples, evenly spaced, on which the kinds of the outputs are judged."""
MEMORY_BYTES = 256 * 1024 * 1024
"""Outputs of the original up to this stay in memory; the rest lies on disk."""


@dataclass(frozen=True)
class Conditions:
    """How both models are run."""

    provider: str | Provider = "cpu"
    optimization: Optimization = "default"
    threads: int = 1
    seed: int = 0

    def session(self, model: Model) -> Any:
        """Return a session of the model under these conditions."""
        return ort.session(
            model,
            optimization=self.optimization,
            threads=self.threads,
            provider=self.provider,
            # As written, weights are computed anew in each run: freed after use, not kept.
            low_memory=self.optimization == "off",
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """The original's outputs on the samples, kept for many comparisons.

    Attributes:
        metric: The metric, made for this original.
        samples: What it was run on.
        conditions: How it was run, and how results will be.
        kept: Per sample its outputs, or the file that holds them.
        spool: The folder of those files; it is removed with this object. None if all is in memory.
    """

    metric: Metric
    samples: Samples
    conditions: Conditions
    kept: tuple[Outputs | Path, ...] = field(repr=False)
    spool: Spool | None = field(repr=False)

    def pairs(self) -> Iterator[Pair]:
        """Yield each sample's feed with the original's outputs on it."""
        for feed, kept in zip(self.samples, self.kept, strict=True):
            # A pickle of our own, in a folder that only this user can read.
            yield feed, pickle.loads(kept.read_bytes()) if isinstance(kept, Path) else kept


def fidelity(
    original: Model,
    result: Model,
    samples: Samples,
    metric: str = "auto",
    *,
    provider: str | Provider = "cpu",
    optimization: Optimization = "default",
    threads: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fidelity:
    """Return what ``result`` keeps of ``original``; one sample is in memory at a time.

    Args:
        original: The model that is the truth.
        result: A model with the same inputs and outputs.
        samples: At least one.
        metric: See ``numerics.metrics.metric_named``.
        provider: Execution provider of both.
        optimization: Graph optimization of both sessions: ``default`` as users run them, ``off``
            for what the graphs themselves say.
        threads: Threads of each session.
        seed: Seed of the bootstrap.
        progress: Told after each sample.

    Raises:
        DataError: If there is no sample, or the metric does not fit the outputs or labels.
        ModelError: If one of the models does not load or run, or the result lacks an output.
    """
    conditions = Conditions(provider, optimization, threads, seed)
    made = conditions.session(original)
    chosen = _metric(metric, made, samples)
    pairs = ((feed, ort.run(made, feed)) for feed in samples)
    return _compared(chosen, pairs, samples, conditions, result, progress)


def reference(
    original: Model,
    samples: Samples,
    metric: str = "auto",
    *,
    provider: str | Provider = "cpu",
    optimization: Optimization = "default",
    threads: int = 1,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> Reference:
    """Run the original on all samples and keep its outputs, in memory up to ``memory_bytes``.

    What is over goes to a temporary folder. The arguments are those of ``fidelity``.

    Raises:
        DataError: As ``fidelity``.
        ModelError: If the original does not load or run.
        OutputError: If the temporary folder has no room.
    """
    conditions = Conditions(provider, optimization, threads, seed)
    made = conditions.session(original)
    chosen = _metric(metric, made, samples)
    kept: list[Outputs | Path] = []
    used, spool = 0, None
    for index, feed in enumerate(samples):
        outputs = ort.run(made, feed)
        used += sum(np.asarray(value).nbytes for value in outputs.values())
        if used <= memory_bytes:
            kept.append(ort.kept(outputs))
        else:
            spool = spool or Spool()
            kept.append(_written(outputs, spool.path / f"{index}.pickle"))
        _tell(progress, "reference", index + 1, len(samples))
    return Reference(chosen, samples, conditions, tuple(kept), spool)


def fidelity_against(
    known: Reference, result: Model, *, progress: Progress | None = None
) -> Fidelity:
    """Return what ``result`` keeps of the original whose outputs are ``known``.

    It is the same record as ``fidelity`` gives; see there for the errors.
    """
    return _compared(
        known.metric, known.pairs(), known.samples, known.conditions, result, progress
    )


def _metric(name: str, made: Any, samples: Samples) -> Metric:
    if len(samples) == 0:
        raise DataError(
            "fidelity needs samples, and there are 0\n  Give at least one; 100 are better."
        )
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(LOOKS, len(samples))).astype(int))
    looks = (ort.run(made, samples[int(index)]) for index in chosen)
    metric = metric_named(name, looks)
    if metric.needs_labels and samples.labels is None:
        raise DataError(
            f"metric {name} needs labels, and the samples have none: {samples.source}\n"
            "  Put an array labels into the .npz, one entry per sample, or give the labels'"
            " file beside the samples;\n  metric auto needs no labels."
        )
    if metric.truth is not None:
        # Told now that tokens and outputs do not fit, and not after all that takes long.
        outputs = ort.run(made, samples[0])
        metric.score(outputs, outputs, _truth(metric, samples, 0, samples[0]))
    return metric


def _truth(metric: Metric, samples: Samples, index: int, feed: ort.Feed) -> Any:
    label = None if samples.labels is None else samples.labels[index]
    return label if metric.truth is None else metric.truth(feed, label)


def _written(outputs: Outputs, path: Path) -> Path:
    try:
        path.write_bytes(pickle.dumps(outputs, protocol=pickle.HIGHEST_PROTOCOL))
    except OSError as error:
        raise OutputError(
            f"the original's outputs cannot be kept in {path.parent}: {error.strerror or error}\n"
            "  Free some space there, let TMPDIR name another folder, or give fewer samples."
        ) from error
    return path


def _compared(
    metric: Metric,
    pairs: Iterable[Pair],
    samples: Samples,
    conditions: Conditions,
    result: Model,
    progress: Progress | None,
) -> Fidelity:
    """Run the result on every feed, score it, and sum up."""
    made = conditions.session(result)
    scores: list[npt.NDArray[np.float64]] = []
    energies: dict[str, npt.NDArray[np.float64]] = {}
    stage = "fidelity" if conditions.optimization == "default" else "fidelity as written"
    for index, (feed, outputs) in enumerate(pairs):
        found = ort.run(made, feed, list(outputs))
        scores.append(metric.score(outputs, found, _truth(metric, samples, index, feed)))
        for name, value in outputs.items():
            if is_float(np.asarray(value)):
                energies[name] = energies.get(name, np.zeros(2)) + error_energy(value, found[name])
        _tell(progress, stage, index + 1, len(samples))
    return _record(metric, np.stack(scores), energies, conditions)


def _record(
    metric: Metric,
    scores: npt.NDArray[np.float64],
    energies: Mapping[str, npt.NDArray[np.float64]],
    conditions: Conditions,
) -> Fidelity:
    """Sum up scores of shape ``(samples, components, 3)`` by the component that lost most."""
    if metric.is_in_nats:
        tokens = scores[:, 0]
        drop, pooled = rise(tokens, seed=conditions.seed), perplexities(tokens.sum(axis=0))
        return _fidelity(metric, pooled, drop, perplexities(tokens), energies, conditions)
    whole, lost, weight = np.moveaxis(scores, 2, 0)
    drop = paired_bootstrap(lost, whole, seed=conditions.seed)
    if metric.is_counted:
        drop = no_less_than_shown(drop, int((whole != 0).any(axis=1).sum()))
    totals = scores.sum(axis=0)
    worst = int(lost_fraction(totals[:, 1], totals[:, 0]).argmax())
    per_sample = lost_fraction(lost, whole).argmax(axis=1)[:, None]
    rows = [np.take_along_axis(part, per_sample, axis=1)[:, 0] for part in (whole, lost, weight)]
    return _fidelity(metric, _values(*totals[worst]), drop, _values(*rows), energies, conditions)


def _fidelity(
    metric: Metric,
    pooled: tuple[Any, Any],
    drop: Estimate,
    per_sample: tuple[Any, Any],
    energies: Mapping[str, npt.NDArray[np.float64]],
    conditions: Conditions,
) -> Fidelity:
    before, after = per_sample
    return Fidelity(
        metric=metric.name,
        provider=providers.named(conditions.provider).name,
        optimization=conditions.optimization,
        samples=len(before),
        original=float(pooled[0]),
        result=float(pooled[1]),
        drop=Interval(**drop._asdict()),
        sqnr_db={name: _decibels(noise, signal) for name, (noise, signal) in energies.items()},
        scores_original=tuple(before.tolist()),
        scores_result=tuple(after.tolist()),
    )


def _values(whole: Any, lost: Any, weight: Any) -> tuple[Any, Any]:
    """Return the metric of the original and of the result; an unusable result has 0.

    Where the weight is 0 there was nothing to lose: the original counts as 1, and so does the
    result if it lost nothing.
    """
    weight, whole, lost = (np.asarray(part, dtype=np.float64) for part in (weight, whole, lost))
    is_empty = weight == 0
    scale = np.where(is_empty, 1.0, weight)
    before = np.where(is_empty, 1.0, whole / scale)
    left = np.where(np.isfinite(lost), whole - lost, 0.0) / scale
    return before, np.where(is_empty, np.where(lost == 0, 1.0, 0.0), left)


def _decibels(noise: float, signal: float) -> float:
    if noise == 0:
        return EXACT_DB
    if signal == 0 or not np.isfinite(noise):
        return -EXACT_DB
    return float(np.clip(10 * np.log10(signal / noise), -EXACT_DB, EXACT_DB))


def _tell(progress: Progress | None, stage: str, done: int, total: int) -> None:
    if progress is not None:
        progress(stage, done, total)
