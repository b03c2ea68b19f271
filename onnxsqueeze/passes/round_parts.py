"""A large weight rounded some channels at a time: what rounding needs beside it stays small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.numerics.error import EXACT_DB
from onnxsqueeze.passes.round_weights import Codes, codes
from onnxsqueeze.plan.types import WeightChoice

Array = npt.NDArray[Any]

PART_ELEMENTS = 2**22
"""Values that are rounded at a time: some ten arrays of so many are held."""


def codes_in_parts(
    weight: Array, choice: WeightChoice, gram: Gram | None, part: int = PART_ELEMENTS
) -> Codes:
    """Return what ``round_weights.codes`` returns, rounding ``part`` values at a time.

    Channels know nothing of each other, but where they share scales of columns or are pruned
    together, and where they are compensated they share one factor: those go as a whole.
    """
    whole = choice.columns or choice.prunes or (choice.rounding == "compensated" and gram)
    if whole or choice.axis is None or weight.size <= part:
        return codes(weight, choice, gram)
    parts = [codes(one, choice, gram) for one in channels_in_parts(weight, choice.axis, part)]
    rows, scale = (np.concatenate([getattr(p, kind) for p in parts]) for kind in ("rows", "scale"))
    zeros = [one.zero for one in parts if one.zero is not None]
    return Codes(rows, scale, zero=np.concatenate(zeros) if zeros else None)


def channels_in_parts(weight: Array, axis: int, part: int = PART_ELEMENTS) -> Iterator[Array]:
    """Yield the weight cut along its channels, each piece of at most ``part`` values, or one."""
    channels = weight.shape[axis]
    step = max(1, part * channels // max(weight.size, 1))
    for start in range(0, channels, step):
        index = [slice(None)] * weight.ndim
        index[axis] = slice(start, start + step)
        yield weight[tuple(index)]


def sqnr_in_parts(
    weight: Array, made: Codes, axis: int | None, part: int = PART_ELEMENTS
) -> float:
    """Return the signal to quantization noise ratio of a rounded weight in dB, as ``sqnr_db``.

    Example:
        >>> made = Codes(np.array([[3, 4]], np.int8), np.ones((1, 1), np.float32))
        >>> round(sqnr_in_parts(np.array([[3.0, 4.5]]), made, 0), 1)
        20.7
    """
    signal = noise = 0.0
    for before, after in _pieces(weight, made, axis, part):
        wide = before.astype(np.float64)
        signal += float(np.square(wide).sum())
        wide -= after
        noise += float(np.square(wide).sum())
    if noise == 0:
        return EXACT_DB
    return float(10 * np.log10(signal / noise)) if signal > 0 else -EXACT_DB


def _pieces(
    weight: Array, made: Codes, axis: int | None, part: int
) -> Iterator[tuple[Array, Array]]:
    """Yield pieces of a weight with what they became."""
    if axis is None:
        yield weight, made.values(weight.shape, None)
        return
    start = 0
    for piece in channels_in_parts(weight, axis, part):
        taken = slice(start, start + piece.shape[axis])
        start = taken.stop
        zero = None if made.zero is None else made.zero[taken]
        some = Codes(made.rows[taken], made.scale[taken], made.column, zero)
        yield piece, some.values(piece.shape, axis)
