"""Where samples come from, before they are held against a model: one Reader per kind of source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Feed = dict[str, Array]
"""One sample: what a session is fed with, by input name."""

Header = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
"""Type and shape of each array of one sample, known without reading the values."""

LABEL_NAMES = ("labels", "label", "target", "targets", "y")
"""An array with one of these names holds labels, unless the model has an input of that name."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A source of samples that can be read in any order, one at a time.

    Attributes:
        source: Where the samples come from, for messages and reports.
        count: Number of samples.
        read: ``index -> feed``, as it is in the source.
        place: ``index -> words`` that say where a sample is, for messages.
        headers: What the samples hold, by index; one entry stands for all samples up to the next.
        labels: One entry per sample, or None.
        notes: What was decided on the way, for the report.
        reading: How arrays are made from the source, where that is not plain reading.
        digest: ``index -> digest`` of a sample's content where that is cheaper than reading it.
        is_stopped: Whether a limit ended a stream that may have had more.
    """

    source: str
    count: int
    read: Callable[[int], Feed]
    place: Callable[[int], str]
    headers: Mapping[int, Header]
    labels: Array | None = None
    notes: tuple[str, ...] = ()
    reading: str = ""
    digest: Callable[[int], bytes] | None = None
    is_stopped: bool = False


def header(feed: Mapping[str, Array]) -> Header:
    """Return the types and shapes of a feed's arrays."""
    return {name: (array.dtype, array.shape) for name, array in feed.items()}


def feed_digest(feed: Mapping[str, Array]) -> bytes:
    """Return the SHA-256 of a feed's names, types, shapes and values, in any order of names.

    Example:
        >>> a, b = np.zeros(2), np.ones(1)
        >>> feed_digest({"a": a, "b": b}) == feed_digest({"b": b, "a": a})
        True
        >>> feed_digest({"a": a}) == feed_digest({"a": a.reshape(2, 1)})
        False
    """
    digest = hashlib.sha256()
    for name in sorted(feed):
        array = feed[name]
        digest.update(repr((name, array.dtype.name, array.shape)).encode())
        if array.dtype == object:
            digest.update(repr(array.ravel().tolist()).encode())
        else:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
