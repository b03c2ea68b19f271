"""Integer kernels: planned tensors go through QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.analysis.regions import Joint
from onnxsqueeze.graph import walk
from onnxsqueeze.graph.edit import add_initializer, insert_behind, shaped_like
from onnxsqueeze.numerics.grid import as_rows, from_grid, from_rows, to_grid
from onnxsqueeze.passes.chain import Chain
from onnxsqueeze.passes.kernel_codes import ZERO_CODES, coded, kernel_codes
from onnxsqueeze.passes.qdq_checks import grid_tensors, planned_candidates, planned_joints
from onnxsqueeze.passes.round_weights import Codes, pruned
from onnxsqueeze.plan.types import Plan

Array = npt.NDArray[Any]

LARGEST_BIAS_CODE = 2**28
"""Largest magnitude of a bias code: int32 with room for the sum that it is added to."""


def activation_grid(
    low: float, high: float, kind: type[np.uint8 | np.uint16] = np.uint8
) -> tuple[Array, Array]:
    """Return scale (float32, shape ()) and zero point (of ``kind``, shape ()) of a grid.

    The scale is the smallest for which both ends lie between codes 0 and the largest when zero has
    a code of its own: ``scale = max(high / (largest − zero), −low / zero)``. The range is widened
    to hold zero. The ends are met up to the rounding of the scale to float32.

    Raises:
        ValueError: If an end is not finite or the ends are the wrong way round.

    Source:
        ONNX QuantizeLinear-21.

    Example:
        >>> scale, zero = activation_grid(-1.0, 3.0)
        >>> int(zero), float(scale)
        (64, 0.015706805512309074)
        >>> int(activation_grid(0.0, 0.0)[1])
        0
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"range [{low}, {high}] is not finite or is empty")
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return np.array(1, np.float32), np.array(0, kind)
    largest = int(np.iinfo(kind).max)
    zero = min(max(round(-low / (high - low) * largest), int(low < 0)), largest - int(high > 0))
    widths = [high / (largest - zero)] if high > 0 else []
    widths += [-low / zero] if low < 0 else []
    smallest = float(np.finfo(np.float32).tiny)
    return np.array(max(*widths, smallest), np.float32), np.array(zero, kind)


def symmetric_grid(low: float, high: float) -> tuple[Array, Array]:
    """Return scale (float32, shape ()) and zero point (int8, 0) of a grid from -127 to 127.

    Raises:
        ValueError: If an end is not finite or the ends are the wrong way round.

    Example:
        >>> scale, zero = symmetric_grid(-1.0, 254.0)
        >>> float(scale), int(zero)
        (2.0, 0)
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"range [{low}, {high}] is not finite or is empty")
    scale = max(abs(low), abs(high)) / 127 or 1.0
    return np.array(max(scale, np.finfo(np.float32).tiny), np.float32), np.array(0, np.int8)


class InsertQdqPass(ir.passes.InPlacePass):
    """Put planned nodes of the main graph between integers, so that they run as integer kernels.

    A node is planned if the form of its weight is ``qdq``, or, without a weight, if the plan joins
    it. Its activations go through one
    QuantizeLinear and DequantizeLinear that all planned readers of the tensor share; other readers
    go on reading floats, unless the tensor closes a planned node, because then the kernel writes
    integers only. Weights are stored per channel as uint8 around 128, or as int8 where the plan
    says so, and biases as int32 at scale x·w, one copy for each node that reads them. Scales of
    channels so dead that the bias would not fit are raised. On symmetric grids activations are
    int8 around 0, and biases stay float; on wide ones they are uint16.

    Decides nothing: which weights and which ranges come from the plan.
    Leaves alone: nodes of subgraphs and functions, and weights of other forms.

    A plan that does not fit raises ``PlanError`` before anything is changed. That is checked in
    ``call``, because onnx_ir replaces the errors of ``requires`` by its own.
    """

    def __init__(self, plan: Plan, codes: Mapping[str, Codes] | None = None) -> None:
        """Take the plan, and by weight name the codes that were not rounded to the nearest."""
        super().__init__()
        self.plan = plan
        self.codes = codes or {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the plan; the result is modified if any node was planned and not done before."""
        planned = planned_candidates(model, self.plan, self.codes.keys())
        joined = planned_joints(model, self.plan)
        if not planned and not joined:
            return ir.passes.PassResult(model, modified=False)
        taken = walk.value_names(model)
        shared: dict[tuple[ir.Graph, str], ir.Value] = {}
        by_output = {out.name: node for node in model.graph for out in node.outputs}
        grids = {name: self._grid(name) for name in grid_tensors(planned, joined)}
        for one in planned:
            stored = self._stored(model, one, grids[one.x][0])
            chain = Chain(model.graph, one.weight, taken, shared)
            self._store(chain, by_output[one.y], one, stored)
            if one.bias is not None and self.plan.grid != "symmetric":
                scales = grids[one.x][0] * stored.scale[:, 0]
                _store_bias(model.graph, by_output[one.bias_reader], one.bias, scales, taken)
        _quantize_activations(model, planned, joined, grids, taken)
        _drop_unread(model.graph, planned)
        return ir.passes.PassResult(model, modified=True)

    def _grid(self, name: str) -> tuple[Array, Array]:
        choice = self.plan.activations[name]
        if self.plan.grid == "symmetric":
            return symmetric_grid(choice.low, choice.high)
        kind = np.uint16 if self.plan.grid == "wide" else np.uint8
        return activation_grid(choice.low, choice.high, kind)

    def _store(self, chain: Chain, node: ir.Node, one: Candidate, stored: Codes) -> None:
        choice, shape = self.plan.weights[one.weight], _floats(chain.graph, one.weight).shape
        tensor = from_rows(stored.rows, shape, one.axis)
        parts = [
            kernel_codes(chain, tensor, choice, portable=self.plan.portable),
            chain.constant("scale", stored.scale[:, 0]),
            chain.constant("zero", np.full(one.channels, ZERO_CODES[choice.codes], choice.codes)),
        ]
        chain.graph.insert_before(node, chain.nodes)
        read = _dequantized(chain.graph, node, parts, one.weight, one.axis, chain.taken)
        node.replace_input_with(one.weight_index, read)

    def _stored(self, model: ir.Model, one: Candidate, x_scale: Array) -> Codes:
        """Return codes and scales of a weight; given codes stay where the given scale does."""
        choice, values = self.plan.weights[one.weight], _floats(model.graph, one.weight)
        rows = as_rows(pruned(values, choice.prune_below), one.axis)
        given = self.codes.get(one.weight)
        wanted = coded(values, choice) if given is None else given
        bias = None if one.bias is None else _floats(model.graph, one.bias)
        floor = _scale_floor(bias, x_scale, one.channels)[:, np.newaxis]
        scale = np.maximum(wanted.scale, floor).astype(np.float32)
        if choice.is_fitted:  # what was given stands for other values than the weight's own
            rows = from_grid(wanted.rows, wanted.scale)
        codes = to_grid(rows, scale, choice.bits)  # of larger scales: pairs stay within theirs
        return Codes(np.where(scale == wanted.scale, wanted.rows, codes), scale)


