"""Which calibration method loses least of each activation, by what its readers make of it.

The samples are halved. Each method's range is told from one half, and the nodes that read the
tensor are run alone on samples of the other half, with the tensor rounded to that range; both ways
round, so that no range is judged on what it was fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.facts.ranges import Ranges, TensorRange, joined
from onnxsqueeze.numerics.clipping import METHODS, Ends, Method, differ, ends, is_settled
from onnxsqueeze.numerics.histogram import histogram
from onnxsqueeze.passes.insert_qdq import activation_grid
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.memory import release

Array = npt.NDArray[Any]
Feeds = Sequence[Mapping[str, Array]]
Halves = tuple[Ranges, Ranges]
"""What was seen over the samples of even number, and over those of odd number."""

LEAST_JUDGED, MOST_JUDGED = 2, 16
"""Samples of each half that ranges of the other half are judged on, by their size."""
JUDGED_ELEMENTS = 20_000_000
"""So many elements of the compared tensors are judged on in each half, all samples together."""
READERS = 3
"""At most so many readers of one tensor are run."""
GROUP_ELEMENTS = 8_000_000
"""Tensors are read out of the model in groups of so many elements or one tensor, per sample."""


def both(halves: Halves) -> dict[str, TensorRange]:
    """Return the record over all samples of each tensor."""
    even, odd = halves
    return {name: joined(one, odd[name]) for name, one in even.items()}


def settled(model: ir.Model, samples: Feeds, halves: Halves, *, threads: int = 1) -> Halves:
    """Return the records, with all values counted where the sampled ones did not settle the range.

    A tensor is counted where cutting by the sample alone would lose much by what the extremes tell
    (``clipping.is_settled``): then its tail is thicker than the sample shows.
    One group of tensors after the other is read out of the model, one sample at a time.

    Args:
        model: The model.
        samples: Those that the records were made of.
        halves: Records of each half, as ``ranges.streamed`` makes them.
        threads: Threads of a session.
    """
    whole = both(halves)
    open_ones = [name for name, one in whole.items() if not is_settled(one)]
    counted = [dict(half) for half in halves]
    for group in _groups(open_ones, whole):
        found: list[dict[str, TensorRange]] = [{}, {}]
        for number, values in _read(model, samples, range(len(samples)), group, threads):
            half = found[number % 2]
            for name in group:
                finite = values[name][np.isfinite(values[name])]
                if finite.size:
                    one = _counted(counted[number % 2][name], finite)
                    half[name] = _added(half[name], one) if name in half else one
        for half, more in zip(counted, found, strict=True):
            half |= more
    return counted[0], counted[1]


def _counted(seen: TensorRange, finite: Array) -> TensorRange:
    return replace(seen, sample=histogram(finite))


def _added(seen: TensorRange, more: TensorRange) -> TensorRange:
    return replace(seen, sample=seen.sample.merge(more.sample))


def compared(
    model: ir.Model, samples: Feeds, halves: Halves, *, threads: int = 1
) -> dict[str, TensorRange]:
    """Return the record over all samples of each tensor, with the method that loses least.

    The error of a method is the energy of what rounding changes in the outputs of the tensor's
    readers, as a fraction of their energy, over 2 to 16 samples of each half, by their size. The readers are the
    nodes that would read it as integer kernels; where there are none, the nodes that read it; and
    the tensor itself where none can be run alone. Ranges that differ by 2% or less count as one.

    Left at the default method: tensors that are no activation of a possible integer kernel, that
    were not finite, and all of them where there is only one sample.
    """
    whole = both(halves)
    readers = _readers(model)
    wanted = [
        name
        for name, one in whole.items()
        if name in readers and one.not_finite == 0 and one.low < one.high
    ]
    if len(samples) < 2:
        return {
            name: replace(one, reason="one sample, so that none can be judged on another")
            if name in readers
            else one
            for name, one in whole.items()
        }
    elements = sum(_elements(whole[name]) for name in wanted)
    most = min(max(int(JUDGED_ELEMENTS / max(elements, 1)), LEAST_JUDGED), MOST_JUDGED)
    numbers = _judged(len(samples), most)
    chosen: dict[str, TensorRange] = {}
    for group in _groups(wanted, whole):
        judges = {name: Judge.of(model, name, readers[name], halves, threads) for name in group}
        names = dict.fromkeys(t for judge in judges.values() for t in judge.tensors)
        for number, values in _read(model, samples, numbers, list(names), threads):
            for judge in judges.values():
                judge.add(values, half=number % 2)
        chosen |= {name: _decided(whole[name], judge.errors()) for name, judge in judges.items()}
    return whole | chosen


def _decided(seen: TensorRange, errors: Mapping[Method, float]) -> TensorRange:
    """Return the record with the method of the least error; the first of equal ones."""
    finite = {method: error for method, error in errors.items() if math.isfinite(error)}
    if not finite:
        return replace(seen, reason="its readers' outputs are not finite, so none was judged")
    best = min(finite, key=lambda method: finite[method])
    others = "minmax" if best != "minmax" else "mse"
    reason = f"least error of its readers on other samples: {finite[best]:.2g} of the energy"
    if others in finite and finite[others] > finite[best]:
        reason += f", {others} {finite[others]:.2g}"
    return replace(seen, method=best, reason=reason)


def _elements(seen: TensorRange) -> float:
    """Return the number of elements in one sample."""
    return seen.count / max(seen.samples, 1)


def _judged(count: int, most: int) -> list[int]:
    """Return numbers of samples: up to ``most`` of even and of odd number each, evenly spaced."""
    found: set[int] = set()
    for half in (0, 1):
        size = (count + 1 - half) // 2
        taken = min(most, size)
        found |= {half + 2 * (k * size // taken) for k in range(taken)}
    return sorted(found)


def _groups(names: Iterable[str], seen: Ranges) -> Iterator[list[str]]:
    """Yield the names in groups whose tensors are together not too large for memory."""
    group: list[str] = []
    held = 0.0
    for name in names:
        elements = _elements(seen[name])
        if group and held + elements > GROUP_ELEMENTS:
            yield group
            group, held = [], 0.0
        group, held = [*group, name], held + elements
    if group:
        yield group


def _read(
    model: ir.Model,
    samples: Feeds,
    numbers: Iterable[int],
    names: Sequence[str],
    threads: int,
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Yield the number of each sample with the values of the named tensors on it."""
    release()
    made = ort.session(ort.expose(model, names), threads=threads, low_memory=True)
    for number in numbers:
        needed = {one.name for one in made.get_inputs()}
        feed = {key: value for key, value in samples[number].items() if key in needed}
        yield number, ort.run(made, feed, names)


