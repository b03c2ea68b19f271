"""Gram matrices of the inputs of linear nodes, from a stream of samples, in bounded memory.

Nodes go through in groups: a group's inputs are the outputs of a session that runs no further
than it must, and a group is as large as the memory for its tensors and matrices allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.weights import Weight
from onnxsqueeze.facts.grams import Grams
from onnxsqueeze.facts.store import Key, Store
from onnxsqueeze.measure.ranges import cores
from onnxsqueeze.progress import tell_of_part
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.memory import release
from onnxsqueeze.runtime.shapes import Shape

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]

MOST_FEATURES = 6144
"""Above this a Gram matrix is over 150 MB and its factorisation takes minutes."""
ROWS_PER_FEATURE = 8
FEWEST_ROWS, MOST_ROWS = 4096, 32768
ROWS_AT_ONCE = 256
GROUP_BYTES = 48 * 2**20


@dataclass(frozen=True)
class Job:
    """One distinct matrix: the weights that share it, and what it takes.

    Attributes:
        weights: Weights whose rows are the same.
        features: Values per row.
        groups: Matrices: more than one for grouped convolutions.
        tensor_bytes: Bytes of the tensor that the rows come from.
    """

    weights: tuple[Weight, ...]
    features: int
    groups: int
    tensor_bytes: int

    @property
    def size_bytes(self) -> int:
        """What one matrix takes, with the tensor and the rows that wait."""
        rows = 2 * ROWS_AT_ONCE  # those that wait, and their copy in one piece
        return self.tensor_bytes + 4 * self.groups * self.features * (self.features + rows)


def grams(
    model: ir.Model,
    weights: Sequence[Weight],
    samples: Samples,
    shapes: Mapping[str, Shape],
    *,
    store: Store,
    key: Key,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Grams:
    """Return the Gram matrix of every linear weight's input, saved in ``store`` under ``key``.

    Weights that are no matrix product, or have over ``MOST_FEATURES`` features, have none.

    Args:
        model: A normalised model.
        weights: Its weights.
        samples: Feeds.
        shapes: Measured shape of every tensor.
        store: Where the record is kept, or found.
        key: What makes this measurement what it is.
        seed: Seed of the choice of rows.
        progress: Called with (done, all) of samples times groups.
    """
    saved = store.get("grams", key)
    if saved is not None:
        return Grams(saved)
    every = list(jobs(weights, shapes))
    plan = memory_plan([job.size_bytes for job in every], GROUP_BYTES)
    groups = [[every[index] for index in group] for group in plan]
    arrays: dict[str, Array] = {}
    places: dict[str, dict[str, Any]] = {}
    for number, group in enumerate(groups):
        done = number * len(samples)
        step = partial(tell_of_part, progress, done, len(groups) * len(samples))
        sums = _one_pass(model, group, samples, seed, step)
        for job, (total, rows) in zip(group, sums, strict=True):
            array = f"g{len(arrays)}"
            arrays[array] = (total / max(rows, 1)).astype(np.float32)
            places |= {weight.name: {"array": array, "rows": rows} for weight in job.weights}
    return Grams(store.put("grams", key, {"weights": places}, arrays))


def jobs(weights: Sequence[Weight], shapes: Mapping[str, Shape]) -> Iterator[Job]:
    """Yield one job per distinct input: equal tensor, operator and attributes see equal rows."""
    found: dict[tuple[Any, ...], list[Weight]] = {}
    for weight in weights:
        if weight.linear is not None and weight.input_name in shapes:
            attributes = sorted((a.name, str(a.value)) for a in weight.node.attributes.values())
            features = weight.linear.matrix(weight.node, empty(weight.shape)).shape
            if features[2] <= MOST_FEATURES:
                same = (
                    weight.input_name,
                    weight.node.op_type,
                    str(attributes),
                    weight.shape[2:],  # a kernel's shape need not be an attribute
                    features[0],
                    features[2],
                )
                found.setdefault(same, []).append(weight)
    for (tensor, *_, groups, features), sharing in found.items():
        size = 4 * int(np.prod(shapes[tensor]))
        yield Job(tuple(sharing), features, groups, size)


def empty(shape: tuple[int, ...]) -> Array:
    """Return an array of this shape that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)


