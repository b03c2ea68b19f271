"""What each weight's coarsest form does to the output, by trying: one weight at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.weights import Weight
from onnxsqueeze.measure.ranges import cores
from onnxsqueeze.numerics.error import TRIED_BITS
from onnxsqueeze.numerics.grid import as_rows, from_grid, from_rows, mse_scale, to_grid
from onnxsqueeze.runtime.memory import release
from onnxsqueeze.runtime.trials import Trials

Array = npt.NDArray[Any]


def sensitivity(
    model: ir.Model,
    weights: Sequence[Weight],
    samples: Sequence[Mapping[str, Array]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Return, per weight, the relative error energy of the outputs when it alone has four bits.

    For each floating-point output ``Σ‖y − y'‖² / Σ‖y‖²`` over the samples; the largest of them.
    Rounding is to the nearest code, with one scale per channel. Zero says that the samples do not
    reach this weight; infinity, that an output got another shape, or NaN or infinite values that
    the original's has not. Where the original's are not finite, nothing is compared.

    Args:
        model: A normalised model.
        weights: The weights to try.
        samples: Feeds; few are enough, since the error of a weight shows in every sample.
        progress: Called with (done, all) of the weights.
    """
    release()
    trials = Trials(model, [weight.name for weight in weights], threads=cores())
    floats = {"float32", "float16", "float64"}
    originals = []
    for feed in samples:
        out = trials.run(feed)
        originals.append(
            {k: v.astype(np.float64) for k, v in out.items() if v.dtype.name in floats}
        )
    signal = _sums(originals)
    found: dict[str, float] = {}
    for number, weight in enumerate(weights):
        replaced = {weight.name: rounded(trials.weight(weight.name), weight.axis, TRIED_BITS)}
        noise = dict.fromkeys(signal, 0.0)
        for feed, original in zip(samples, originals, strict=True):
            result = trials.run(feed, replaced)
            for name, value in original.items():
                noise[name] += _energy(value, result[name])
        parts = [noise[name] / signal[name] for name in signal if signal[name] > 0]
        found[weight.name] = float(max(parts, default=0.0))
        if progress is not None:
            progress(number + 1, len(weights))
    return found


def _energy(original: Array, result: Array) -> float:
    if original.shape != result.shape:
        return float("inf")
    kept = np.isfinite(original)
    if not np.isfinite(result[kept]).all():
        return float("inf")
    return float(np.square(original[kept] - result[kept]).sum())


def _sums(outputs: list[dict[str, Array]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for output in outputs:
        for name, value in output.items():
            sums[name] = sums.get(name, 0.0) + _energy(value, np.zeros_like(value))
    return sums


def rounded(weight: Array, axis: int | None, bits: int) -> Array:
    """Return ``weight`` rounded to the nearest of its MSE-optimal codes, in its own type."""
    rows = as_rows(weight.astype(np.float32), axis)
    scale = mse_scale(rows, bits)
    back = from_rows(from_grid(to_grid(rows, scale, bits), scale), weight.shape, axis)
    return np.ascontiguousarray(back.astype(weight.dtype))