def _readers(model: ir.Model) -> dict[str, list[ir.Node]]:
    """Return the nodes to judge each activation of a possible integer kernel by."""
    able = [one for one in integer_candidates(model) if not one.reason]
    values = {value.name: value for value in model.graph.inputs}
    values |= {out.name: out for node in model.graph for out in node.outputs}
    nodes = {out.name: node for node in model.graph for out in node.outputs}
    found: dict[str, list[ir.Node]] = {}
    for one in able:
        found.setdefault(one.x, []).append(nodes[one.y])
    for one in able:
        if one.closes is not None and one.closes not in found:
            uses = [use.node for use in values[one.closes].uses()]
            found[one.closes] = [n for n in dict.fromkeys(uses) if _can_run_alone(model, n)]
    return {name: readers[:READERS] for name, readers in found.items()}


def _can_run_alone(model: ir.Model, node: ir.Node) -> bool:
    has_graph = any(
        one.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for one in node.attributes.values()
    )
    is_float = node.outputs[0].dtype == ir.DataType.FLOAT
    return (
        node.graph is model.graph
        and is_float
        and not has_graph
        and node.op_identifier() not in model.functions
    )


@dataclass
class _Reader:
    """A session of one node behind a rounded tensor, and the names that it is fed with."""

    session: Any
    feeds: tuple[str, ...]
    y: str


