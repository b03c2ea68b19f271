"""What kernels with too many features for a Gram matrix read, as rows in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.measure.grams import Samples, exposing
from onnxsqueeze.measure.prune_moments import Aim, Pair, tensors
from onnxsqueeze.measure.prune_sums import HELD_OUT
from onnxsqueeze.numerics.pruning_descent import Rows

Array = npt.NDArray[Any]

MOST_BYTES = 256 * 2**20
"""Memory for the rows; twice as much is taken while they are fitted to."""
MOST_WINDOWS = 16384


@dataclass(frozen=True)
class Windows:
    """Windows of a kernel's input with what it should make of them: to fit to, and to choose by.

    With fewer than ``HELD_OUT`` windows both are the same.
    """

    fit: Rows
    held_out: Rows


def as_windows(pair: Pair) -> Pair:
    """Return a pair of wide readers as readers of whole windows."""
    before, after = (replace(one, is_wide=False) for one in (pair.before, pair.after))
    outputs = pair.outputs.reshape(before.shape[0], -1)[:, 0]
    return Pair(before, after, outputs[np.newaxis])


def windows(
    original: ir.Model,
    changed: ir.Model,
    pair: Pair,
    samples: Samples,
    *,
    mask: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Windows | None:
    """Return what a kernel reads in a changed model, with the original's outputs as targets.

    Args:
        original: The model whose outputs are the targets.
        changed: The model whose windows are fitted to, with the same inputs.
        pair: The weight, see ``as_windows``.
        samples: Feeds.
        mask: Input that tells which places count; see ``mask_input``.
        seed: Seed of the choice of windows.
        progress: Called with (done, all) of the samples.

    Returns:
        The windows of one sample in five are to choose by; None where none is finite.
    """
    aim = Aim(pair)
    first, second = exposing(original, aim.in_original), exposing(changed, aim.in_changed)
    most = min(MOST_BYTES // (4 * pair.after.features), MOST_WINDOWS)
    limit = -(-most // len(samples))
    rows, targets, numbers = [], [], []
    for index, feed in enumerate(samples):
        before, after = tensors(first, feed, mask), tensors(second, feed, mask)
        draw = partial(_draw, limit, seed, index)
        x = pair.after.rows(after[pair.after.x], *draw())[0].astype(np.float32, copy=False)
        t = aim.targets(before, after, draw)[0].astype(np.float32, copy=False)
        finite = np.isfinite(x).all(axis=1) & np.isfinite(t).all(axis=1)
        rows.append(x[finite])
        targets.append(t[finite])
        numbers.append(np.full(int(finite.sum()), index))
        if progress is not None:
            progress(index + 1, len(samples))
    return _split(rows, targets, np.concatenate(numbers), len(samples))


def _split(
    rows: list[Array], targets: list[Array], numbers: Array, samples: int
) -> Windows | None:
    if not len(numbers):
        return None
    by = numbers if samples >= HELD_OUT else np.arange(len(numbers))
    held = by % HELD_OUT == HELD_OUT - 1
    x, t = np.concatenate(rows), np.concatenate(targets)
    if not held.any() or held.all():
        return Windows(Rows(x, t), Rows(x, t))
    return Windows(Rows(x[~held], t[~held]), Rows(x[held], t[held]))


def _draw(limit: int, seed: int, index: int) -> tuple[int, np.random.Generator]:
    return limit, np.random.default_rng((seed, index))
