"""What giving up single weights would do to the output, foretold from the products alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.analysis.weights import Weight
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.facts.store import Key, Store
from onnxsqueeze.measure.sensitivity import rounded
from onnxsqueeze.numerics.error import TRIED_BITS
from onnxsqueeze.numerics.grid import as_rows
from onnxsqueeze.numerics.rounding import damped
from onnxsqueeze.numerics.sparsity import energy_lost, losses

Array = npt.NDArray[Any]

FRACTIONS = (0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def thin_curves(
    weights: Sequence[Weight],
    grams: Mapping[str, Gram],
    damage: Mapping[str, float],
    *,
    store: Store,
    key: Key,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[float, float]]:
    """Return, by weight and fraction given up, the output's error energy to be expected.

    It is the measured damage with four bits, scaled by how much more of its product's energy the
    weight loses: ``d₄ · tr(E H Eᵀ) / tr(E₄ H E₄ᵀ)``, with E what is lost after the repair.

    Args:
        weights: Weights of a normalised model.
        grams: Gram matrices by weight; weights that have none have no curve.
        damage: Measured damage with four bits, by weight; those of zero have no curve.
        store: Where the curves are kept, or found.
        key: What makes this measurement what it is.
        progress: Called with (done, all) of the weights.
    """
    saved = store.get("thin-curves", key)
    if saved is None:
        able = [
            weight
            for weight in weights
            if weight.role == "linear"
            and weight.name in grams
            and 0 < damage.get(weight.name, 0) < np.inf
        ]
        found: dict[str, list[float]] = {}
        for number, weight in enumerate(able):
            curve = _relative(weight, grams[weight.name])
            if curve is not None:
                found[weight.name] = [damage[weight.name] * float(part) for part in curve]
            if progress is not None:
                progress(number + 1, len(able))
        saved = store.put("thin-curves", key, found)
    return {
        name: dict(zip(FRACTIONS, values, strict=True)) for name, values in saved.values.items()
    }


def _relative(weight: Weight, gram: Gram) -> Array | None:
    """Return what is lost as a part of what four bits lose; None where those lose nothing."""
    assert weight.value.const_value is not None  # ONNX: an initializer has a value
    values = weight.value.const_value.numpy().astype(np.float32)
    rows = as_rows(values, weight.axis)
    four = as_rows(rounded(values, weight.axis, TRIED_BITS), weight.axis)
    groups = len(gram.matrix)
    lost, by_four = np.zeros(len(FRACTIONS)), 0.0
    parts = zip(np.split(rows, groups), np.split(four, groups), gram.matrix, strict=True)
    for part, coarse, matrix in parts:
        wide = damped(matrix.astype(np.float64), gram.rows)
        lost += losses(part, wide, FRACTIONS)
        by_four += energy_lost(part, coarse, wide)
    return lost / by_four if by_four > 0 else None