def memory_plan(sizes: Sequence[int], limit: int) -> tuple[tuple[int, ...], ...]:
    """Return groups of neighbours whose sizes sum to at most a limit, as few as that takes.

    What is larger by itself is a group by itself. Order stays, and each is in one group.

    Args:
        sizes: Bytes.
        limit: Bytes.

    Returns:
        Groups of indices.

    Example:
        >>> memory_plan([3, 4, 2, 9, 1], limit=7)
        ((0, 1), (2,), (3,), (4,))
    """
    groups, used = list[list[int]](), 0
    for index, size in enumerate(sizes):
        if not groups or used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += size
    return tuple(tuple(group) for group in groups)


def exposing(model: ir.Model, tensors: Iterable[str]) -> Any:
    """Return a session that makes the tensors that are not fed, or None if all of them are."""
    fed = {value.name for value in model.graph.inputs}
    wanted = [name for name in dict.fromkeys(tensors) if name not in fed]
    if not wanted:
        return None
    release()
    return ort.session(ort.expose(model, wanted), threads=cores(), low_memory=True)


def with_exposed(made: Any, feed: Mapping[str, Array]) -> dict[str, Array]:
    """Return a feed with what a session makes of it; without a session, the feed alone."""
    values = dict(feed)
    if made is not None:
        values |= ort.run(made, {one.name: feed[one.name] for one in made.get_inputs()})
    return values


def _one_pass(
    model: ir.Model, group: list[Job], samples: Samples, seed: int, step: Callable[[int], None]
) -> list[tuple[Array, int]]:
    made = exposing(model, (job.weights[0].input_name for job in group))
    sums = [GramSum(job) for job in group]
    rng = np.random.default_rng(seed)
    for number in range(len(samples)):
        values: dict[str, Array] = {}  # the last sample's tensors go before the next ones come
        values = with_exposed(made, samples[number])
        for job, one in zip(group, sums, strict=True):
            one.add(rows_of(job, values[job.weights[0].input_name], len(samples), rng))
        step(number + 1)
    return [one.result() for one in sums]


class GramSum:
    """A growing sum of x xᵀ; rows wait until there are enough for one fast product."""

    def __init__(self, job: Job) -> None:
        self._total = np.zeros((job.groups, job.features, job.features), np.float32)
        self._waiting: list[Array] = []
        self._rows = 0

    def add(self, rows: Array) -> None:
        """Count rows of shape (groups, rows, features)."""
        self._waiting.append(rows)
        self._rows += rows.shape[1]
        if sum(part.shape[1] for part in self._waiting) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            rows = np.concatenate(self._waiting, axis=1)
            self._total += np.matmul(rows.transpose(0, 2, 1), rows)
            self._waiting = []

    def result(self) -> tuple[Array, int]:
        """Return the sum, (groups, features, features), and the number of rows."""
        self._flush()
        return self._total, self._rows


def rows_of(job: Job, x: Array, samples: int, rng: np.random.Generator) -> Array:
    """Return one sample's share of rows, (groups, rows, features); those not finite are left out.

    Args:
        job: Whose rows.
        x: The sample's tensor that they come from.
        samples: Samples that the wanted rows are spread over.
        rng: Draws them where there are more.
    """
    rows = drawn_rows(job, x, samples, rng)
    finite = np.isfinite(rows).all(axis=(0, 2))  # one row of NaN would spoil the whole matrix
    return rows if finite.all() else rows[:, finite]


def drawn_rows(job: Job, x: Array, samples: int, rng: np.random.Generator) -> Array:
    """Return the rows of ``rows_of``, those that are not finite among them, as float32."""
    weight = job.weights[0]
    assert weight.linear is not None  # jobs are made of linear weights
    wanted = min(max(ROWS_PER_FEATURE * job.features, FEWEST_ROWS), MOST_ROWS)
    rows = weight.linear.rows(weight.node, x, weight.shape, -(-wanted // samples), rng)
    return rows.astype(np.float32, copy=False)
