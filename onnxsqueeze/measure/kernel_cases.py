"""The products that a processor is probed with, as graphs in floats and in every spelling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.facts.kernels import ROWS, Spelling
from onnxsqueeze.graph.edit import add_initializer
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import Linear, Row

Array = npt.NDArray[Any]

OPSET = 21
ZERO = {"uint8": 128, "int8": 0}
"""Code of zero, by type: signed codes around it are the same in all spellings."""


@dataclass(frozen=True)
class Case:
    """One product, or a chain of equal ones.

    Attributes:
        kind: What it stands for.
        operator: The operator.
        x: Shape of the activation.
        w: Shape of the weight.
        form: ``grid``: between QuantizeLinear and DequantizeLinear; ``float output``: with
            nothing behind it; ``dynamic``: the activation's grid is made at each run.
        attributes: The operator's attributes.
        layers: Number of equal nodes, one behind the other.
        size: Dims for the reader.
    """

    kind: str
    operator: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    form: Literal["grid", "float output", "dynamic"] = "grid"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    layers: int = 1
    size: Mapping[str, int] = field(default_factory=dict)


EXACT_CASES = (
    Case("Conv 3x3", "Conv", (1, 16, 8, 8), (32, 16, 3, 3)),
    Case("Conv 1x1", "Conv", (1, 64, 8, 8), (32, 64, 1, 1)),
    Case("Conv 3x3 in groups", "Conv", (1, 32, 8, 8), (32, 8, 3, 3), attributes={"group": 4}),
    Case("Conv 3x3 depthwise", "Conv", (1, 32, 8, 8), (32, 1, 3, 3), attributes={"group": 32}),
    Case("MatMul", "MatMul", (16, 256), (256, 64)),
    Case("MatMul, 1 row", "MatMul", (1, 256), (256, 64)),
    Case("MatMul to floats", "MatMul", (16, 256), (256, 64), "float output"),
    Case("MatMul, dynamic", "MatMul", (16, 256), (256, 64), "dynamic"),
)
"""Products that are held against exact sums."""

_PLACES = {16: 56, 32: 56, 64: 28, 128: 28, 256: 14, 512: 7}
"""Height and width by channels, as networks have them."""


def _conv(kind: str, channels: int, kernel: int, group: int = 1, layers: int = 3) -> Case:
    places = _PLACES[channels]
    attributes = {"group": group, "pads": [kernel // 2] * 4}
    x, w = (1, channels, places, places), (channels, channels // group, kernel, kernel)
    size = {"channels": channels, "places": places}
    return Case(kind, "Conv", x, w, "grid", attributes, layers, size)


def _speed_cases() -> Iterator[Case]:
    for channels in _PLACES:
        yield _conv("Conv 3x3", channels, 3)
        yield _conv("Conv 1x1", channels, 1)
    for channels in (32, 64, 128, 256):
        yield _conv("Conv 3x3 depthwise", channels, 3, group=channels)
    for channels in (64, 256):
        yield _conv("Conv 3x3 in groups", channels, 3, group=8)
    for rows in ROWS:
        for k, n in ((384, 384), (768, 768), (768, 3072)):
            size = {"rows": rows, "k": k, "n": n}
            kind = f"MatMul, {rows} row{'s' * (rows > 1)}"
            yield Case(kind, "MatMul", (rows, k), (k, n), size=size)


SPEED_CASES = tuple(_speed_cases())
"""Products that are timed."""


def product(case: Case) -> tuple[ir.Node, Row]:
    """Return a case's operator as a node of no graph, and its row of the operator table."""
    values = [_value(name, shape) for name, shape in (("x", case.x), ("w", case.w))]
    node = ir.node(case.operator, values, dict(case.attributes))
    row = row_of(node)
    assert row is not None  # cases name operators of the table
    return node, row


