"""What each integer kernel does to the output, by trying: one weight and its grids at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.measure.ranges import cores
from onnxsqueeze.numerics.metrics import error_energy, is_float
from onnxsqueeze.passes.apply import carried_out, rounded
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.memory import release

Array = npt.NDArray[Any]


def integer_damage(
    model: ir.Model,
    plans: Mapping[str, Plan],
    samples: Sequence[Mapping[str, Array]],
    *,
    end: float = float("inf"),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Return, per plan, the relative error energy of the outputs, on the target's real kernels.

    For each floating-point output ``Σ‖y − y'‖² / Σ‖y‖²`` over the samples; the largest of them.
    Weights are rounded to the nearest.

    Args:
        model: A normalised model; it stays as it is.
        plans: By name, plans that change one thing each.
        samples: Feeds; few are enough, since an error shows in every sample.
        end: Time, by ``time.monotonic``, after which no more are tried; those are left out.
        progress: Called with (done, all) of the plans.
    """
    release()
    floats = ort.session(model, threads=cores())
    originals = [
        {name: value for name, value in out.items() if is_float(np.asarray(value))}
        for out in ort.run_all(floats, samples)
    ]
    found: dict[str, float] = {}
    for number, (name, plan) in enumerate(plans.items()):
        if time.monotonic() > end:
            break
        made = carried_out(plan, model, rounded(plan, model, {}))
        found[name] = _error(ort.session(made, threads=cores()), samples, originals)
        if progress is not None:
            progress(number + 1, len(plans))
    return found


def _error(
    made: Any, samples: Sequence[Mapping[str, Array]], originals: Sequence[Mapping[str, Any]]
) -> float:
    energies: dict[str, npt.NDArray[np.float64]] = {}
    for feed, original in zip(samples, originals, strict=True):
        result = ort.run(made, feed, list(original))
        for name, value in original.items():
            energies[name] = energies.get(name, np.zeros(2)) + error_energy(value, result[name])
    parts = [float(noise / signal) for noise, signal in energies.values() if signal > 0]
    return max(parts, default=0.0)
