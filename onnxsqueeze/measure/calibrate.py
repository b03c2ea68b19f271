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
from onnxsqueeze.graph.edit import add_initializer
from onnxsqueeze.numerics.clipping import DEFAULT, METHODS, Ends, Method, differ, ends, is_settled
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
CLEAR = 0.9
"""A method is taken instead of the default one if it leaves no more of the error in every view."""
READERS = 3
"""At most so many readers of one tensor are run."""
GROUP_ELEMENTS = 4_000_000
"""Tensors are read out of the model in groups of so many elements, with their readers' weights."""


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
    sizes = {name: _elements(one) for name, one in whole.items() if not is_settled(one)}
    counted = [dict(half) for half in halves]
    for group in _groups(sizes):
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
    """Return the record over all samples of each tensor, with the method that loses clearly least.

    The error of a method is what rounding changes in the outputs of the tensor's readers, in two
    views: the mean over rows (of the last axis) of the squared error over the row's energy plus
    the median of all rows; and the energy of all errors over that of all outputs. The first alone
    would cut off what only few rows have, the second would keep it at any price to the others. It
    is over 2 to 16 samples of each half. The readers are the nodes that would read it as integer
    kernels; where there are none, the nodes that read it; and the tensor itself where none can be
    run alone. Ranges that differ by 2% or less count as one.

    Another method than the default one must be clearly better in both views of each half: what is
    rare is in few samples, and cutting it off looks better on the others than it is.

    Left at the default method: tensors that are no activation of a possible integer kernel, that
    were not finite, and all of them where there is only one sample.
    """
    whole, readers = both(halves), _readers(model)
    if len(samples) < 2:
        reason = "one sample, so that none can be judged on another"
        alone = {name: replace(whole[name], reason=reason) for name in whole if name in readers}
        return whole | alone
    finite = [name for name, one in whole.items() if not one.not_finite and one.low < one.high]
    elements = {name: _elements(whole[name]) for name in finite if name in readers}
    most = int(JUDGED_ELEMENTS / max(sum(elements.values()), 1))
    numbers = _judged(len(samples), min(max(most, LEAST_JUDGED), MOST_JUDGED))
    sizes = {name: size + _constants(readers[name]) for name, size in elements.items()}
    chosen: dict[str, TensorRange] = {}
    for group in _groups(sizes):
        judges = {name: Judge.of(model, name, readers[name], halves, threads) for name in group}
        names = dict.fromkeys(t for judge in judges.values() for t in judge.tensors)
        for number, values in _read(model, samples, numbers, list(names), threads):
            for judge in judges.values():
                judge.add(values, half=number % 2)
        chosen |= {name: _decided(whole[name], judge.errors()) for name, judge in judges.items()}
    return whole | chosen


def _decided(seen: TensorRange, errors: Sequence[Mapping[Method, float]]) -> TensorRange:
    """Return the record with the best method of those that beat the default one in every view.

    The first views are those that are told as numbers.
    """
    usual = [view[DEFAULT] for view in errors]
    if not all(math.isfinite(error) for error in usual):
        return replace(seen, reason="its readers' outputs are not finite, so none was judged")
    told = f"{sum(usual[:2]) / 2:.2g}"
    ratios = {
        method: max(view[method] / error for view, error in zip(errors, usual, strict=True))
        for method in METHODS
        if all(usual)
    }
    best = min(ratios, key=lambda method: ratios[method], default=DEFAULT)
    if ratios.get(best, 1.0) > CLEAR:
        none = f"no method clearly better on other samples; its readers' error by {DEFAULT} is"
        return replace(seen, method=DEFAULT, reason=f"{none} {told}")
    better = sum(view[best] for view in errors[:2]) / 2
    reason = f"its readers' error on other samples is {better:.2g}, and {told} by {DEFAULT}"
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


def _groups(sizes: Mapping[str, float]) -> Iterator[list[str]]:
    """Yield the names in groups whose elements are together not too many for memory."""
    group: list[str] = []
    held = 0.0
    for name, size in sizes.items():
        if group and held + size > GROUP_ELEMENTS:
            yield group
            group, held = [], 0.0
        group, held = [*group, name], held + size
    if group:
        yield group