def model(
    case: Case, spelling: Spelling | None, codes: Array, w_scale: float, y_scale: float
) -> ir.Model:
    """Return the model of a case in one spelling, or in floats for None; ``x`` in, ``y`` out.

    Args:
        case: Which product.
        spelling: How its factors are written.
        codes: Signed codes of the weight of every layer, in the shape of ``case.w``.
        w_scale: Scale of the weight, the same for all channels.
        y_scale: Scale of every output's grid. The scale of the input's grid is 1.
    """
    value = _value("x", case.x)
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": OPSET}, name="kernel")
    parts = _Parts(graph, case, spelling, codes, w_scale, y_scale)
    if spelling is not None and case.form != "dynamic":
        value = parts.pair(value, "x", 1.0)
    for layer in range(case.layers):
        value = parts.layer(value, f"y{layer}")
    value.name, value.type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(value)
    return ir.Model(graph, ir_version=10)


def reference(case: Case, x: Array, codes: Array) -> Array:
    """Return exact sums of one layer: (groups, rows, out), int64."""
    linear = _linear(case)
    node, _ = product(case)
    rows = linear.rows(node, x, case.w, math.prod(case.x), np.random.default_rng(0))
    matrix = linear.matrix(node, codes)
    sums: Array = rows.astype(np.int64) @ matrix.astype(np.int64).swapaxes(1, 2)
    return sums


def in_rows(case: Case, y: Array) -> Array:
    """Return an output of the case in the order of ``reference``."""
    last: Array = np.moveaxis(y, _linear(case).x_axis, -1)
    groups = int(case.attributes.get("group", 1))
    return last.reshape(-1, groups, last.shape[-1] // groups).swapaxes(0, 1)


def _linear(case: Case) -> Linear:
    node, row = product(case)
    linear = None if row.linear is None else row.linear(node)
    assert linear is not None  # cases are products
    return linear


def _value(name: str, shape: tuple[int, ...]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))


@dataclass(frozen=True)
class _Parts:
    """A graph while it is built."""

    graph: ir.Graph
    case: Case
    spelling: Spelling | None
    codes: Array
    w_scale: float
    y_scale: float

    def add(self, operator: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        node = ir.node(operator, inputs, attributes)
        self.graph.append(node)
        return node.outputs[0]

    def constant(self, name: str, array: Array) -> ir.Value:
        return add_initializer(self.graph, name, array)

    def pair(self, value: ir.Value, name: str, scale: float) -> ir.Value:
        assert self.spelling is not None  # floats have no grids
        kind = self.spelling.activation
        ends = [
            self.constant(f"{name}.scale", np.array(scale, np.float32)),
            self.constant(f"{name}.zero", np.array(ZERO[kind], kind)),
        ]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [value, *ends]), *ends])

    def layer(self, x: ir.Value, name: str) -> ir.Value:
        if self.spelling is None:
            floats = (self.codes * self.w_scale).astype(np.float32)
            return self.product(x, self.constant(f"{name}.w", floats))
        node, row = product(self.case)
        assert row.weights is not None  # a product names the input that is its weight
        axis = row.weights(node)[0].axis
        whole = self.spelling.per == "tensor"
        kind, shape = self.spelling.weight, () if whole else (self.case.w[axis],)
        stored = (self.codes.astype(np.int16) + ZERO[kind]).astype(kind)
        parts = [
            self.constant(f"{name}.w.int", stored),
            self.constant(f"{name}.w.scale", np.full(shape, self.w_scale, np.float32)),
            self.constant(f"{name}.w.zero", np.full(shape, ZERO[kind], kind)),
        ]
        if self.case.form == "dynamic":
            return self.dynamic(x, *parts)
        weight = self.add("DequantizeLinear", parts, **({} if whole else {"axis": axis}))
        y = self.product(x, weight)
        return self.pair(y, name, self.y_scale) if self.case.form == "grid" else y

    def product(self, x: ir.Value, w: ir.Value) -> ir.Value:
        return self.add(self.case.operator, [x, w], **self.case.attributes)

    def dynamic(self, x: ir.Value, stored: ir.Value, scale: ir.Value, zero: ir.Value) -> ir.Value:
        quantize = ir.node("DynamicQuantizeLinear", [x], num_outputs=3)
        self.graph.append(quantize)
        x_codes, x_scale, x_zero = quantize.outputs
        sums = self.add("MatMulInteger", [x_codes, stored, x_zero, zero])
        floats = self.add("Cast", [sums], to=ir.DataType.FLOAT)
        return self.add("Mul", [floats, self.add("Mul", [x_scale, scale])])
