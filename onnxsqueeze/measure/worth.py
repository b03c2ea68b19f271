"""What single weights are worth to the plans that do not take their price after repair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze import __version__
from onnxsqueeze.config import Importance
from onnxsqueeze.data.samples import Samples
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.facts.store import Store
from onnxsqueeze.measure.importance import weight_importance
from onnxsqueeze.plan.types import Plan

Array = npt.NDArray[Any]


def worth(
    plan: Plan,
    model: ir.Model,
    grams: Mapping[str, Gram],
    samples: Samples,
    *,
    store: Store,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Array]:
    """Return scores by weight, larger is worth more, where a choice names another than ``obs``.

    Args:
        plan: Decisions for this very model.
        model: A normalised model.
        grams: Gram matrices by weight.
        samples: Calibration samples.
        store: Where the scores are kept, or found.
        seed: Seed of draws.
        progress: Called with (done, all) of the samples.

    Raises:
        DependencyError: If gradients are needed and torch is not installed.
    """
    wanted: dict[Importance, list[str]] = {}
    for name, one in plan.weights.items():
        if one.importance != "obs" and (one.sparsity is not None or one.pattern is not None):
            wanted.setdefault(one.importance, []).append(name)
    found: dict[str, Array] = {}
    for criterion, names in wanted.items():
        key = {
            "model": plan.model_sha256,
            "version": __version__,
            "data": samples.fingerprint,
            "units": {group: choice.kept for group, choice in plan.units.items()},
            "refit": plan.refit,
            "scalings": {tensor: choice.steps for tensor, choice in plan.scalings.items()},
            "criterion": criterion,
            "names": names,
            "seed": seed,
        }
        saved = store.get("worth", key)
        if saved is None:
            scores = weight_importance(
                model, samples, names, criterion, grams=grams, seed=seed, progress=progress
            )
            arrays = {f"{names.index(name)}": one for name, one in scores.items()}
            saved = store.put("worth", key, {}, arrays)
        found |= {
            name: np.asarray(saved.arrays[str(place)])
            for place, name in enumerate(names)
            if str(place) in saved.arrays
        }
    return found
