"""What was seen of each activation tensor: extremes, histograms, per-channel moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.facts.store import Fact
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
    """

    count: float
    low: float
    high: float
    not_finite: int
    sample: Histogram
    extremes: Histogram
    mean: Array
    mean_square: Array


Ranges = Mapping[str, TensorRange]


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
        )
    return found


def _histogram(fact: Fact, value: Mapping[str, Any], kind: str) -> Histogram:
    exponent, first = value[kind]
    return Histogram(exponent, first, np.asarray(fact.arrays[f"{value['index']}.{kind}"]))
