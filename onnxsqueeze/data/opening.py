"""Open whatever the user calls samples, and hold its headers against the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxsqueeze.data.archive import npy_array, npz_arrays
from onnxsqueeze.data.decoders import asked_for, columns_reader, filled
from onnxsqueeze.data.feeds import guarded, list_reader, spooled_reader
from onnxsqueeze.data.fit import cast_notes, check_header, needs
from onnxsqueeze.data.folders import folder_reader
from onnxsqueeze.data.function import function_reader, is_function_name
from onnxsqueeze.data.images import ImageSettings
from onnxsqueeze.data.label_files import read_labels
from onnxsqueeze.data.reader import Array, Reader
from onnxsqueeze.data.samples import Samples, evenly
from onnxsqueeze.data.stacked import ArrayColumn
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec

Source = str | Path | Mapping[str, Array] | Iterable[Any]


def open_samples(
    source: Source,
    specs: Sequence[InputSpec],
    *,
    labels: str | Path | Array | None = None,
    images: ImageSettings | None = None,
    limit: int | None = None,
) -> Samples:
    """Return the samples of a source, with names, types and shapes checked and values unread.

    Sources:

    * an ``.npz`` or a mapping, with an array per input: samples stacked on a new first axis, or
      one batch, which is read as samples of batch 1; an array ``labels``, ``label``, ``target``
      or ``y`` that is no input holds the labels;
    * a folder with one ``.npz`` per sample, or one ``.npy`` where the model has one input;
    * a folder with ONNX ``test_data_set_*`` folders;
    * a folder of images, with ``images``; sub-folders are classes;
    * ``package.module:function``, which gives feeds: **this imports and runs the user's code**;
    * an iterable of feeds or ``(feed, label)`` pairs. A list stays in memory, anything else is
      written to a temporary folder once.

    An array ``lengths`` beside token ids in one axis says where samples end. What follows from a
    language model's token ids is filled in, see ``decoders``.

    Pickled objects are never read. float64 for float32, and int32 for int64 or the reverse, are
    cast and noted; integers must keep their values.

    Args:
        source: As above.
        specs: What the model needs.
        labels: One entry per sample of the source; instead of those that the source holds.
        images: How images become arrays.
        limit: Keep at most this many samples, evenly spaced through the source; the first ones of
            a stream.

    Raises:
        DataError: If the samples are missing or do not fit the model.
        DependencyError: If images are given and Pillow is not installed.
        ValueError: If ``limit`` is not positive.

    Example:
        >>> spec = InputSpec("x", np.dtype("float32"), ("N", 3))
        >>> arrays = {"x": np.ones((10, 1, 3), np.float32), "y": np.arange(10)}
        >>> samples = open_samples(arrays, [spec])
        >>> len(samples), samples[0]["x"].shape, samples.labels.shape
        (10, (1, 3), (10,))
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    if not specs:
        raise DataError("the model has no inputs, so there is nothing to feed\n  Give no samples.")
    if isinstance(source, Samples):
        reader, indices, found_labels = source.reader, source.indices, source.labels
    else:
        reader = filled(_reader(source, tuple(specs), images, limit), specs)
        indices, found_labels = tuple(range(reader.count)), reader.labels
    if reader.count == 0:
        raise DataError(f"{reader.source} holds 0 samples, at least 1 is needed\n{needs(specs)}")
    if images is not None and not reader.reading:
        raise DataError(
            f"image settings were given, and {reader.source} holds no images\n"
            "  Leave them out, or name a folder of images."
        )
    notes = dict.fromkeys(reader.notes)
    for index, found in reader.headers.items():
        check_header(found, specs, reader.place(index))
        notes.update(dict.fromkeys(cast_notes(found, specs)))
    checked = found_labels if labels is None else read_labels(labels)
    every = Samples(reader, tuple(specs), indices, None, tuple(notes))
    every = replace(every, labels=_one_each(checked, every))
    if limit is None or limit >= len(every):
        return every
    return every.subset(evenly(len(every), limit))


def _reader(
    source: Source, specs: tuple[InputSpec, ...], images: ImageSettings | None, limit: int | None
) -> Reader:
    if isinstance(source, str | Path):
        return _named_reader(source, specs, images, limit)
    if isinstance(source, Mapping):
        columns = {str(name): ArrayColumn(np.asarray(value)) for name, value in source.items()}
        return columns_reader(columns, specs, "the given arrays")
    if isinstance(source, list | tuple):
        return list_reader(source, "the given feeds")
    return spooled_reader(guarded(source, "the given stream"), specs, "the given stream", limit)


def _named_reader(
    source: str | Path,
    specs: tuple[InputSpec, ...],
    images: ImageSettings | None,
    limit: int | None,
) -> Reader:
    path = Path(source)
    if path.is_dir():
        return folder_reader(path, specs, images)
    if path.is_file():
        return _file_reader(path, specs)
    if isinstance(source, str) and is_function_name(source):
        return function_reader(source, specs, limit)
    raise DataError(
        f"there are no samples at {source}\n{needs(specs)}\n"
        "  Give an .npz, a folder of samples or images, or package.module:function."
    )


def _file_reader(path: Path, specs: tuple[InputSpec, ...]) -> Reader:
    asked = asked_for((), specs)
    if path.suffix == ".npy" and len(asked) == 1:
        return columns_reader({asked[0].name: npy_array(path)}, specs, str(path))
    return columns_reader(npz_arrays(path, unpack=True), specs, str(path))


def _one_each(labels: Array | None, samples: Samples) -> Array | None:
    if labels is None:
        return None
    found, needed = labels.shape[0] if labels.ndim else 0, len(samples)
    # A stream that was stopped by the limit is shorter than its labels.
    if found > needed and samples.reader.is_stopped:
        return labels[:needed]
    if found != needed:
        raise DataError(
            f"there are {found} labels and {needed} samples, one label per sample is needed\n"
            f"  The samples come from {samples.source}.\n"
            "  Give the labels of these samples, in their order."
        )
    return labels
