"""A sequence of feeds that fit a model: read one at a time, and checked when read."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import SupportsIndex, overload

import numpy as np

from onnxsqueeze.data.fit import fitted
from onnxsqueeze.data.reader import Array, Feed, Reader, feed_digest
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec


def evenly(length: int, count: int) -> list[int]:
    """Return ``count`` positions in a sequence, evenly spaced from its first on.

    Example:
        >>> evenly(10, 4)
        [0, 2, 5, 7]
    """
    return [number * length // count for number in range(count)]


@dataclass(frozen=True, eq=False, repr=False)
class Samples(Sequence[Feed]):
    """Feeds for one model, each from input name to array, in the model's order and types.

    ``samples[i]`` reads one sample from its source and checks it; nothing is kept.

    Attributes:
        reader: Where they come from.
        specs: What the model needs.
        indices: Which of the reader's samples these are, in order.
        labels: One entry per sample, or None.
        notes: Casts and readings that the user should know of.
    """

    reader: Reader
    specs: tuple[InputSpec, ...]
    indices: tuple[int, ...]
    labels: Array | None = None
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where the samples come from, in words."""
        return self.reader.source

    def __repr__(self) -> str:
        labelled = "" if self.labels is None else ", labelled"
        return f"Samples({len(self)} from {self.source}{labelled})"

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Feed]:
        return (self[position] for position in range(len(self)))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Feed: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Feed | Samples:
        """Return one checked feed, or the samples of a slice.

        Raises:
            DataError: If the sample does not fit the model, or holds NaN or infinity.
        """
        if isinstance(index, slice):
            return self.subset(range(len(self))[index])
        return self._checked(self.indices[operator.index(index)])

    def _checked(self, inner: int) -> Feed:
        return fitted(self.reader.read(inner), self.specs, self.reader.place(inner))

    def subset(self, indices: Iterable[SupportsIndex]) -> Samples:
        """Return the samples at ``indices``, in that order, with their labels.

        Raises:
            IndexError: If an index is outside.
        """
        chosen = tuple(range(len(self))[operator.index(index)] for index in indices)
        labels = None if self.labels is None else self.labels[list(chosen)]
        inner = tuple(self.indices[index] for index in chosen)
        return Samples(self.reader, self.specs, inner, labels, self.notes)

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """A digest of each sample's values, or of its file; reads them all, and keeps no value."""
        return tuple(
            feed_digest(self._checked(inner))
            if self.reader.digest is None
            else self.reader.digest(inner)
            for inner in self.indices
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the samples, their order and labels, and how they were read; reads them all.

        Where they lie, and in which kind of file, is no part of it: an ``.npz`` and the same
        arrays in memory are equal. Images are taken as files, together with their settings.
        """
        digest = hashlib.sha256(self.reader.reading.encode())
        for one in self.digests:
            digest.update(one)
        if self.labels is not None:
            digest.update(feed_digest({"labels": self.labels}))
        return digest.hexdigest()


def split(samples: Samples, held_out: float, seed: int) -> tuple[Samples, Samples]:
    """Return two disjoint parts, the second with about the fraction ``held_out`` of the samples.

    Neither part is empty, the same arguments give the same parts, and each part keeps the order.

    Args:
        samples: At least two samples.
        held_out: Fraction of the samples in the second part, between 0 and 1.
        seed: Seed of the draw.

    Raises:
        DataError: If there is only one sample.
        ValueError: If ``held_out`` is not between 0 and 1.
    """
    if not 0.0 < held_out < 1.0:
        raise ValueError(f"held_out must be between 0 and 1, not {held_out}")
    count = len(samples)
    if count < 2:
        raise DataError(
            f"{count} sample(s) cannot be split into calibration and evaluation, 2 are needed\n"
            f"  The samples come from {samples.source}.\n"
            "  Give more samples (100 or more are better), or a second source to evaluate on."
        )
    held = min(max(round(count * held_out), 1), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    return samples.subset(np.sort(order[held:])), samples.subset(np.sort(order[:held]))
