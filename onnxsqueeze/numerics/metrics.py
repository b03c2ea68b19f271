"""Metrics: what a result keeps of the original, per sample, as sums that can be resampled.

A score is an array of shape ``(components, 3)`` with the columns ``original``, ``lost``,
``weight``. Summed over samples, the metric of the original is ``original / weight``, that of the
result is ``(original - lost) / weight``, and the drop is the largest ``lost / |original|`` of the
components. A lost of infinity says that the result is unusable: its drop is 1. Higher is better in
every metric but those of language models, whose columns are nats: see ``perplexity``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onnxsqueeze.errors import DataError
from onnxsqueeze.numerics.flips import NO_CLASS, background, expected_flips
from onnxsqueeze.numerics.own_metric import imported, score_own
from onnxsqueeze.numerics.perplexity import TOKEN_METRICS, Truth
from onnxsqueeze.numerics.slices import Slices, scales

Array = npt.NDArray[Any]
Outputs = Mapping[str, Any]
Score = Callable[[Outputs, Outputs, Any], npt.NDArray[np.float64]]
Kind = Literal["classes", "probabilities", "values", "labels"]
Background = tuple[int, float]
"""The class of over half of the rows, or NO_CLASS, and its share of them."""
Mean = tuple[Array, float]

COUNTED = ("top1", "accuracy")
"""Metrics that count decisions."""
FEWEST_LOOKS = 4
LOOKS_BYTES = 64 * 2**20
MOST_NAMED = 3
"""Outputs of one kind up to this are named one by one."""
CONSTANT = 1e-9
"""An output whose samples differ by less than this part of its energy does not differ."""

_TOLERANCE = 1e-3  # float16 rounds a softmax row's sum; ONNX Runtime's Sigmoid reaches 1 + 1.2e-7
_NORM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Metric:
    """How a result is scored against the original.

    Attributes:
        name: For the reader; for ``auto`` with what became of each output.
        needs_labels: Whether each sample must have a label.
        score: (original's outputs, result's outputs, label) to an array ``(components, 3)``.
        is_counted: Whether decisions are counted, so that few samples may show no loss by luck.
        truth: (feed, label) to what ``score`` gets in the label's place; None: the label.
        is_in_nats: Whether the columns are nats, see ``perplexity``.
    """

    name: str
    needs_labels: bool
    score: Score
    is_counted: bool = False
    truth: Truth | None = None
    is_in_nats: bool = False


def metric_named(name: str, looks: Iterable[Outputs]) -> Metric:
    """Return a metric by its name.

    * ``auto`` needs no labels: the original is the truth, scores 1, and the drop is the largest
      over all outputs and their components. Every output of floats has its relative error energy
      ``sum |y - y'|**2 / sum |y|**2`` (1% is 20 dB), also relative to what tells the samples
      apart, ``sum |y - mean|**2``, so that a constant is no result; ``values`` that hold several
      scales side by side, such as boxes and scores, have it for each (see ``slices.scales``);
      ``classes`` also the share of
      rows whose largest entry moves (the mean of what is counted and of ``expected_flips``), of
      all rows and, where a sample has many rows and most are of one class, with those weighing as
      much as all others together; ``probabilities`` also ``1 - IoU`` of ``y > 0.5``; ``labels``
      the share of unequal elements. A changed shape, and NaN or infinity where there was a number,
      is a drop of 1. See ``output_kinds`` for how the kind of an output is found.
    * ``top1``: agreement with the original's class, the argmax of the first output's last axis, or
      the first output itself where it holds integers or strings. ``accuracy``: the same with
      labels.
    * ``cosine``: mean cosine with the original's first output of floats, flattened.
    * ``mse``: 1 less the squared error relative to the mean square of that output.
    * ``perplexity``: of the tokens that follow, and ``divergence`` from the original's
      distribution of each token, both by their relative rise.
    * ``package.module:function`` is called with (outputs by name, label or None) and returns a
      number, higher is better.

    Args:
        name: The metric.
        looks: Outputs of the original on a few samples; only ``auto`` reads them.

    Raises:
        DataError: If there is no such metric, or its function cannot be imported.
    """
    if name == "auto":
        seen = _kept(looks)
        kinds = output_kinds(seen)
        behind = {
            name: _background(name, seen) for name, kind in kinds.items() if kind == "classes"
        }
        means = {name: _mean(name, seen) for name, kind in kinds.items() if kind != "labels"}
        apart = {
            name: scales([_double(outputs[name]) for outputs in seen])
            for name, kind in kinds.items()
            if kind == "values"
        }
        words = ", ".join(_words(kinds, apart))
        return Metric(f"auto ({words})", False, partial(_auto, kinds, behind, means, apart))
    if name in TOKEN_METRICS:
        score, truth = TOKEN_METRICS[name]
        return Metric(name, False, score, truth=truth, is_in_nats=True)
    named: dict[str, Score] = {
        "top1": _top1,
        "accuracy": _accuracy,
        "cosine": _cosine,
        "mse": _mse,
    }
    if name in named:
        return Metric(name, name == "accuracy", named[name], name in COUNTED)
    function = imported(name, ("auto", *named, *TOKEN_METRICS))
    return Metric(name, False, partial(score_own, name, function))


def output_kinds(looks: Iterable[Outputs]) -> dict[str, Kind]:
    """Return what each output holds, judged from the original's outputs on some samples.

    * ``labels``: no floats (integers, booleans, strings).
    * ``classes``: the last axis is at least 3 wide and every row of it is a distribution (not
      negative, sum 1 within 0.001); or the output is the only one of floats, has shape ``(N, C)``
      with ``C >= 3``, and its rows do not all have length 1 (within 0.01): class scores, and not
      embeddings (unless all values are in [0, 1] and a row has two over 0.5: those are labels
      that go together); or it is at least 3 wide and its name ends in ``logits``, as exporters
      name the scores of a language model's tokens.
    * ``probabilities``: all values are in [0, 1] (within 0.001), some under and some over
      0.5.
    * ``values``: everything else.

    Example:
        >>> output_kinds([{"p": np.array([[0.1, 0.9]]), "n": np.array([3]), "y": np.ones(1)}])
        {'p': 'probabilities', 'n': 'labels', 'y': 'values'}
    """
    seen: dict[str, list[list[bool]]] = {}
    for outputs in looks:
        for name, value in outputs.items():
            found = seen.setdefault(name, [])
            if is_float(array := np.asarray(value)):
                found.append(_features(_double(array)))
    floats = [name for name, found in seen.items() if found]
    return {
        name: _kind(found, only=len(floats) == 1, is_named=name.lower().endswith("logits"))
        for name, found in seen.items()
    }


def _words(kinds: Mapping[str, Kind], apart: Mapping[str, Slices | None]) -> list[str]:
    """Return what each output holds, in words; of many alike, such as caches, the first."""
    alike: dict[str, list[str]] = {}
    for output, kind in kinds.items():
        alike.setdefault(_worded(kind, apart.get(output)), []).append(output)
    lines = []
    for word, named in alike.items():
        if len(named) > MOST_NAMED:
            lines.append(f"{named[0]} and {len(named) - 1} more: {word}")
        else:
            lines.extend(f"{output}: {word}" for output in named)
    return lines


def _worded(kind: Kind, slices: Slices | None) -> str:
    return kind if slices is None else f"{kind} of {len(slices.groups)} scales"


def _features(y: Array) -> list[bool]:
    """Return what speaks for or against a kind; any over the samples is what counts.

    [wide, no distribution, not (N, C), not unit rows, outside [0, 1], some < 0.5, some > 0.5, a
    row with two > 0.5]
    """
    if y.size == 0:
        return [False] * 8
    rows = y.reshape(-1, y.shape[-1] if y.ndim else 1)
    sums_to_one = (np.abs(rows.sum(axis=1) - 1) <= _TOLERANCE).all()
    unit = (np.abs(np.linalg.norm(rows, axis=1) - 1) <= _NORM_TOLERANCE).all()
    return [
        rows.shape[1] >= 3,
        not (bool(sums_to_one) and bool((rows >= -_TOLERANCE).all())),
        y.ndim != 2,
        not unit,
        not bool(((y >= -_TOLERANCE) & (y <= 1 + _TOLERANCE)).all()),
        bool((y < 0.5).any()),
        bool((y > 0.5).any()),
        bool(((rows > 0.5).sum(axis=1) > 1).any()),
    ]


def _kind(found: list[list[bool]], *, only: bool, is_named: bool) -> Kind:
    if not found:
        return "labels"
    wide, spread, not_flat, not_unit, outside, under, over, two = np.any(found, axis=0).tolist()
    if wide and (is_named or not spread):
        return "classes"
    if wide and only and not_unit and not not_flat and (outside or not two):
        return "classes"
    if under and over and not outside:
        return "probabilities"
    return "values"


def is_float(array: Array) -> bool:
    """Return whether the array holds floats, those of ml_dtypes included."""
    kind = array.dtype.kind
    return kind == "f" or (kind == "V" and "float" in array.dtype.name)


def _double(value: Any) -> Array:
    return np.asarray(value).astype(np.float64)


def error_energy(original: Any, result: Any) -> tuple[float, float]:
    """Return the energies of the error and of the original, ``(sum |y - y'|**2, sum |y|**2)``.

    Both are in float64 and over the elements where ``y`` is finite.
    The error is infinite where the shapes differ, or where one holds NaN or infinity and the other
    something else.

    Example:
        >>> error_energy(np.array([3.0, np.nan]), np.array([3.5, np.nan]))
        (0.25, 9.0)
        >>> error_energy(np.array([3.0, 1.0]), np.array([3.0, np.nan]))
        (inf, 10.0)
    """
    y, other = _double(original), _double(result)
    finite = np.isfinite(y)
    whole = float(np.square(y[finite]).sum())
    if y.shape != other.shape:
        return float("inf"), whole
    same_elsewhere = np.array_equal(y[~finite], other[~finite], equal_nan=True)
    if not same_elsewhere or not np.isfinite(other[finite]).all():
        return float("inf"), whole
    return float(np.square(y[finite] - other[finite]).sum()), whole


def _background(name: str, looks: list[Outputs]) -> Background:
    """Return the class of most rows and its share; none where a sample is one row."""
    rows = [_argmax(np.asarray(outputs[name])) for outputs in looks]
    every = np.concatenate(rows)
    behind = background(every) if any(len(row) > 1 for row in rows) else NO_CLASS
    return behind, float((every == behind).mean())


def _kept(looks: Iterable[Outputs]) -> list[Outputs]:
    """Return looks up to a bound of memory, but the fewest that tell something."""
    seen: list[Outputs] = []
    size_bytes = 0
    for outputs in looks:
        seen.append(outputs)
        size_bytes += sum(np.asarray(value).nbytes for value in outputs.values())
        if len(seen) >= FEWEST_LOOKS and size_bytes > LOOKS_BYTES:
            break
    return seen


def _mean(name: str, looks: list[Outputs]) -> Mean | None:
    """Return the mean output, and by how much the spread around it is underestimated.

    None where it cannot be told: of few looks, of shapes that change, of an output that does not.
    """
    outputs = [_double(outputs[name]) for outputs in looks]
    if len(outputs) < FEWEST_LOOKS or len({output.shape for output in outputs}) > 1:
        return None
    mean = sum(outputs[1:], outputs[0]) / len(outputs)
    spread = sum(float(np.square(output - mean).sum()) for output in outputs)
    whole = sum(float(np.square(output).sum()) for output in outputs)
    if not np.isfinite(spread) or spread <= CONSTANT * whole:
        return None
    return mean, len(outputs) / (len(outputs) - 1)


def _difference(y: Array, other: Array, mean: Mean) -> tuple[float, float]:
    """Return the energies of the error and of what tells this sample from the mean."""
    lost, whole = error_energy(y, other)
    if y.shape != mean[0].shape:
        return lost, whole
    return lost, mean[1] * error_energy(y, mean[0])[0]


def _auto(
    kinds: Mapping[str, Kind],
    behind: Mapping[str, Background],
    means: Mapping[str, Mean | None],
    apart: Mapping[str, Slices | None],
    original: Outputs,
    result: Outputs,
    _: Any,
) -> Array:
    parts = []
    for name, kind in kinds.items():
        y, other = np.asarray(original[name]), np.asarray(result[name])
        if kind == "classes":
            parts.extend(_class_losses(y, other, behind[name]))
        else:
            parts.extend(_losses(kind, y, other))
        if (slices := apart.get(name)) is not None:
            pairs = zip(slices.parts(y), slices.parts(other), strict=True)
            parts.extend(error_energy(before, after) for before, after in pairs)
        if (mean := means.get(name)) is not None:
            parts.append(_difference(y, other, mean))
    lost, whole = np.array(parts, dtype=np.float64).reshape(-1, 2).T
    return np.stack([whole, lost, whole], axis=1)


def _losses(kind: Kind, y: Array, other: Array) -> list[tuple[float, float]]:
    """Return (lost, whole) per component; the number of components depends on the kind alone."""
    if kind == "labels":
        return [(float("inf") if y.shape != other.shape else float((y != other).sum()), y.size)]
    energy = error_energy(y, other)
    if kind == "values":
        return [energy]
    if not np.isfinite(energy[0]):
        return [energy, (float("inf"), 1.0)]
    before, after = y > 0.5, other > 0.5
    return [energy, (float((before ^ after).sum()), float((before | after).sum()))]


def _class_losses(y: Array, other: Array, behind: Background) -> list[tuple[float, float]]:
    """Return (lost, whole) of the energy, of all rows, and with the background weighing half."""
    energy = error_energy(y, other)
    most, share = behind
    count = 2 if most == NO_CLASS or share == 1 else 3
    if not np.isfinite(energy[0]):
        return [energy, (float("inf"), 1.0), (float("inf"), 1.0)][:count]
    before = _argmax(y)
    # The count alone says little on few rows, and the expectation misses errors that are no noise.
    moved = (expected_flips(y, other) + (before != _argmax(other))) / 2
    rest = [energy, (float(moved.sum()), float(moved.size))]
    if count == 2:
        return rest
    weights = np.where(before == most, 0.5 / share, 0.5 / (1 - share))
    return [*rest, (float(weights @ moved), float(weights.sum()))]


def _argmax(y: Array) -> Array:
    """Return the argmax of the last axis, flat, and -1 for a row that holds NaN."""
    rows = _double(y).reshape(-1, y.shape[-1])
    return np.where(np.isnan(rows).any(axis=1), -1, rows.argmax(axis=1))


def _predicted(metric: str, outputs: Outputs) -> Array:
    """Return the classes that the first output names, flat."""
    name, value = next(iter(outputs.items()))
    array = np.asarray(value)
    if not is_float(array):
        return array.reshape(-1)
    if array.ndim == 0 or array.shape[-1] < 2:
        raise DataError(
            f"metric {metric} needs class scores, and output {name!r} has shape"
            f" {list(array.shape)}\n"
            "  Its last axis must be 2 or wider; use auto, mse or a function of your own instead."
        )
    return _argmax(array)


def _top1(original: Outputs, result: Outputs, _: Any) -> Array:
    before, after = _predicted("top1", original), _predicted("top1", result)
    lost = float((before != after).sum()) if before.shape == after.shape else float("inf")
    return np.array([[before.size, lost, before.size]], dtype=np.float64)


def _accuracy(original: Outputs, result: Outputs, label: Any) -> Array:
    before, after = _predicted("accuracy", original), _predicted("accuracy", result)
    truth = np.asarray(label).reshape(-1)
    if truth.shape != before.shape:
        raise DataError(
            f"a label has {truth.size} entries, and the model names {before.size} classes for its"
            " sample\n"
            "  Metric accuracy compares one label with each row of the first output."
        )
    if (truth.dtype.kind in "US") != (before.dtype.kind in "USO"):
        raise DataError(
            f"labels are {truth.dtype} and the model's classes are {before.dtype}\n"
            "  Give the number of the class as the model counts them, from 0, or its name where it"
            " puts out names."
        )
    right = float((before == truth).sum())
    lost = right - float((after == truth).sum()) if after.shape == truth.shape else float("inf")
    return np.array([[right, lost, truth.size]], dtype=np.float64)


def _first_floats(metric: str, original: Outputs, result: Outputs) -> tuple[Array, Array]:
    for name, value in original.items():
        if is_float(np.asarray(value)):
            return _double(value), _double(result[name])
    raise DataError(
        f"metric {metric} needs an output of floats, and the model's are {list(original)}\n"
        "  Use auto or top1 instead."
    )


def _cosine(original: Outputs, result: Outputs, _: Any) -> Array:
    """Lost is ``1 - cos = |y/|y| - y'/|y'||**2 / 2``, which is exactly 0 for equal outputs."""
    y, other = _first_floats("cosine", original, result)
    lost = float("inf")
    if np.isfinite(error_energy(y, other)[0]):
        lost = float(np.square(_unit(y) - _unit(other)).sum() / 2)
    return np.array([[1.0, lost, 1.0]])


def _unit(y: Array) -> Array:
    flat = np.nan_to_num(y.reshape(-1), posinf=0.0, neginf=0.0)
    length = float(np.linalg.norm(flat))
    return flat / length if length else flat


def _mse(original: Outputs, result: Outputs, _: Any) -> Array:
    lost, whole = error_energy(*_first_floats("mse", original, result))
    return np.array([[whole, lost, whole]])
