"""Calibration in one streaming pass: the graph itself computes what is kept of each tensor.

Next to each watched tensor stand a strided sample, the minima and maxima along its last axis and,
where asked for, per-channel moments. They run right after the tensor is made, so that it can be
freed as in a plain run; what leaves the graph is small, whatever the size of the tensors and the
number of samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.facts.ranges import Ranges, TensorRange
from onnxsqueeze.graph.edit import add_initializer, insert_behind
from onnxsqueeze.measure.calibrate import Halves, both, compared, settled
from onnxsqueeze.numerics.histogram import Histogram, histogram
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.memory import release

Array = npt.NDArray[Any]

SAMPLED = 4096
"""Of more than twice this many elements about this many are sampled in each run, else all."""
SMALLEST_OPSET = 18
"""Reductions take their axes as an input from here on."""


def cores() -> int:
    """Return the number of processors that this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


@dataclass
class _Running:
    """What has been seen of one tensor so far."""

    count: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    not_finite: int = 0
    sample: Histogram | None = None
    extremes: Histogram | None = None
    samples: int = 0
    sum_low: float = 0.0
    sum_high: float = 0.0
    sums: list[Array] = field(default_factory=list)

    def add(self, out: Mapping[str, Array]) -> None:
        size = float(out["size"].prod())
        self.count += size
        sample = out["sample"].astype(np.float64)
        finite = sample[np.isfinite(sample)]
        self.not_finite += sample.size - finite.size
        edges = np.concatenate([_fewer(out["low"], np.minimum), _fewer(out["high"], np.maximum)])
        edges = edges[np.isfinite(edges)]
        if finite.size:
            self.sample = _merged(self.sample, finite)
        if edges.size:
            self.extremes = _merged(self.extremes, edges)
        # Where an edge is infinite, a sampled element may be the smallest or the largest.
        seen = np.concatenate([edges, finite])
        if seen.size:
            low, high = float(seen.min()), float(seen.max())
            self.low, self.high = min(self.low, low), max(self.high, high)
            self.samples += 1
            self.sum_low, self.sum_high = self.sum_low + low, self.sum_high + high
        if "mean" in out and size:
            self._add_moments([out[k].astype(np.float64) * size for k in ("mean", "mean_square")])

    def _add_moments(self, moments: list[Array]) -> None:
        if not self.sums:
            self.sums = moments
        elif self.sums[0].shape == moments[0].shape:
            self.sums = [a + b for a, b in zip(self.sums, moments, strict=True)]
        else:  # not the same channels in every sample: they have no means
            self.sums = [np.zeros(0), np.zeros(0)]

    def result(self) -> TensorRange:
        nothing = Histogram(0, 0, np.zeros(1))
        mean, square = [s / self.count for s in self.sums] or (np.zeros(0), np.zeros(0))
        seen = self.samples > 0
        return TensorRange(
            count=self.count,
            low=float(self.low) if seen else 0.0,
            high=float(self.high) if seen else 0.0,
            not_finite=self.not_finite,
            sample=self.sample or nothing,
            extremes=self.extremes or nothing,
            mean=mean,
            mean_square=square,
            samples=self.samples,
            average_low=self.sum_low / max(self.samples, 1),
            average_high=self.sum_high / max(self.samples, 1),
        )


def _merged(histogram_so_far: Histogram | None, values: Array) -> Histogram:
    new = histogram(values)
    return new if histogram_so_far is None else histogram_so_far.merge(new)


