"""What is measured of a model that is too large to try each weight: in the memory of a few.

Second moments of the inputs are taken in one walk through the graph: each step runs the nodes
between two places, with the tensors between them kept for each sample, and a matrix goes to disk
when it is made. Instead of the output's error with one weight rounded, which would take a run of
the whole model per weight, a weight's damage is the error of its own product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.weights import Weight
from onnxsqueeze.facts.grams import Gram, SpreadGrams
from onnxsqueeze.facts.store import Fact, Key, Store
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.graph.mapped import release
from onnxsqueeze.graph.segment import frontier
from onnxsqueeze.measure.grams import GramSum, Job, Samples, jobs, memory_plan, rows_of
from onnxsqueeze.measure.memory import STEP_BYTES
from onnxsqueeze.measure.streams import Stream
from onnxsqueeze.numerics.error import TRIED_BITS
from onnxsqueeze.numerics.grid import from_grid, max_scale, to_grid
from onnxsqueeze.passes.round_parts import channels_in_parts
from onnxsqueeze.runtime.memory import release as release_memory
from onnxsqueeze.runtime.shapes import Shape

Array = npt.NDArray[Any]


def large_grams(
    model: ir.Model,
    found: Sequence[Weight],
    samples: Samples,
    shapes: Mapping[str, Shape],
    *,
    store: Store,
    key: Key,
    seed: int = 0,
    step_bytes: int = STEP_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> SpreadGrams:
    """Return the Gram matrix of every linear weight's input, each in a record of the store.

    The matrices are those of ``grams``, but for the rows that are drawn where there are more than
    wanted. Those that are in the store are not measured again.

    Args:
        model: A normalised model.
        found: Its weights.
        samples: Feeds.
        shapes: Measured shape of every tensor.
        store: Where the records are kept, or found.
        key: What makes this measurement what it is.
        seed: Seed of the choice of rows.
        step_bytes: Most that the matrices of one step take, if it is not one alone.
        progress: Called with (done, all) of the steps.
    """
    places = {node: index for index, node in enumerate(model.graph)}
    every = sorted(
        jobs(found, shapes), key=lambda job: min(places[weight.node] for weight in job.weights)
    )
    groups = memory_plan([job.size_bytes for job in every], step_bytes)
    stream, kept = Stream(samples), frontier(model, 0)
    for number, group in enumerate(groups):
        some = [every[index] for index in group]
        start = min(places[weight.node] for weight in some[0].weights)
        names = frontier(model, start)
        kept = names if all(name in shapes for name in names) else kept
        missing = [job for job in some if store.get("gram", _key(key, job)) is None]
        if missing:
            _one_step(model, missing, (stream, kept), store, key, seed)
        if progress is not None:
            progress(number + 1, len(groups))
    records: dict[str, Fact] = {}
    for job in every:
        saved = store.get("gram", _key(key, job))
        assert saved is not None  # made above
        records |= {weight.name: saved for weight in job.weights}
    return SpreadGrams(records)


def _key(key: Key, job: Job) -> Key:
    return {**key, "inputs of": [weight.name for weight in job.weights]}


def _one_step(
    model: ir.Model,
    group: Sequence[Job],
    at: tuple[Stream, Sequence[str]],
    store: Store,
    key: Key,
    seed: int,
) -> None:
    """Make the records of a group's matrices, and move the stream to where the group begins."""
    release_memory()
    stream, kept = at
    tensors = [job.weights[0].input_name for job in group]
    sums, rng = [GramSum(job) for job in group], np.random.default_rng(seed)
    for values in stream.steps(model, list(dict.fromkeys(tensors)), kept):
        for job, name, one in zip(group, tensors, sums, strict=True):
            one.add(rows_of(job, values[name], len(stream), rng))
    for job, one in zip(group, sums, strict=True):
        total, rows = one.result()
        gram = Gram((total / max(rows, 1)).astype(np.float32), rows)
        lost = {weight.name: _product_error(weight, gram) for weight in job.weights}
        store.put("gram", _key(key, job), {"rows": rows, "lost": lost}, {"matrix": gram.matrix})


def _product_error(weight: Weight, gram: Gram) -> float:
    """Return the error energy of a weight's own product with four bits, relative to its energy.

    ``Σ e H eᵀ / Σ w H wᵀ`` over the channels; with one scale per channel, as other sensitivities.
    """
    assert weight.linear is not None  # jobs are made of linear weights
    assert weight.value.const_value is not None  # ONNX: an initializer has a value
    values = weight.value.const_value.numpy()
    noise = signal = 0.0
    for rows, matrix in zip(weight.linear.matrix(weight.node, values), gram.matrix, strict=True):
        for part in channels_in_parts(rows, 0):
            wide = part.astype(np.float32)
            scale = max_scale(wide, TRIED_BITS)
            error = wide - from_grid(to_grid(wide, scale, TRIED_BITS), scale)
            noise += float(np.vdot(error @ matrix, error))
            signal += float(np.vdot(wide @ matrix, wide))
    release(weight.value.const_value)
    return noise / signal if signal > 0 else 0.0


def described_in_parts(
    weight: Weight, rows: int, damage: float | None, prune_below: float | None
) -> WeightFacts:
    """Return what is known of one weight, read some channels at a time.

    Args:
        weight: The weight.
        rows: Rows that its Gram matrix is made of.
        damage: Its expected damage.
        prune_below: Values below become zero.
    """
    tensor = weight.value.const_value
    assert tensor is not None  # ONNX: an initializer has a value
    largest, bad, zeros = 0.0, 0, 0
    for part in channels_in_parts(tensor.numpy(), weight.axis):
        finite = np.isfinite(part)
        size = np.abs(np.where(finite, part, 0))
        largest = max(largest, float(size.max(initial=0.0)))
        bad += int(part.size - finite.sum())
        goes = part == 0 if prune_below is None else size < prune_below
        zeros += int((goes & finite).sum())
    release(tensor)
    return WeightFacts(
        name=weight.name,
        node=weight.node.name or "",
        operator=weight.node.op_type,
        role=weight.role,
        shape=weight.shape,
        axis=weight.axis,
        item_bytes=tensor.dtype.itemsize,
        largest=largest,
        not_finite=bad,
        zeros=zeros,
        damage=damage,
        rows=rows,
    )