@dataclass
class Judge:
    """Runs the readers of one tensor and sums up what each method's range does to them."""

    name: str
    readers: list[_Reader]
    ranges: tuple[dict[Method, Ends], dict[Method, Ends]]
    noise: dict[Method, float]
    energy: float = 0.0

    @classmethod
    def of(
        cls,
        model: ir.Model,
        name: str,
        readers: Sequence[ir.Node],
        halves: Halves,
        threads: int,
    ) -> Judge:
        """Return the judge of a tensor; a half's samples are judged by the other half's ranges."""
        nodes: Sequence[ir.Node | None] = readers or [None]
        made = [_reader(model, name, node, threads) for node in nodes]
        even, odd = ({m: ends(half[name], m) for m in METHODS} for half in halves)
        return cls(name, made, (odd, even), dict.fromkeys(METHODS, 0.0))

    @property
    def tensors(self) -> list[str]:
        """Names of all values that are needed."""
        return [t for one in self.readers for t in (self.name, *one.feeds, one.y)]

    def add(self, values: Mapping[str, Array], half: int) -> None:
        """Add the errors on one sample of a half."""
        for reader in self.readers:
            y = values[reader.y]
            self.energy += float(np.square(y, dtype=np.float64).sum())
            known: dict[Ends, float] = {}
            for method, pair in self.ranges[half].items():
                same = next((other for other in known if not differ(pair, other)), None)
                if same is None:
                    known[pair] = _noise(reader, values, self.name, y, pair)
                self.noise[method] += known[pair if same is None else same]

    def errors(self) -> dict[Method, float]:
        """Return the relative energy of each method's error; infinite where there is none."""
        return {
            method: noise / self.energy if self.energy > 0 else math.inf
            for method, noise in self.noise.items()
        }


def _noise(reader: _Reader, values: Mapping[str, Array], name: str, y: Array, pair: Ends) -> float:
    scale, zero = activation_grid(*pair)
    feed = {"x": values[name], "y": y, "scale": scale, "zero": zero}
    feed |= {f"in.{k}": values[one] for k, one in enumerate(reader.feeds)}
    return float(ort.run(reader.session, feed)["noise"])


def _reader(model: ir.Model, name: str, node: ir.Node | None, threads: int) -> _Reader:
    """Return a session whose output is the energy of what rounding ``name`` changes in a node.

    Without a node, it is the energy of the rounding itself.
    """
    dtype = ir.DataType.FLOAT
    x, y, scale = (_input(key, dtype) for key in ("x", "y", "scale"))
    zero = _input("zero", ir.DataType.UINT8)
    graph = ir.Graph(
        [x, y, scale, zero], [], nodes=[], opset_imports=dict(model.graph.opset_imports),
        name="reader",
    )  # fmt: skip
    codes = ir.node("QuantizeLinear", [x, scale, zero])
    rounded = ir.node("DequantizeLinear", [codes.outputs[0], scale, zero])
    graph.extend([codes, rounded])
    feeds: list[str] = []
    made, target = rounded.outputs[0], name
    if node is not None:
        inputs = [_operand(graph, one, name, made, feeds) for one in node.inputs]
        alone = ir.Node(
            node.domain, node.op_type, inputs, node.attributes.values(),
            num_outputs=len(node.outputs), overload=node.overload,
        )  # fmt: skip
        graph.append(alone)
        made, target = alone.outputs[0], str(node.outputs[0].name)
    change = ir.node("Sub", [made, y])
    noise = ir.node("ReduceSumSquare", [change.outputs[0]], {"keepdims": 0})
    graph.extend([change, noise])
    noise.outputs[0].name, noise.outputs[0].type = "noise", ir.TensorType(dtype)
    graph.outputs.append(noise.outputs[0])
    single = ir.Model(graph, ir_version=model.ir_version)
    return _Reader(ort.session(single, optimization="off", threads=threads), tuple(feeds), target)


def _input(name: str, dtype: ir.DataType) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype))


def _operand(
    graph: ir.Graph, value: ir.Value | None, name: str, rounded: ir.Value, feeds: list[str]
) -> ir.Value | None:
    """Return what stands for an operand in a reader's own graph; adds to ``feeds``."""
    if value is None or value.name == name:
        return None if value is None else rounded
    if value.is_initializer() and value.const_value is not None:
        known = graph.initializers.get(str(value.name))
        made = known or ir.Value(name=value.name, const_value=value.const_value)
        graph.initializers[str(value.name)] = made
        return made
    assert value.dtype is not None  # normalised models have inferred types
    made = _input(f"in.{len(feeds)}", value.dtype)
    graph.inputs.append(made)
    feeds.append(str(value.name))
    return made
