"""From a plan's choice and a weight's values to codes and scales, zeros first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.config import pattern_of
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.learned.rounding import learned
from onnxsqueeze.numerics.blocks import from_blocks
from onnxsqueeze.numerics.columns import column_scale
from onnxsqueeze.numerics.grid import (
    SIGNED_BITS,
    as_rows,
    from_grid,
    from_rows,
    max_scale,
    mse_scale,
    to_bfloat16,
    to_grid,
)
from onnxsqueeze.numerics.hqq import half_quadratic
from onnxsqueeze.numerics.pairs import paired_scale, partners, within_pairs
from onnxsqueeze.numerics.rounding import (
    Factor,
    compensated,
    damped,
    descended,
    factor,
    lost,
)
from onnxsqueeze.numerics.sparsity import Wanted, repaired, sparse
from onnxsqueeze.passes.round_blocks import block_codes
from onnxsqueeze.plan.types import INTEGER_FORMS, WeightChoice

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Codes:
    """A weight as integers, or as new floats, which have scales of one.

    Attributes:
        rows: Codes, int8 or int16, or float32 values, shape (channels, features); see
            ``numerics.grid.as_rows``.
        scale: Scales, float32, shape (channels, features / block).
        column: Scales of the columns, float32, shape (features,); None where they are all 1.
        zero: Zero points, int8, shape of ``scale``; None where they are all 0.
    """

    rows: Array
    scale: Array
    column: Array | None = None
    zero: Array | None = None

    def arrays(self) -> dict[str, Array]:
        """Return what there is, by name, to be saved; see ``from_arrays``."""
        return {name: array for name, array in vars(self).items() if array is not None}

    def values(self, shape: tuple[int, ...], axis: int | None) -> Array:
        """Return the values that the codes stand for, float32, in the weight's own shape."""
        rows = from_blocks(self.rows, self.scale, self.zero)
        return from_rows(rows if self.column is None else rows * self.column, shape, axis)


def from_arrays(arrays: Mapping[str, Array]) -> Codes:
    """Return the codes whose ``arrays`` these are."""
    return Codes(**{name: np.asarray(array) for name, array in arrays.items()})


def pruned(weight: Array, below: float | None) -> Array:
    """Return ``weight`` with every magnitude under ``below`` set to zero.

    Example:
        >>> pruned(np.array([0.5, -0.01, 0.2]), 0.1).tolist()
        [0.5, 0.0, 0.2]
    """
    return weight if below is None else np.where(np.abs(weight) < below, 0, weight)


def codes(
    weight: Array,
    choice: WeightChoice,
    gram: Gram | None,
    *,
    zeros: Array | None = None,
    known: Factor | None = None,
    thin: Array | None = None,
    scores: Array | None = None,
) -> Codes:
    """Return the codes and scales of one weight as its choice says.

    Zeros come first, and what stays is fitted to make up for them; codes are then those of that.

    Scales are those with the least squared error, weighted by the inputs' mean squares where
    there is a Gram matrix, and are rounded to bfloat16 (stored weights) before any code is chosen.

    Args:
        weight: The values, any float type, finite.
        choice: A choice whose form has codes, or that fits the floats that stay.
        gram: Second moments of the inputs; needed for rounding ``compensated``.
        zeros: True where the code must be zero, shape of ``weight``; None for what the choice
            prunes of ``weight`` itself.
        known: What ``factors`` returned for the Gram matrix, if computed before.
        thin: What ``thinned`` returned for them, if computed before.
        scores: As in ``thinned``.
    """
    values = weight.astype(np.float32)
    rows = thinned(values, choice, gram, zeros=zeros, scores=scores) if thin is None else thin
    if choice.form in ("float", "float16"):
        return Codes(rows, np.ones((len(rows), 1), np.float32))
    matrices = None if gram is None else gram.matrix.astype(np.float64)
    seen = 0 if gram is None else gram.rows
    goes = rows == 0 if choice.prunes or zeros is not None else None
    if choice.form == "blockwise":
        one = None if matrices is None else matrices[0]  # products have one group
        whole, scale, zero = block_codes(rows, choice, one, seen, goes, known)
        return Codes(whole, scale, zero=zero)
    task = _Task(
        rows=rows,
        choice=choice,
        matrices=matrices,
        rows_seen=seen,
        zeros=goes,
        known=known,
        pairs=partners(values.shape, choice.axis)
        if choice.paired and choice.axis is not None
        else None,
    )
    plain = _coded(task, None)
    column = _column(task)
    if column is None:
        return plain
    # The columns were chosen by rounding to the nearest; what counts is the error after repair.
    return min(plain, _coded(task, column), key=lambda made: _lost(task, made))


