"""What a weight is multiplied with, and what it should give, as moments over streamed samples.

``input_moments`` are of one model. ``paired_moments`` are of a changed model, with the original's
outputs as targets: both run on the same samples, and rows are taken at the same places of both.
One sample in five is kept apart, to choose by.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.measure.grams import Samples, exposing, with_exposed
from onnxsqueeze.measure.prune_readers import Reader, bias, residual, rows_of_output
from onnxsqueeze.measure.prune_rows import live
from onnxsqueeze.measure.prune_sums import Sum, Sums
from onnxsqueeze.numerics.pruning_refit import Inputs, Moments

Array = npt.NDArray[Any]
Tell = Callable[[int, int], None]
Tensors = Mapping[str, Array]
Draw = Callable[[], tuple[int, np.random.Generator]]

ROWS_PER_FEATURE = 32
FEWEST_ROWS, MOST_ROWS = 8192, 65536
PASS_BYTES = 384 * 2**20
"""Memory for the moments that are collected in one pass over the samples."""


@dataclass(frozen=True)
class Pair:
    """A weight as the original reads it, and as a changed model does.

    Attributes:
        before: The original's reader.
        after: The changed model's.
        outputs: Which outputs stay, (groups, out), equally many in each group.
    """

    before: Reader
    after: Reader
    outputs: Array


def input_moments(
    model: ir.Model,
    readers: Sequence[Reader],
    samples: Samples,
    *,
    mask: str | None = None,
    seed: int = 0,
    progress: Tell | None = None,
) -> dict[str, tuple[tuple[Inputs, Inputs], ...]]:
    """Return by weight, for each of its matrices, the moments to fit to and to choose by.

    Args:
        model: The model.
        readers: Its weights.
        samples: Feeds.
        mask: Input that tells which places count; see ``mask_input``.
        seed: Seed of the choice of rows.
        progress: Called with (done, all) of the samples.
    """
    found: dict[str, tuple[tuple[Inputs, Inputs], ...]] = {}
    passes = list(_passes(readers))
    for number, part in enumerate(passes):
        made = exposing(model, [reader.x for reader in part])
        sums = {reader.name: Sums(len(samples)) for reader in part}
        for index, feed in enumerate(samples):
            values = tensors(made, feed, mask)
            for reader in part:
                x = reader.rows(values[reader.x], *_draw(reader, len(samples), seed, index))
                sums[reader.name].add((x,), index)
            if progress is not None:
                progress(number * len(samples) + index + 1, len(passes) * len(samples))
        found |= {name: one.split(Sum.inputs) for name, one in sums.items() if one.rows}
    return found


def paired_moments(
    original: ir.Model,
    changed: ir.Model,
    pairs: Sequence[Pair],
    samples: Samples,
    *,
    mask: str | None = None,
    seed: int = 0,
    progress: Tell | None = None,
) -> dict[str, tuple[tuple[Moments, Moments], ...]]:
    """Return by weight, for each matrix, the moments of fitting to the original's outputs.

    Where the output is added to another tensor, the target makes up for that one's error, too.

    Args:
        original: The model whose outputs are the targets.
        changed: The model whose rows are fitted to, with the same inputs.
        pairs: The weights, none of them wide.
        samples: Feeds.
        mask: Input that tells which places count; see ``mask_input``.
        seed: Seed of the choice of rows.
        progress: Called with (done, all) of the samples.
    """
    aims = [Aim(pair) for pair in pairs]
    first = exposing(original, [name for aim in aims for name in aim.in_original])
    second = exposing(changed, [name for aim in aims for name in aim.in_changed])
    sums = [Sums(len(samples)) for _ in pairs]
    for index, feed in enumerate(samples):
        before, after = tensors(first, feed, mask), tensors(second, feed, mask)
        for pair, aim, one in zip(pairs, aims, sums, strict=True):
            draw = partial(_draw, pair.before, len(samples), seed, index)
            x = pair.after.rows(after[pair.after.x], *draw())
            one.add((x, aim.targets(before, after, draw)), index)
        if progress is not None:
            progress(index + 1, len(samples))
    both = zip(pairs, sums, strict=True)
    return {pair.before.name: one.split(Sum.moments) for pair, one in both if one.rows}


class Aim:
    """How rows and targets of one weight come out of the tensors of both models."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._added = residual(pair.before)
        own = bias(pair.before)
        groups = len(pair.outputs)
        takes = own is not None and own.is_own
        self._bias = own.values.reshape(groups, 1, -1) if own is not None and takes else None

    @property
    def in_original(self) -> list[str]:
        """Names of what is needed of the original."""
        return [self._pair.before.y, *([] if self._added is None else [self._added])]

    @property
    def in_changed(self) -> list[str]:
        """Names of what is needed of the changed model."""
        return [self._pair.after.x, *([] if self._added is None else [self._added])]

    def targets(self, before: Tensors, after: Tensors, draw: Draw) -> Array:
        """Return t (groups, rows, outputs that stay), at the places of the changed rows.

        Args:
            before: Tensors of the original.
            after: Tensors of the changed model.
            draw: Gives how many rows are taken at most, and what draws them: as for the rows.
        """
        original, stay = self._pair.before, self._pair.outputs
        target = rows_of_output(original, before[original.y], *draw())
        if self._bias is not None:
            target = target - self._bias
        target = _taken(target, stay)
        if self._added is None or before[self._added].shape != before[original.y].shape:
            return target
        wanted = _taken(rows_of_output(original, before[self._added], *draw()), stay)
        found = rows_of_output(self._pair.after, after[self._added], *draw())
        moved: Array = target + wanted - found
        return moved


def _taken(rows: Array, stay: Array) -> Array:
    return np.stack([one[:, kept] for one, kept in zip(rows, stay, strict=True)])


def _draw(reader: Reader, samples: int, seed: int, index: int) -> tuple[int, np.random.Generator]:
    """Return how many rows of a sample are taken at most, and what draws them."""
    wanted = min(max(ROWS_PER_FEATURE * reader.features, FEWEST_ROWS), MOST_ROWS)
    return -(-wanted // samples), np.random.default_rng(
        (seed, index, zlib.crc32(reader.name.encode()))
    )


def _passes(readers: Sequence[Reader]) -> Iterator[list[Reader]]:
    """Yield the readers in parts whose moments fit into memory together."""
    part: list[Reader] = []
    used = 0
    for reader in readers:
        size = (4 + 8) * 2 * reader.features**2  # two sums, and what is made of them
        if part and used + size > PASS_BYTES:
            yield part
            part, used = [], 0
        part.append(reader)
        used += size
    if part:
        yield part


def tensors(made: Any, feed: Tensors, mask: str | None) -> dict[str, Array]:
    """Return the tensors of one sample, at the places that count."""
    chosen = None if mask is None else feed[mask]
    return {name: live(value, chosen) for name, value in with_exposed(made, feed).items()}
