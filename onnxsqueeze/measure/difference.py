"""Two model files held side by side, stored weights as they are when the model has loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.diff import ModelDiff, diff, restorable
from onnxsqueeze.graph import io, walk
from onnxsqueeze.graph.segment import segment
from onnxsqueeze.runtime import ort

Array = npt.NDArray[Any]


def difference(before: Path, after: Path) -> ModelDiff:
    """Return what differs between two files.

    An initializer of one that the other computes from stored tensors (codes and scales) is
    compared by the values that this gives, as ONNX Runtime computes them.

    Raises:
        ModelError: If a file is no model.
    """
    old, new = io.read(before), io.read(after)
    kept, made = _names(old), _names(new)
    return diff(old, new, _restored(old, made - kept), _restored(new, kept - made))


def _names(model: ir.Model) -> set[str]:
    return {str(value.name) for _, value in walk.initializers(model)}


def _restored(model: ir.Model, names: Iterable[str]) -> dict[str, Array]:
    """Return the values of those names that the model computes from initializers, one by one."""
    found = {}
    for name, computed in restorable(model, set(names)).items():  # weights may be large
        made = ort.session(segment(model, {}, [computed.value]), optimization="off")
        found[name] = np.asarray(ort.run(made, {})[computed.value])
    return found