def _floats(graph: ir.Graph, name: str) -> Array:
    tensor = graph.initializers[name].const_value
    assert tensor is not None  # candidates have initializers with values
    values: Array = tensor.numpy()
    return values


def _scale_floor(bias: Array | None, x_scale: Array, channels: int) -> Array:
    """Return the smallest weight scales at which bias codes fit, and scale products are normal."""
    smallest = np.full(channels, np.finfo(np.float32).tiny, np.float64)
    if bias is not None:
        smallest = np.maximum(smallest, np.abs(_vector(bias, channels)) / LARGEST_BIAS_CODE)
    floor: Array = (smallest / np.float64(x_scale)).astype(np.float32)
    return floor


def _vector(bias: Array, channels: int) -> Array:
    return np.broadcast_to(bias.reshape(-1), (channels,)).astype(np.float64)


def _dequantized(
    graph: ir.Graph,
    reader: ir.Node,
    parts: list[ir.Value],
    name: str,
    axis: int,
    taken: set[str],
) -> ir.Value:
    """Return the output of a DequantizeLinear in front of ``reader`` that reads ``parts``."""
    output = ir.Value(
        name=walk.unused_name(f"{name}.dq", taken),
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=parts[0].shape,
    )
    node = ir.node(
        "DequantizeLinear", parts, {"axis": axis}, outputs=[output], name=str(output.name)
    )
    graph.insert_before(reader, node)
    return output


def _store_bias(
    graph: ir.Graph, reader: ir.Node, name: str, scales: Array, taken: set[str]
) -> None:
    """Store a bias in units of the product's scales: ``code = round(b / (x_scale·w_scale))``."""
    bias = _vector(_floats(graph, name), len(scales))
    codes = np.rint(bias / scales.astype(np.float64)).astype(np.int32)
    index = list(reader.inputs).index(graph.initializers[name])
    values = {"int": codes, "scale": scales, "zero": np.zeros(len(scales), np.int32)}
    parts = [
        add_initializer(graph, f"{name}.{part}", array, taken) for part, array in values.items()
    ]
    reader.replace_input_with(index, _dequantized(graph, reader, parts, name, 0, taken))


def _quantize_activations(
    model: ir.Model,
    planned: tuple[Candidate, ...],
    joined: tuple[Joint, ...],
    grids: Mapping[str, tuple[Array, Array]],
    taken: set[str],
) -> None:
    values = {value.name: value for value in _tensors_of(model.graph)}
    closing = {one.closes for one in planned} | {joint.closes for joint in joined}
    readers: dict[str, set[str]] = {}
    for one in planned:
        readers.setdefault(one.x, set()).add(one.y)
    for joint in joined:
        for name in joint.reads:
            readers.setdefault(name, set()).add(joint.y)
    for name, grid in grids.items():
        value = values[name]
        uses = [
            use
            for use in value.uses()
            if name in closing or use.node.outputs[0].name in readers.get(name, ())
        ]
        if uses:
            read = on_grid(model.graph, value, grid, taken)
            for use in uses:
                use.node.replace_input_with(use.idx, read)


def _tensors_of(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(output for node in graph for output in node.outputs)]


def on_grid(
    graph: ir.Graph, value: ir.Value, grid: tuple[Array, Array], taken: set[str]
) -> ir.Value:
    """Return the output of a QuantizeLinear and DequantizeLinear behind ``value``, both added."""
    ends = [
        add_initializer(graph, f"{value.name}.{part}", array, taken)
        for part, array in zip(("scale", "zero"), grid, strict=True)
    ]
    q, dq = (
        shaped_like(value, f"{value.name}.{part}", dtype, taken)
        for part, dtype in (
            ("q", ir.DataType.from_numpy(grid[1].dtype)),
            ("dq", ir.DataType.FLOAT),
        )
    )
    nodes = [
        ir.node("QuantizeLinear", [value, *ends], outputs=[q], name=str(q.name)),
        ir.node("DequantizeLinear", [q, *ends], outputs=[dq], name=str(dq.name)),
    ]
    insert_behind(graph, value, nodes)
    return dq


def _drop_unread(graph: ir.Graph, planned: tuple[Candidate, ...]) -> None:
    names = {one.weight for one in planned} | {one.bias for one in planned if one.bias is not None}
    for name in names:
        value = graph.initializers[name]
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
