"""What was seen of each activation tensor: extremes, histograms, per-channel moments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.facts.store import Fact
from onnxsqueeze.numerics.clipping import DEFAULT, Method
from onnxsqueeze.numerics.histogram import Histogram

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorRange:
    """One tensor over all samples.

    Attributes:
        count: Number of elements seen.
        low: Smallest finite element.
        high: Largest finite element.
        not_finite: Number of NaN or infinite elements among the sampled ones.
        sample: Histogram of an even sample of the elements.
        extremes: Histogram of the minima and maxima along the last axis.
        mean: Mean per channel, shape (channels,); empty where it was not asked for.
        mean_square: Mean square per channel.
        samples: Number of samples with a finite element.
        average_low: Mean of their smallest elements; minus infinity where it was not kept.
        average_high: Mean of their largest elements.
        method: The calibration method that was measured to lose clearly least, or the default one.
        reason: Why it is that one.
    """

    count: float
    low: float
    high: float
    not_finite: int
    sample: Histogram
    extremes: Histogram
    mean: Array
    mean_square: Array
    samples: int = 0
    average_low: float = -math.inf
    average_high: float = math.inf
    method: Method = DEFAULT
    reason: str = "not compared"


Ranges = Mapping[str, TensorRange]
_TOLD = ("samples", "average_low", "average_high", "method", "reason")


def joined(a: TensorRange, b: TensorRange) -> TensorRange:
    """Return the record of the elements of both, without loss; method and reason are a's."""
    if a.count == 0 or b.count == 0:
        return a if b.count == 0 else b
    seen = [one for one in (a, b) if one.samples > 0]
    samples = max(a.samples + b.samples, 1)
    mean = square = np.zeros(0)
    if a.mean.shape == b.mean.shape:
        shares = a.count / (a.count + b.count), b.count / (a.count + b.count)
        mean = shares[0] * a.mean + shares[1] * b.mean
        square = shares[0] * a.mean_square + shares[1] * b.mean_square
    return replace(
        a,
        count=a.count + b.count,
        low=min((one.low for one in seen), default=0.0),
        high=max((one.high for one in seen), default=0.0),
        not_finite=a.not_finite + b.not_finite,
        sample=_merged(a.sample, b.sample),
        extremes=_merged(a.extremes, b.extremes),
        mean=mean,
        mean_square=square,
        samples=a.samples + b.samples,
        average_low=sum(one.average_low * one.samples for one in seen) / samples,
        average_high=sum(one.average_high * one.samples for one in seen) / samples,
    )


def _merged(a: Histogram, b: Histogram) -> Histogram:
    """Return the histogram of both; one of nothing would only coarsen the other."""
    if a.total == 0 or b.total == 0:
        return a if b.total == 0 else b
    return a.merge(b)


def to_record(ranges: Ranges) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return ranges as JSON values and arrays, for a store."""
    values: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for index, (name, one) in enumerate(ranges.items()):
        values[name] = {
            "index": index,
            "count": one.count,
            "low": one.low,
            "high": one.high,
            "not_finite": one.not_finite,
            "sample": [one.sample.exponent, one.sample.first],
            "extremes": [one.extremes.exponent, one.extremes.first],
            **{key: getattr(one, key) for key in _TOLD},
        }
        arrays[f"{index}.sample"] = one.sample.counts
        arrays[f"{index}.extremes"] = one.extremes.counts
        arrays[f"{index}.mean"] = one.mean
        arrays[f"{index}.mean_square"] = one.mean_square
    return values, arrays


def from_record(fact: Fact) -> Ranges:
    """Return the ranges that ``to_record`` made a record of."""
    found: dict[str, TensorRange] = {}
    for name, value in fact.values.items():
        index = value["index"]
        found[name] = TensorRange(
            count=value["count"],
            low=value["low"],
            high=value["high"],
            not_finite=value["not_finite"],
            sample=_histogram(fact, value, "sample"),
            extremes=_histogram(fact, value, "extremes"),
            mean=np.asarray(fact.arrays[f"{index}.mean"]),
            mean_square=np.asarray(fact.arrays[f"{index}.mean_square"]),
            **{key: value[key] for key in _TOLD if key in value},
        )
    return found


def _histogram(fact: Fact, value: Mapping[str, Any], kind: str) -> Histogram:
    exponent, first = value[kind]
    return Histogram(exponent, first, np.asarray(fact.arrays[f"{value['index']}.{kind}"]))
