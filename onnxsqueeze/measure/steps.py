"""A walk through the linear weights of a model: which go together, and where it stands between.

Weights go together only where none of them depends on another: what one has made up for, the next
would make up for once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.weights import Weight
from onnxsqueeze.data.samples import evenly
from onnxsqueeze.graph import walk
from onnxsqueeze.graph.segment import frontier, reached
from onnxsqueeze.measure.grams import Job, Samples, jobs
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.runtime.shapes import Shape

Array = npt.NDArray[Any]

STEP_BYTES = 128 * 2**20
"""Most that the matrices of one step may take, unless one alone takes more."""
SPOOL_BYTES = 2**31
"""Most that the tensors of two models may take between steps, in memory and on disk."""
FEWEST_SAMPLES = 8


@dataclass(frozen=True)
class Step:
    """Inputs that do not depend on each other's weights.

    Attributes:
        jobs: The inputs.
        kept: Values that the walk goes on from behind this step. None of them depends on the
            step's weights, so that they can be made before the weights are changed.
    """

    jobs: tuple[Job, ...]
    kept: tuple[str, ...]


def steps(
    plan: Plan, model: ir.Model, found: Sequence[Weight], shapes: Mapping[str, Shape]
) -> tuple[Step, ...]:
    """Return the steps of a walk, in the order of the graph.

    Args:
        plan: Weights that it keeps in different forms are different jobs: they read other values.
        model: The model.
        found: Linear weights.
        shapes: Measured shape of every tensor; where there is more than tensors no step ends.
    """
    kept, made = frontier(model, 0), list[Step]()
    for group in _grouped(model, _ordered(plan, model, found, shapes)):
        names = frontier(model, group[0][0])
        kept = names if all(name in shapes for name in names) else kept
        made.append(Step(tuple(job for _, job in group), kept))
    return tuple(made)


def _ordered(
    plan: Plan, model: ir.Model, found: Sequence[Weight], shapes: Mapping[str, Shape]
) -> list[tuple[int, Job]]:
    """Return the distinct inputs with the positions of their first nodes, in order."""
    places = {node: index for index, node in enumerate(model.graph)}
    by_form: dict[str, list[Weight]] = {}
    for weight in found:
        by_form.setdefault(plan.weights[weight.name].form, []).append(weight)
    every = [
        (min(places[weight.node] for weight in job.weights), job)
        for same in by_form.values()
        for job in jobs(same, shapes)
    ]
    return sorted(every, key=lambda one: one[0])


def _grouped(model: ir.Model, every: Sequence[tuple[int, Job]]) -> list[list[tuple[int, Job]]]:
    groups, depends, size = list[list[tuple[int, Job]]](), set[str](), 0
    for position, job in every:
        more = 2 * job.size_bytes  # two matrices each
        if not groups or job.weights[0].input_name in depends or size + more > STEP_BYTES:
            groups.append([])
            depends, size = set(), 0
        groups[-1].append((position, job))
        size += more
        readers = [node for weight in job.weights for node in walk.readers(weight.value)]
        depends |= {str(value.name) for value in reached(model, readers)}
    return groups


def taken(samples: Samples, every: Sequence[Step], shapes: Mapping[str, Shape]) -> Samples:
    """Return as many samples, evenly spaced, as there is room for what two models keep of them."""
    sizes = [sum(4 * int(np.prod(shapes.get(name, ()))) for name in step.kept) for step in every]
    room = SPOOL_BYTES // max(2 * max(sizes, default=1), 1)
    count = min(len(samples), max(room, FEWEST_SAMPLES))
    return _Some(samples, evenly(len(samples), count))


class _Some(Sequence[Mapping[str, Array]]):
    """Some of the samples, each read when it is asked for."""

    def __init__(self, samples: Samples, indices: Sequence[int]) -> None:
        self._samples, self._indices = samples, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        return self._samples[self._indices[index]]
