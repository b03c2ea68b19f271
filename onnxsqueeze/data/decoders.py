"""Samples of language models: what follows from token ids is filled in, and lengths may differ.

A decoder asks for more than its users have: a mask, positions, the keys and values of what was
read before. Where samples do not give these, all tokens are real, positions go on where the cache
ends, and the cache is empty: each sample is read from its start. Samples that give caches, with
one token each, are steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxsqueeze.data.fit import misfit
from onnxsqueeze.data.reader import Array, Feed, Header, Reader, header
from onnxsqueeze.data.stacked import Column, stacked_reader
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec
from onnxsqueeze.numerics.perplexity import MASK_NAMES, NOT_TOKENS

LENGTHS = "lengths"
"""The array of an ``.npz`` that says how long each sample of the concatenated token ids is."""
MASK, POSITIONS, CACHE_POSITION, BRANCH = (
    "attention_mask",
    "position_ids",
    "cache_position",
    "use_cache_branch",
)
_RANKS = {MASK: 2, POSITIONS: 2, CACHE_POSITION: 1, BRANCH: 1}
_CACHE = re.compile(r"past|cache", re.IGNORECASE)
_LEAST_CACHE_RANK = 3


def token_spec(specs: Sequence[InputSpec]) -> InputSpec | None:
    """Return the input of token ids: ``input_ids``, or the only other one of (batch, sequence)."""
    found = [
        spec
        for spec in specs
        if spec.dtype.kind in "iu"
        and spec.shape is not None
        and len(spec.shape) == 2
        and spec.name not in (*MASK_NAMES, *NOT_TOKENS)
    ]
    named = [spec for spec in found if spec.name == "input_ids"]
    if named:
        return named[0]
    return found[0] if len(found) == 1 else None


def cache_axis(spec: InputSpec) -> int | None:
    """Return the axis of a cache that counts what was read before; None if it is no such input.

    Example:
        >>> cache_axis(InputSpec("past_key_values.0.key", np.dtype("float32"), ("n", 4, "p", 64)))
        2
        >>> cache_axis(InputSpec("x", np.dtype("float32"), ("n", 4, "p", 64))) is None
        True
    """
    shape = spec.shape or ()
    if not _CACHE.search(spec.name) or len(shape) < _LEAST_CACHE_RANK or spec.dtype.kind in "iub":
        return None
    free = [axis for axis, dim in enumerate(shape) if axis and not isinstance(dim, int)]
    return free[0] if len(free) == 1 else None


def asked_for(names: Iterable[str], specs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """Return the inputs that samples must hold: those they do hold, and those not filled in.

    Args:
        names: What the samples hold.
        specs: What the model needs.
    """
    held = set(names)
    if token_spec(specs) is None:
        return tuple(specs)
    return tuple(spec for spec in specs if spec.name in held or not _is_filled(spec))


def _is_filled(spec: InputSpec) -> bool:
    if cache_axis(spec) is not None:
        return True
    return spec.shape is not None and _RANKS.get(spec.name) == len(spec.shape)


def filled(reader: Reader, specs: Sequence[InputSpec]) -> Reader:
    """Return a reader whose samples also hold what follows from their token ids.

    It is the same reader where nothing can be filled in or nothing is missing.
    """
    tokens = token_spec(specs)
    made: dict[str, InputSpec] = {}
    for found in reader.headers.values():
        missing = [spec for spec in specs if spec.name not in found and _is_filled(spec)]
        made |= {spec.name: spec for spec in missing}
    if tokens is None or not made:
        return reader

    def read(index: int) -> Feed:
        return fill(reader.read(index), specs)

    return replace(
        reader,
        read=read,
        headers={index: _filled_header(one, specs) for index, one in reader.headers.items()},
        notes=(*reader.notes, *_notes(list(made.values()))),
        reading=f"{reader.reading}filled: {', '.join(made)}",
        digest=None,
    )


def fill(feed: Mapping[str, Array], specs: Sequence[InputSpec]) -> Feed:
    """Return a feed with all inputs that follow from its token ids and caches.

    Example:
        >>> ids = InputSpec("input_ids", np.dtype("int64"), ("n", "s"))
        >>> mask = InputSpec("attention_mask", np.dtype("int64"), ("n", "t"))
        >>> fill({"input_ids": np.array([[7, 8]])}, [ids, mask])["attention_mask"].tolist()
        [[1, 1]]
    """
    tokens = token_spec(specs)
    if tokens is None or tokens.name not in feed or np.ndim(feed[tokens.name]) != 2:
        return dict(feed)
    batch, length = feed[tokens.name].shape
    past = _past(header(feed), specs)
    found = dict(feed)
    for spec in specs:
        if spec.name not in feed and _is_filled(spec):
            found[spec.name] = _value(spec, feed, batch, past, length)
    return found


def _value(
    spec: InputSpec, feed: Mapping[str, Array], batch: int, past: int, length: int
) -> Array:
    axis = cache_axis(spec)
    if axis is not None:
        return np.zeros(_cache_shape(spec, axis, batch), spec.dtype)
    if spec.name == MASK:
        return np.ones((batch, past + length), spec.dtype)
    if spec.name == BRANCH:
        return np.array([past > 0]).astype(spec.dtype)
    positions = np.arange(past, past + length)
    if spec.name == CACHE_POSITION:
        return positions.astype(spec.dtype)
    rows = np.broadcast_to(positions, (batch, length))
    mask = feed.get(MASK)
    if mask is not None and mask.shape == (batch, past + length):
        # Padding before the text takes no positions.
        rows = np.maximum(np.cumsum(mask, axis=1)[:, past:] - 1, 0)
    return rows.astype(spec.dtype)


def _cache_shape(spec: InputSpec, axis: int, batch: int) -> tuple[int, ...]:
    shape = spec.shape or ()
    return tuple(
        0 if place == axis else dim if isinstance(dim, int) else batch
        for place, dim in enumerate(shape)
    )


def _past(found: Header, specs: Sequence[InputSpec]) -> int:
    """Return how many tokens the caches that are given hold."""
    for spec in specs:
        axis = cache_axis(spec)
        if axis is not None and spec.name in found and len(found[spec.name][1]) > axis:
            return found[spec.name][1][axis]
    return 0


def _filled_header(found: Header, specs: Sequence[InputSpec]) -> Header:
    tokens = token_spec(specs)
    if tokens is None or tokens.name not in found or len(found[tokens.name][1]) != 2:
        return found
    # Zeros of no stride: shapes are wanted, and no memory.
    empty = {
        name: np.broadcast_to(np.zeros((), kind), dims) for name, (kind, dims) in found.items()
    }
    empty.pop(MASK, None)
    made = header(fill(empty, specs))
    return {**made, **found}


def _notes(made: Sequence[InputSpec]) -> tuple[str, ...]:
    caches = [spec.name for spec in made if cache_axis(spec) is not None]
    said = {
        MASK: "input 'attention_mask' is filled with ones: every token of a sample is real",
        POSITIONS: "input 'position_ids' is filled with 0, 1, ..., from where the cache ends",
        CACHE_POSITION: "input 'cache_position' is filled with 0, 1, ..., from the cache's end",
        BRANCH: "input 'use_cache_branch' is filled: whether a cache is given",
    }
    notes = [said[spec.name] for spec in made if spec.name in said]
    if caches:
        notes.append(
            f"{len(caches)} inputs of a cache ({caches[0]}, ...) are empty: each sample is read "
            "from its start; give caches and one token a sample to measure steps"
        )
    return tuple(notes)


def columns_reader(
    columns: Mapping[str, Column], specs: Sequence[InputSpec], source: str
) -> Reader:
    """Return a reader of arrays that hold all samples, stacked or concatenated.

    Raises:
        DataError: If an array does not fit, or one is missing that cannot be filled in.
    """
    asked = asked_for(columns, specs)
    if is_ragged(columns, specs):
        return ragged_reader(columns, asked, source)
    return stacked_reader(columns, asked, source)


def is_ragged(columns: Mapping[str, Column], specs: Sequence[InputSpec]) -> bool:
    """Return whether token ids are concatenated, with an array of lengths beside them."""
    tokens = token_spec(specs)
    is_input = any(spec.name == LENGTHS for spec in specs)
    if tokens is None or is_input or LENGTHS not in columns or tokens.name not in columns:
        return False
    return len(columns[tokens.name].shape) == 1


def ragged_reader(
    columns: Mapping[str, Column], specs: Sequence[InputSpec], source: str
) -> Reader:
    """Return a reader of token ids that are concatenated; ``lengths`` says where samples end.

    Other inputs of the same length are cut alike, such as a mask.

    Raises:
        DataError: If the lengths are no positive integers, or do not add up to each array.
    """
    lengths = columns[LENGTHS].whole()
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 1).any():
        raise DataError(
            f"{LENGTHS!r} is {lengths.dtype} {list(lengths.shape)}, and positive integers in one"
            f" axis are needed\n  Found in {source}.\n  Give the number of tokens of each sample."
        )
    ends = np.cumsum(lengths, dtype=np.int64)
    starts = ends - lengths
    cut = {name: column for name, column in columns.items() if name != LENGTHS}
    total = int(ends[-1]) if len(ends) else 0
    for name, column in cut.items():
        if column.shape != (total,):
            raise misfit(
                f"{name!r} has shape {list(column.shape)}, and {LENGTHS!r} adds up to {total}",
                source,
                specs,
                "Concatenate all samples' tokens in one axis, and give the length of each.",
            )

    def read(index: int) -> Feed:
        rows = slice(int(starts[index]), int(ends[index]))
        return {name: column.read(rows)[None] for name, column in cut.items()}

    return Reader(
        source=source,
        count=len(lengths),
        read=read,
        place=lambda index: f"sample {index} of {source}",
        headers={
            index: {name: (column.dtype, (1, int(length))) for name, column in cut.items()}
            for index, length in enumerate(lengths)
        },
        notes=(f"samples have {int(lengths.min())} to {int(lengths.max())} tokens",),
    )
