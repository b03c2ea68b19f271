"""Many samples in one array per input: stacked on an axis of their own, or as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from onnxsqueeze.data.fit import check_names, misfit
from onnxsqueeze.data.reader import LABEL_NAMES, Array, Feed, Reader
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec


class Column(Protocol):
    """All samples of one input, read a slice at a time."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array with all samples."""

    def read(self, key: int | slice) -> Array:
        """Return ``array[key]`` in memory."""

    def whole(self) -> Array:
        """Return the whole array in memory."""


@dataclass(frozen=True)
class ArrayColumn:
    """A column that is in memory already; what it returns shares that memory."""

    array: Array

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array with all samples."""
        return self.array.shape

    def read(self, key: int | slice) -> Array:
        """Return ``array[key]``."""
        return np.asarray(self.array[key])

    def whole(self) -> Array:
        """Return the array."""
        return self.array


Layout = Literal["stacked", "batch", "one", "repeated"]


def layout(shape: tuple[int, ...], spec: InputSpec) -> Layout | None:
    """Return how an array of ``shape`` holds samples of one input, or None if it cannot.

    ``stacked``: sample i is ``array[i]``; an unranked input is always read so. ``batch``: sample i
    is ``array[i : i + 1]``, where the model's first axis is 1 or free. ``one``: the array is one
    sample, as the model's first axis has its size. ``repeated``: one number for all samples.

    Example:
        >>> spec = InputSpec("x", np.dtype("float32"), ("N", 3))
        >>> layout((10, 1, 3), spec), layout((10, 3), spec), layout((3,), spec)
        ('stacked', 'batch', None)
        >>> layout((2, 1, 128), InputSpec("state", np.dtype("float32"), (2, "N", 128)))
        'one'
    """
    if spec.shape is None:
        return "stacked" if shape else "repeated"
    if len(shape) == len(spec.shape) + 1:
        return "stacked"
    if len(shape) != len(spec.shape):
        return None
    if not spec.shape:
        return "repeated"
    first = spec.shape[0]
    if first == 1 or not isinstance(first, int):
        return "batch"
    return "one" if first == shape[0] else None


def stacked_reader(
    columns: Mapping[str, Column], specs: Sequence[InputSpec], source: str
) -> Reader:
    """Return a reader of arrays that hold all samples; one named like a label holds the labels.

    Raises:
        DataError: If names or ranks do not fit, or the inputs have unequal numbers of samples.
    """
    inputs = {spec.name for spec in specs}
    label_names = [name for name in columns if name in LABEL_NAMES and name not in inputs]
    if len(label_names) > 1:
        raise DataError(
            f"{' and '.join(map(repr, label_names))} both look like labels, one array is needed\n"
            f"  Found in {source}.\n  Leave out or rename all but one."
        )
    check_names([name for name in columns if name not in label_names], specs, source)
    layouts = {
        spec.name: _layout_or_refuse(columns[spec.name], spec, source, specs) for spec in specs
    }
    count = _count(columns, layouts, source)
    labels = columns[label_names[0]].whole() if label_names else None
    one = {
        spec.name: (
            columns[spec.name].dtype,
            _sample_shape(columns[spec.name].shape, layouts[spec.name]),
        )
        for spec in specs
    }
    return Reader(
        source=source,
        count=count,
        read=lambda index: _read(columns, layouts, index),
        place=lambda index: f"sample {index} of {source}",
        headers={0: one} if count else {},
        labels=labels,
        notes=_notes(columns, layouts),
    )


def _layout_or_refuse(
    column: Column, spec: InputSpec, source: str, specs: Sequence[InputSpec]
) -> Layout:
    found = layout(column.shape, spec)
    if found is None:
        rank = len(spec.shape or ())
        raise misfit(
            f"input {spec.name!r} has rank {len(column.shape)}, shape {list(column.shape)}, "
            f"neither stacked samples of rank {rank} nor one batch",
            source,
            specs,
            f"Stack the samples on a new first axis (rank {rank + 1}): numpy.stack(samples).",
        )
    return found


def _count(columns: Mapping[str, Column], layouts: Mapping[str, Layout], source: str) -> int:
    counts = {
        name: 1 if how == "one" else columns[name].shape[0]
        for name, how in layouts.items()
        if how != "repeated"
    }
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
        shapes = ", ".join(f"{name!r} {list(columns[name].shape)}" for name in counts)
        raise DataError(
            f"the inputs have unequal numbers of samples: {listed}\n"
            f"  Found in {source}, with the shapes {shapes}.\n"
            "  Stack each input's samples on a new first axis of one length."
        )
    return next(iter(counts.values()), 1)


def _sample_shape(shape: tuple[int, ...], how: Layout) -> tuple[int, ...]:
    if how == "stacked":
        return shape[1:]
    return (1, *shape[1:]) if how == "batch" else shape


def _read(columns: Mapping[str, Column], layouts: Mapping[str, Layout], index: int) -> Feed:
    keys: dict[Layout, int | slice] = {"stacked": index, "batch": slice(index, index + 1)}
    return {
        name: columns[name].read(keys[how]) if how in keys else columns[name].whole()
        for name, how in layouts.items()
    }


def _notes(columns: Mapping[str, Column], layouts: Mapping[str, Layout]) -> tuple[str, ...]:
    return tuple(
        f"input {name!r} is one batch of {columns[name].shape[0]}, read as samples of batch 1"
        for name, how in layouts.items()
        if how == "batch" and columns[name].shape[0] != 1
    )
