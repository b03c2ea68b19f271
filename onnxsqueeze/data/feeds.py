"""Feeds that a program gives: a list in memory, or a stream that is written to disk once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from onnxsqueeze.data.archive import load_npz
from onnxsqueeze.data.decoders import fill
from onnxsqueeze.data.fit import check_header
from onnxsqueeze.data.reader import Array, Feed, Header, Reader, header
from onnxsqueeze.data.spool import Spool, write_feed
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec


def list_reader(items: Sequence[Any], source: str) -> Reader:
    """Return a reader of feeds, or ``(feed, label)`` pairs, that are in memory and stay there.

    Raises:
        DataError: If an item is no mapping, or only some are labelled.
    """
    pairs = [feed_and_label(item, index, source) for index, item in enumerate(items)]
    return Reader(
        source=source,
        count=len(pairs),
        read=lambda index: dict(pairs[index][0]),
        place=lambda index: f"sample {index} of {source}",
        headers={index: header(feed) for index, (feed, _) in enumerate(pairs)},
        labels=_labels([label for _, label in pairs], source),
    )


def spooled_reader(
    items: Iterable[Any], specs: Sequence[InputSpec], source: str, limit: int | None
) -> Reader:
    """Return a reader of a stream's feeds, at most ``limit``, written to a temporary folder first.

    Only one sample is in memory at a time. The folder is removed with the reader.

    Raises:
        DataError: If an item is no mapping or does not fit the model, or only some are labelled.
    """
    spool = Spool()
    headers: dict[int, Header] = {}
    labels: list[Array | None] = []
    for index, item in enumerate(islice(iter(items), limit)):
        feed, label = feed_and_label(item, index, source)
        check_header(header(fill(feed, specs)), specs, f"sample {index} of {source}")
        write_feed(spool.path / f"{index}.npz", feed)
        headers[index] = header(feed)
        labels.append(label)

    def read(index: int) -> Feed:
        return load_npz(spool.path / f"{index}.npz")

    return Reader(
        source=source,
        count=len(headers),
        read=read,
        place=lambda index: f"sample {index} of {source}",
        headers=headers,
        labels=_labels(labels, source),
        is_stopped=len(headers) == limit,
    )


def feed_and_label(item: Any, index: int, source: str) -> tuple[Mapping[str, Array], Array | None]:
    """Return one item's feed as arrays, and its label or None."""
    feed, label = item, None
    if isinstance(item, tuple) and len(item) == 2:
        feed, label = item[0], None if item[1] is None else np.asarray(item[1])
    if not isinstance(feed, Mapping):
        raise DataError(
            f"sample {index} is a {type(item).__name__}, and a mapping from input name to array "
            f"is needed\n  Found in {source}.\n"
            "  Give {name: array}, or the pair ({name: array}, label)."
        )
    return {str(name): np.asarray(value) for name, value in feed.items()}, label


def _labels(labels: Sequence[Array | None], source: str) -> Array | None:
    present = [label for label in labels if label is not None]
    if not present:
        return None
    if len(present) != len(labels) or len({label.shape for label in present}) > 1:
        raise DataError(
            f"{len(present)} of {len(labels)} samples have a label, or labels differ in shape\n"
            f"  Found in {source}.\n  Label all samples alike, or none."
        )
    return np.stack(present)


def guarded(items: Iterable[Any], describe: str) -> Iterator[Any]:
    """Yield the items of the user's iterable; what it raises becomes a DataError.

    Raises:
        DataError: With the type and message of the user's exception.
    """
    iterator = iter(items)
    index = 0
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        # The user's code may raise anything, and its own words are what the user needs to read.
        except Exception as error:
            raise DataError(
                f"{describe} failed at sample {index} with {type(error).__name__}: {error}\n"
                "  The error is in the code that makes the samples, not in the model."
            ) from error
        yield item
        index += 1
