"""A model as the rest of the package wants it: cleaned step by step, each held to the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.errors import SqueezeError, VerificationError
from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import io
from onnxsqueeze.graph.verify import verify, verify_structure
from onnxsqueeze.passes import equivalence
from onnxsqueeze.passes.change import undone
from onnxsqueeze.passes.clean_steps import LARGE_STEPS, STEPS, Step, step_name

MAX_GROWTH = 0.01
MAX_GROWTH_BYTES = 1024
"""A step that makes the file larger by more than both of these is undone."""

# What a step, or a library that it calls, raises for a graph that it does not understand.
_STEP_ERRORS = (
    OSError,
    SqueezeError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    RuntimeError,
    AssertionError,
)


@dataclass(frozen=True)
class Normalised:
    """A cleaned model.

    Attributes:
        model: The model; every weight is a plain initializer of some graph.
        changes: What was done, undone and left alone, in order.
        sha256: Fingerprint of the file that it was made from.
    """

    model: ir.Model
    changes: tuple[Change, ...]
    sha256: str


def normalise(
    path: Path,
    feeds: Sequence[Mapping[str, npt.NDArray[Any]]],
    *,
    large: ir.Model | None = None,
) -> Normalised:
    """Return the cleaned model of a file: same inputs, outputs and results, fewer nodes.

    Every step is held to the original on the first feed with ONNX Runtime's optimization off, and
    the result on all feeds, with optimization off and by default; see ``equivalence`` for what
    must agree. Should the result fail although each step passed, all steps are done again with
    the full check after each. A step that fails a check, raises, or makes the file larger is
    undone.

    A large model is held to the original only after all steps, and after each only if that fails;
    steps that write weights anew are left out, and one session at a time is in memory.

    Args:
        path: The file.
        feeds: What the two are compared on.
        large: The model of the file with all large weights in external data, where they shall
            stay; None for a model of any other size.

    Raises:
        ModelError: If the file cannot be read, or the model does not run on the feeds.
        ValueError: If there are no feeds.
    """
    if not feeds:
        raise ValueError("at least one feed is needed to check that the model stays the same")
    original = io.read(path) if large is None else large
    reference = equivalence.reference(path, feeds)
    steps = STEPS if large is None else LARGE_STEPS
    first = equivalence.first_only(reference) if large is None else None
    model, changes = _run_steps(original, first, steps)
    if equivalence.difference(reference, equivalence.source(model)[0]):
        model, changes = _run_steps(original, reference, steps)
    _verify(original, model)
    return Normalised(model, changes, io.fingerprint(path))


def _verify(original: ir.Model, model: ir.Model) -> None:
    """Hold the result to the ONNX checker only if the original, which runs, passes it too."""
    try:
        verify(model)
    except VerificationError:
        verify_structure(model)
        try:
            verify(original)
        except VerificationError:
            return
        raise


def _run_steps(
    original: ir.Model, reference: equivalence.Reference | None, steps: Sequence[Step]
) -> tuple[ir.Model, tuple[Change, ...]]:
    model, changes = original.clone(), list[Change]()
    _, size = equivalence.source(model)
    for step in steps:
        before = model.clone()
        name = step_name(step)
        try:
            made = step(model)
            if not any(change.outcome == "done" for change in made):
                changes.extend(change for change in made if change not in changes)
                model = before  # what says that it did nothing has done nothing
                continue
            equivalence.restore_interface(original, model)
            source, new_size = equivalence.source(model)
            reason = _growth(size, new_size)
            if reference is not None:
                reason = reason or equivalence.difference(reference, source)
        except _STEP_ERRORS as error:
            made, reason = (), f"it failed: {_first_line(error)}"
        if reason:
            model = before
            changes.append(undone(name, f"{len(made)} change(s)", reason))
        else:
            changes.extend(made)
            size = new_size
    return model, tuple(changes)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _growth(before: int, after: int) -> str:
    if after - before <= max(before * MAX_GROWTH, MAX_GROWTH_BYTES):
        return ""
    return f"the file would grow from {before} to {after} bytes"
