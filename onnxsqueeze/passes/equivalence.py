"""Whether a changed graph still is the model that was read: same interface, shapes and values.

Values may differ as much as they do between two correct ways to run the original itself. ONNX
Runtime's own optimization reorders sums, and so does folding a scale into a weight; both move an
output by a few roundings, amplified by what the network does with them. How much that is differs
between networks by four orders of magnitude, so it is measured: the largest difference between the
original run with optimization off and by default. A single such difference is a sample, not a
bound, so four times as much is allowed, and never less than 1e-5 (or four roundings) of the
output's largest value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.errors import VerificationError
from onnxsqueeze.graph import io, walk
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.memory import release

Array = npt.NDArray[Any]
LEVELS: tuple[ort.Optimization, ...] = ("off", "default")
_FLOOR = 1e-5
_TIMES_NOISE = 4.0
_ROUNDINGS = 4.0


@dataclass(frozen=True)
class Reference:
    """What the original gives.

    Attributes:
        feeds: What it was fed with.
        outputs: By optimization level, one mapping of outputs per feed.
        tolerance: Largest allowed absolute difference, by output.
        levels: The levels to compare at.
    """

    feeds: tuple[Mapping[str, Array], ...]
    outputs: Mapping[ort.Optimization, Sequence[Mapping[str, Array]]]
    tolerance: Mapping[str, float]
    levels: tuple[ort.Optimization, ...] = LEVELS


def reference(path: Path, feeds: Sequence[Mapping[str, Array]]) -> Reference:
    """Run the original file on the feeds, with optimization off and by default."""
    arrays = tuple({name: np.asarray(value) for name, value in feed.items()} for feed in feeds)
    outputs = {}
    for level in LEVELS:
        release()
        made = ort.session(path, optimization=level, low_memory=True)
        outputs[level] = ort.run_all(made, arrays)
        del made  # before the next one: large models fit into memory once
    names = list(outputs[LEVELS[0]][0])
    return Reference(arrays, outputs, {name: _tolerance(name, outputs) for name in names})


def first_only(full: Reference) -> Reference:
    """Return the part of a reference that is quick to check: first feed, optimization off."""
    return replace(full, feeds=full.feeds[:1], levels=LEVELS[:1])


def _tolerance(
    name: str, outputs: Mapping[ort.Optimization, Sequence[Mapping[str, Array]]]
) -> float:
    tolerance = 0.0
    for off, default in zip(*(outputs[level] for level in LEVELS), strict=True):
        a, b = off[name], default[name]
        if a.dtype.kind not in "fc" or a.shape != b.shape or not a.size:
            continue
        finite = np.isfinite(a) & np.isfinite(b)
        wide_a, wide_b = (np.where(finite, v, 0).astype(np.float64) for v in (a, b))
        relative = max(_FLOOR, _ROUNDINGS * float(np.finfo(a.dtype).eps))
        noise = float(np.abs(wide_a - wide_b).max())
        tolerance = max(tolerance, _TIMES_NOISE * noise, relative * float(np.abs(wide_a).max()))
    return tolerance


def source(model: ir.Model) -> tuple[ir.Model | bytes, int]:
    """Return what a session is made from, and the model's size in bytes.

    For a model with weights outside the file, or too many for one file, that is the model itself,
    and the size is that of its weights; for others it is the file's contents.
    """
    if _is_large(model):
        return model, io.weight_bytes(model)
    content = io.serialized(model)
    return content, len(content)


def difference(original: Reference, source: ir.Model | bytes) -> str:
    """Return how a model differs from the original on its feeds, or an empty string.

    Raises:
        ModelError: If the model does not load or run.
    """
    for level in original.levels:
        release()
        made = ort.session(source, optimization=level, low_memory=True)
        for feed, expected in zip(original.feeds, original.outputs[level], strict=False):
            given = ort.run(made, feed)
            for name, values in expected.items():
                if name not in given:
                    return f"output {name!r} is gone"
                reason = _mismatch(values, given[name], original.tolerance[name])
                if reason:
                    return f"output {name!r} {reason} (optimization {level})"
        del made  # before the next one, as above
    return ""


def _mismatch(expected: Array, given: Array, tolerance: float) -> str:
    if expected.shape != given.shape or expected.dtype != given.dtype:
        old, new = f"{expected.dtype}{list(expected.shape)}", f"{given.dtype}{list(given.shape)}"
        return f"is {new} instead of {old}"
    if expected.dtype.kind not in "fc":
        wrong = int((expected != given).sum())
        return f"differs in {wrong} of {expected.size} values" if wrong else ""
    same = (expected == given) | (np.isnan(expected) & np.isnan(given))
    if same.all():
        return ""
    with np.errstate(invalid="ignore", over="ignore"):
        off_by = np.abs(expected.astype(np.float64) - given.astype(np.float64))[~same]
    largest = float(np.nan_to_num(off_by, nan=np.inf, posinf=np.inf).max())
    return (
        f"is off by {largest:.3g}, and {tolerance:.3g} is allowed" if largest > tolerance else ""
    )


def _is_large(model: ir.Model) -> bool:
    tensors = (value.const_value for _, value in walk.initializers(model))
    is_mapped = any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors)
    return is_mapped or io.weight_bytes(model) > io.LARGEST_FILE_BYTES


def restore_interface(original: ir.Model, model: ir.Model) -> None:
    """Give inputs and outputs their declared types and shapes back, and the model its metadata.

    Converters and ONNX Runtime write down what they inferred. What the file said is kept, right or
    wrong, and what it did not say is left unsaid: it costs bytes, and shapes come from a run.

    Raises:
        VerificationError: If the names of inputs or outputs differ.
    """
    weights = original.graph.initializers
    inputs = [value for value in original.graph.inputs if value.name not in weights]
    now = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    for kind, old, new in (
        ("inputs", inputs, now),
        ("outputs", list(original.graph.outputs), list(model.graph.outputs)),
    ):
        names, found = [value.name for value in old], [value.name for value in new]
        if names != found:
            raise VerificationError(f"{kind} are {found}, and were {names}")
        for before, after in zip(old, new, strict=True):
            after.type = before.type
            after.shape = None if before.shape is None else before.shape.copy()
    model.metadata_props.clear()
    model.metadata_props.update(original.metadata_props)
    model.graph.name = original.graph.name
    model.producer_name, model.producer_version = original.producer_name, original.producer_version
    declared = {value.name for value in _made(original) if value.type is not None}
    for value in _made(model):
        if value.name not in declared and not value.is_graph_output():
            value.type = value.shape = None


def _made(model: ir.Model) -> Iterator[ir.Value]:
    return (output for node in walk.nodes(model) for output in node.outputs)