def thinned(
    weight: Array,
    choice: WeightChoice,
    gram: Gram | None,
    *,
    zeros: Array | None = None,
    scores: Array | None = None,
) -> Array:
    """Return the weight with the zeros of its choice, before any rounding, as rows.

    Where the choice says ``compensated`` and there is a Gram matrix, what stays is fitted to make
    up for what went; otherwise it is as it was.

    Args:
        weight: The values, float32, finite.
        choice: A choice.
        gram: Second moments of the inputs.
        zeros: As in ``codes``.
        scores: What each value is worth, shape of ``weight``; None for its price after repair.

    Returns:
        Values, float32, shape (channels, features).
    """
    rows = as_rows(weight, choice.axis)
    if zeros is None and choice.prune_below is not None:
        zeros = pruned(weight, choice.prune_below) == 0
    wanted = _wanted(choice)
    if zeros is None and wanted is None:
        return rows
    worth = None if scores is None else as_rows(scores, choice.axis)
    goes = None if zeros is None else as_rows(zeros, choice.axis)
    if gram is None or choice.rounding != "compensated":
        if goes is not None:
            return np.where(goes, 0, rows)
        assert wanted is not None  # one of them is there
        return sparse(rows, wanted, scores=worth).rows
    parts = []
    for part, matrix in zip(_split(len(rows), len(gram.matrix)), gram.matrix, strict=True):
        wide = damped(matrix.astype(np.float64), gram.rows)
        if goes is not None:
            parts.append(repaired(rows[part], ~goes[part], wide).rows)
        else:
            assert wanted is not None  # one of them is there
            some = None if worth is None else worth[part]
            found = sparse(rows[part], wanted, wide, scores=some, shrink=choice.shrink)
            parts.append(found.rows)
    return np.concatenate(parts)


def _split(rows: int, groups: int) -> list[slice]:
    size = rows // groups
    return [slice(start, start + size) for start in range(0, rows, size)]


def _wanted(choice: WeightChoice) -> Wanted | None:
    if choice.pattern is not None:
        return Wanted.of_pattern(*pattern_of(choice.pattern))
    return None if choice.sparsity is None else Wanted(choice.sparsity)


def factors(gram: Gram) -> Factor:
    """Return what ``codes`` takes as ``known``: it costs more than the rounding itself."""
    return factor(damped(gram.matrix.astype(np.float64), gram.rows))


@dataclass(frozen=True)
class _Task:
    """One weight to be rounded; ``matrices`` and ``known`` are those of the groups of its rows.

    Where there are ``pairs`` of features, their codes stay within what 16 bits can add.
    """

    rows: Array
    choice: WeightChoice
    matrices: Array | None
    rows_seen: int
    zeros: Array | None
    known: Factor | None
    pairs: Array | None

    @property
    def importance(self) -> Array | None:
        """What an error of a code is worth, the inputs' mean squares: of each row, or of all."""
        if self.matrices is None:
            return None
        squares: Array = np.maximum(np.einsum("gkk->gk", self.matrices), 0)
        return squares if len(squares) == 1 else squares.repeat(len(self.rows) // len(squares), 0)


def _coded(task: _Task, column: Array | None) -> Codes:
    choice, bits = task.choice, task.choice.bits
    even = task.rows if column is None else task.rows / column
    scale = _scale(task, even, column)
    if choice.rounding != "compensated" or task.matrices is None:
        whole = to_grid(even, scale, bits)
    else:
        wide = damped(task.matrices, task.rows_seen)
        fitted = compensated(
            task.rows, wide, scale, bits, task.zeros, column=column, known=task.known
        )
        whole = descended(fitted, task.rows, wide, scale, bits, task.zeros, column=column)
        if choice.polish == "learned" and task.zeros is None:  # what is learned would move zeros
            whole = _learned(whole, task, wide, scale, column)
    if task.pairs is not None:
        whole = within_pairs(whole, task.pairs)
    return Codes(whole, scale, column)


def _scale(task: _Task, even: Array, column: Array | None) -> Array:
    """Return the scales of rows whose columns have been made even."""
    choice, importance = task.choice, task.importance
    if column is not None:
        importance = np.square(column)[None] * (1 if importance is None else importance)
    if choice.rounding == "half_quadratic" and choice.bits <= SIGNED_BITS:
        scale = half_quadratic(even, choice.bits, choice.block)[0]
    elif choice.bits >= 8 and task.matrices is None:
        scale = max_scale(even, choice.bits, choice.block)
    else:
        signed = choice.form == "stored"
        scale = mse_scale(even, choice.bits, choice.block, importance, signed=signed)
    if choice.form == "stored":
        scale = to_bfloat16(scale)
    return scale if task.pairs is None else np.maximum(scale, paired_scale(even, task.pairs))


def _learned(whole: Array, task: _Task, wide: Array, scale: Array, column: Array | None) -> Array:
    parts = (np.split(each, len(wide)) for each in (whole, task.rows, scale))
    return np.concatenate(
        [
            learned(codes, rows, matrix, steps, task.choice.bits, column=column)
            for codes, rows, steps, matrix in zip(*parts, wide, strict=True)
        ]
    )


def _lost(task: _Task, made: Codes) -> float:
    """Return the error of the product with the inputs; without inputs, of the weight."""
    back = from_grid(made.rows, made.scale)
    error = task.rows - (back if made.column is None else back * made.column)
    if task.matrices is None:
        return float(np.square(error).sum())
    return lost(error, task.matrices)


def _column(task: _Task) -> Array | None:
    if not task.choice.columns:
        return None
    importance = None
    if task.matrices is not None:
        importance = np.maximum(np.einsum("gkk->k", task.matrices) / len(task.matrices), 0)
    bits, block = task.choice.bits, task.choice.block
    return to_bfloat16(column_scale(task.rows, bits, block, importance)[0])


def needed(choices: Mapping[str, WeightChoice]) -> tuple[str, ...]:
    """Return the names of the weights that are stored as codes, or as newly fitted floats."""
    coded = ("stored", *INTEGER_FORMS)
    return tuple(
        name for name, choice in choices.items() if choice.form in coded or choice.is_fitted
    )