def _fewer(values: Array, reduce: np.ufunc) -> Array:
    flat = values.astype(np.float64).ravel()
    if flat.size <= SAMPLED:
        return flat
    result: Array = reduce.reduceat(flat, np.arange(0, flat.size, -(-flat.size // SAMPLED)))
    return result


def ranges(
    model: ir.Model,
    samples: Iterable[Mapping[str, Array]],
    tensors: Sequence[str],
    *,
    moments: Mapping[str, tuple[int, int]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Ranges:
    """Return what was seen of each of ``tensors``, in one pass and bounded memory.

    Args:
        model: A normalised model of opset 18 or later.
        samples: Feeds; their shapes may differ.
        tensors: Names of floating-point values of the main graph.
        moments: For some of the tensors, the axis whose entries get a mean and a mean square
            each, and the tensor's rank.
        progress: Called with the number of samples done.

    Raises:
        ValueError: If the model's opset is under 18.
    """
    return both(streamed(model, samples, tensors, moments=moments, progress=progress))


def compared_ranges(
    model: ir.Model,
    samples: Sequence[Mapping[str, Array]],
    tensors: Sequence[str],
    *,
    moments: Mapping[str, tuple[int, int]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Ranges:
    """Return what ``ranges`` does, with the method that loses least for each tensor.

    After the pass that sees all tensors, those that it does not tell where to cut are counted in
    full. Methods are compared for what integer kernels read and write; see ``measure.calibrate``.
    It takes several times as long as one pass. The arguments and errors are those of ``ranges``.
    """
    halves = streamed(model, samples, tensors, moments=moments, progress=progress)
    halves = settled(model, samples, halves, threads=cores())
    return compared(model, samples, halves, threads=cores())


def streamed(
    model: ir.Model,
    samples: Iterable[Mapping[str, Array]],
    tensors: Sequence[str],
    *,
    moments: Mapping[str, tuple[int, int]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Halves:
    """Return what one pass saw of each tensor, over samples of even and of odd number.

    The arguments and errors are those of ``ranges``.
    """
    if not tensors:
        return {}, {}
    watched, keys = instrumented(model, tensors, moments or {})
    release()
    made = ort.session(watched, threads=cores(), low_memory=True)
    running = [{name: _Running() for name in tensors} for _ in range(2)]
    for number, feed in enumerate(samples):
        outputs = ort.run(made, feed)
        for name in tensors:
            kept = {key: outputs[output] for key, output in keys[name].items()}
            running[number % 2][name].add(kept)
        if progress is not None:
            progress(number + 1)
    even, odd = ({name: one.result() for name, one in half.items()} for half in running)
    return even, odd


def instrumented(
    model: ir.Model, tensors: Sequence[str], moments: Mapping[str, tuple[int, int]]
) -> tuple[ir.Model, dict[str, dict[str, str]]]:
    """Return a copy of ``model`` that outputs statistics, and their names by tensor and kind."""
    opset = model.graph.opset_imports.get("", 0)
    if opset < SMALLEST_OPSET:
        raise ValueError(
            f"calibration needs opset {SMALLEST_OPSET} or later, and the model has {opset}"
        )
    copy = model.clone()
    graph = copy.graph
    values = {value.name: value for value in graph.inputs}
    values |= {output.name: output for node in graph for output in node.outputs}
    constants = {
        key: add_initializer(graph, f"onnxsqueeze.{key}", np.array(value, np.int64))
        for key, value in {
            "all": [-1],
            "cut": [2 * SAMPLED],
            "two": [2],
            "one": [1],
            "zero": [0],
        }.items()
    }
    graph.outputs.clear()
    keys: dict[str, dict[str, str]] = {}
    for name in tensors:
        value = values[name]
        nodes, made = _statistics(value, constants)
        if name in moments:
            more, means = _moments(graph, value, *moments[name])
            nodes, made = nodes + more, made | means
        insert_behind(graph, value, nodes)
        keys[name] = {}
        for key, output in made.items():
            output.name = f"onnxsqueeze.{len(keys)}.{key}"
            graph.outputs.append(output)
            keys[name][key] = output.name
    return copy, keys


def _typed(value: ir.Value, dtype: ir.DataType) -> ir.Value:
    value.type = ir.TensorType(dtype)
    return value


def _statistics(
    value: ir.Value, constants: Mapping[str, ir.Value]
) -> tuple[list[ir.Node], dict[str, ir.Value]]:
    """Return what samples a value with an odd stride and reduces its last axis."""
    nodes: list[ir.Node] = []

    def op(kind: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        nodes.append(ir.node(kind, inputs, attributes))
        return nodes[-1].outputs[0]

    flat = op("Reshape", value, constants["all"])
    size = _typed(op("Shape", flat), ir.DataType.INT64)
    # An odd stride: an even one would meet the same channel again and again.
    stride = op(
        "Add", op("Mul", op("Div", size, constants["cut"]), constants["two"]), constants["one"]
    )
    sample = op("Slice", flat, constants["zero"], size, constants["zero"], stride)
    ranked = op("Unsqueeze", value, constants["zero"])  # a scalar has no last axis
    kept = {
        "sample": sample,
        "low": op("ReduceMin", ranked, constants["all"], keepdims=0),
        "high": op("ReduceMax", ranked, constants["all"], keepdims=0),
    }
    if value.dtype != ir.DataType.FLOAT:  # undeclared, or half
        to = int(ir.DataType.FLOAT)
        kept = {key: op("Cast", one, to=to) for key, one in kept.items()}
    return nodes, {"size": size} | {k: _typed(v, ir.DataType.FLOAT) for k, v in kept.items()}


def _moments(
    graph: ir.Graph, value: ir.Value, axis: int, rank: int
) -> tuple[list[ir.Node], dict[str, ir.Value]]:
    """Return the nodes and outputs for the mean and the mean square of each entry of ``axis``."""
    name = f"onnxsqueeze.not{axis % rank}of{rank}"
    others = [other for other in range(rank) if other != axis % rank]
    axes = graph.initializers.get(name) or add_initializer(graph, name, np.array(others, np.int64))
    float_type = ir.DataType.FLOAT
    wide = ir.node("Cast", [value], {"to": int(float_type)})  # squares leave float16's range
    x = wide.outputs[0]
    kept = {"keepdims": 0, "noop_with_empty_axes": 1}
    mean = ir.node("ReduceMean", [x, axes], kept)
    squares = ir.node("Mul", [x, x])
    square = ir.node("ReduceMean", [squares.outputs[0], axes], kept)
    outputs = {
        "mean": _typed(mean.outputs[0], float_type),
        "mean_square": _typed(square.outputs[0], float_type),
    }
    return [wide, mean, squares, square], outputs
