"""From a plan's choice and a weight's values to codes and scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.numerics.columns import column_scale
from onnxsqueeze.numerics.grid import (
    as_rows,
    from_grid,
    from_rows,
    max_scale,
    mse_scale,
    to_bfloat16,
    to_grid,
)
from onnxsqueeze.numerics.rounding import compensated, damped
from onnxsqueeze.plan.types import INTEGER_FORMS, WeightChoice

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Codes:
    """A weight as integers.

    Attributes:
        rows: Codes, int8 or int16, shape (channels, features); see ``numerics.grid.as_rows``.
        scale: Scales, float32, shape (channels, features / block).
        column: Scales of the columns, float32, shape (features,); None where they are all 1.
    """

    rows: Array
    scale: Array
    column: Array | None = None

    def values(self, shape: tuple[int, ...], axis: int | None) -> Array:
        """Return the values that the codes stand for, float32, in the weight's own shape."""
        rows = from_grid(self.rows, self.scale)
        return from_rows(rows if self.column is None else rows * self.column, shape, axis)


def pruned(weight: Array, below: float | None) -> Array:
    """Return ``weight`` with every magnitude under ``below`` set to zero.

    Example:
        >>> pruned(np.array([0.5, -0.01, 0.2]), 0.1).tolist()
        [0.5, 0.0, 0.2]
    """
    return weight if below is None else np.where(np.abs(weight) < below, 0, weight)


def codes(weight: Array, choice: WeightChoice, gram: Gram | None) -> Codes:
    """Return the codes and scales of one weight as its choice says.

    Scales are those with the least squared error, weighted by the inputs' mean squares where
    there is a Gram matrix, and are rounded to bfloat16 (stored weights) before any code is chosen.

    Args:
        weight: The values, any float type, finite.
        choice: A choice with form ``stored``, ``qdq`` or ``dynamic``.
        gram: Second moments of the inputs; needed for rounding ``compensated``.
    """
    values = pruned(weight.astype(np.float32), choice.prune_below)
    rows = as_rows(values, choice.axis)
    zeros = rows == 0 if choice.prune_below is not None else None
    matrices = None if gram is None else gram.matrix.astype(np.float64)
    plain = _coded(rows, choice, gram, matrices, zeros, None)
    column = _column(rows, choice, matrices)
    if column is None:
        return plain
    # The columns were chosen by rounding to the nearest; what counts is the error after repair.
    scaled = _coded(rows, choice, gram, matrices, zeros, column)
    return min(plain, scaled, key=lambda made: _lost(rows, made, matrices))


def _coded(
    rows: Array,
    choice: WeightChoice,
    gram: Gram | None,
    matrices: Array | None,
    zeros: Array | None,
    column: Array | None,
) -> Codes:
    if column is not None:
        rows = rows / column
        matrices = None if matrices is None else matrices * np.outer(column, column)
    groups = 1 if matrices is None else len(matrices)
    alike = None if column is None else np.square(column)  # what an error of a code is worth
    parts = [
        _group(part, choice, None if matrices is None else matrices[index], gram, mask, alike)
        for index, (part, mask) in enumerate(_split(rows, zeros, groups))
    ]
    whole, scale = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    return Codes(whole, scale, column)


def _lost(rows: Array, made: Codes, matrices: Array | None) -> float:
    """Return the error of the product with the inputs, ``Σ (w − ŵ) H (w − ŵ)ᵀ``; without, of w."""
    back = from_grid(made.rows, made.scale)
    error = rows - (back if made.column is None else back * made.column)
    if matrices is None:
        return float(np.square(error).sum())
    parts = zip(np.split(error, len(matrices)), matrices.astype(np.float32), strict=True)
    return float(sum(np.vdot(part @ matrix, part) for part, matrix in parts))


def _column(rows: Array, choice: WeightChoice, matrices: Array | None) -> Array | None:
    if not choice.columns:
        return None
    importance = None if matrices is None else np.einsum("gkk->k", matrices) / len(matrices)
    if importance is not None:
        importance = np.maximum(importance, 0)
    return to_bfloat16(column_scale(rows, choice.bits, choice.block, importance)[0])


def _split(rows: Array, zeros: Array | None, groups: int) -> list[tuple[Array, Array | None]]:
    parts = np.split(rows, groups)
    masks = [None] * groups if zeros is None else np.split(zeros, groups)
    return list(zip(parts, masks, strict=True))


def _group(
    rows: Array,
    choice: WeightChoice,
    matrix: Array | None,
    gram: Gram | None,
    zeros: Array | None,
    alike: Array | None,
) -> tuple[Array, Array]:
    importance = alike if matrix is None else np.maximum(np.diag(matrix), 0)
    if choice.bits >= 8 and matrix is None:
        scale = max_scale(rows, choice.bits, choice.block)
    else:
        scale = mse_scale(rows, choice.bits, choice.block, importance)
    if choice.form == "stored":
        scale = to_bfloat16(scale)
    if choice.rounding == "nearest" or matrix is None or gram is None:
        return to_grid(rows, scale, choice.bits), scale
    return compensated(rows, damped(matrix, gram.rows), scale, choice.bits, zeros), scale


def needed(choices: Mapping[str, WeightChoice]) -> tuple[str, ...]:
    """Return the names of the weights that are stored as codes."""
    coded = ("stored", *INTEGER_FORMS)
    return tuple(name for name, choice in choices.items() if choice.form in coded)