def _constants(nodes: Iterable[ir.Node]) -> int:
    """Return the number of elements of the constants that nodes read."""
    tensors = [one.const_value for node in nodes for one in node.inputs if one is not None]
    return sum(tensor.size for tensor in tensors if tensor is not None)


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
        and all(one is None or one.dtype is not None for one in node.inputs)
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
    noise: tuple[dict[Method, Array], dict[Method, Array]]
    whole: list[Array]

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
        return cls(
            name,
            made,
            (odd, even),
            ({m: np.zeros(2) for m in METHODS}, {m: np.zeros(2) for m in METHODS}),
            [np.zeros(2), np.zeros(2)],
        )

    @property
    def tensors(self) -> list[str]:
        """Names of all values that are needed."""
        return [t for one in self.readers for t in (self.name, *one.feeds, one.y)]

    def add(self, values: Mapping[str, Array], half: int) -> None:
        """Add the errors on one sample of a half."""
        for reader in self.readers:
            shares = _shares(values[reader.y])
            self.whole[half] += shares.shape[1], _energies(values[reader.y]).sum()
            known: dict[Ends, Array] = {}
            for method, pair in self.ranges[half].items():
                same = next((other for other in known if not differ(pair, other)), None)
                if same is None:
                    known[pair] = _noise(reader, values, self.name, pair, shares)
                self.noise[half][method] += known[pair if same is None else same]

    def errors(self) -> list[dict[Method, float]]:
        """Return each method's error by row in each half, then its error by energy in each half.

        It is infinite where nothing could be told.
        """
        views = [(half, kind) for kind in (0, 1) for half in (0, 1)]
        return [
            {
                method: float(one[kind] / self.whole[half][kind])
                if self.whole[half][kind] > 0 and math.isfinite(one[kind])
                else math.inf
                for method, one in self.noise[half].items()
            }
            for half, kind in views
        ]


def _energies(y: Array) -> Array:
    """Return the energy of each row of an output, shape (rows,)."""
    rows: Array = np.square(np.atleast_1d(y), dtype=np.float64).sum(axis=-1).ravel()
    return rows


def _shares(y: Array) -> Array:
    """Return what a unit of squared error counts in each row, by row and by energy: (2, rows)."""
    rows = _energies(y)
    equal = np.ones(rows.size)
    if rows.sum() == 0:
        return np.stack([equal, equal])
    floor = max(float(np.median(rows)), 1e-6 * float(rows.mean()))
    return np.stack([1 / (rows + floor), equal])


def _noise(
    reader: _Reader, values: Mapping[str, Array], name: str, pair: Ends, shares: Array
) -> Array:
    """Return what a range changes in a reader's output, weighed by row and by energy."""
    scale, zero = activation_grid(*pair)
    feed = {"x": values[name], "y": values[reader.y], "scale": scale, "zero": zero}
    feed |= {f"in.{k}": values[one] for k, one in enumerate(reader.feeds)}
    noise = ort.run(reader.session, feed)["noise"].astype(np.float64)
    changed: Array = shares @ noise.ravel()
    return changed


def _reader(model: ir.Model, name: str, node: ir.Node | None, threads: int) -> _Reader:
    """Return a session whose output is the energy of what rounding changes in a node, per row.

    Without a node, it is the energy of the rounding of ``name`` itself.
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
    first = add_initializer(graph, "first axis", np.array([0], np.int64))
    last = add_initializer(graph, "last axis", np.array([-1], np.int64))
    ranked = ir.node("Unsqueeze", [change.outputs[0], first])  # a scalar has no last axis
    noise = ir.node("ReduceSumSquare", [ranked.outputs[0], last], {"keepdims": 0})
    graph.extend([change, ranked, noise])
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
    assert value.dtype is not None  # checked before, or what a product reads
    made = _input(f"in.{len(feeds)}", value.dtype)
    graph.inputs.append(made)
    feeds.append(str(value.name))
    return made
