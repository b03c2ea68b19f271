"""Which nodes can become integer kernels, where their grids lie, and what stands against it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxsqueeze.graph import walk
from onnxsqueeze.ops import integer_role, row_of
from onnxsqueeze.ops.row import Grid, Linear, Row, adds, inputs, opset, outputs

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
"""Types of weights; nodes in float16 become float32 first (passes/widen_half.py)."""
PER_CHANNEL_OPSET = 13
"""QuantizeLinear and DequantizeLinear have an axis from this opset on."""


@dataclass(frozen=True)
class Candidate:
    """One node with a weight, as an integer kernel would see it.

    Attributes:
        node: The node's name, or that of its output where it has none.
        op_type: The operator, for the reader.
        x: Tensor that the activations come from.
        weight: Name of the initializer.
        weight_index: Which input of the node the weight is.
        axis: Axis of the weight whose entries keep their own scales.
        channels: Length of that axis.
        bias: Name of the initializer that is added to the product, or None.
        bias_reader: Output of the node that adds it, the node itself or the one behind it.
        y: The node's output; names the node where names could be missing.
        closes: Tensor whose grid closes the kernel: the output, or what an absorbed clamp makes of
            it; None where the kernel writes floats.
        low: No value of ``closes`` is below this.
        high: No value of ``closes`` is above this.
        reason: Why the node cannot become an integer kernel; empty where it can.
    """

    node: str
    op_type: str
    x: str
    weight: str
    weight_index: int
    axis: int
    channels: int
    bias: str | None
    bias_reader: str
    y: str
    closes: str | None
    low: float
    high: float
    reason: str


@dataclass(frozen=True)
class _Bias:
    """An addend: its initializer or None, the node that adds it, and what stands against it."""

    value: ir.Value | None
    reader: ir.Node
    reason: str = ""


def integer_candidates(model: ir.Model) -> tuple[Candidate, ...]:
    """Return the main graph's products with a weight, in order, each with what stands against it.

    Nodes of subgraphs and functions, and operators without an integer kernel in the table, are
    left out. Where the operator's kernel writes floats no grid closes it; elsewhere the output
    gets a grid, or what the output becomes in a clamp that is its only reader and starts at zero.

    A weight that several nodes read can only change with all of them.

    Source:
        The fusions of ONNX Runtime 1.32 (QDQ selectors, MatMulAddFusion), read back from its
        optimized graphs.
    """
    found = [_candidate(model, node) for node in model.graph]
    return _shared(model, [one for one in found if one is not None])


def _candidate(model: ir.Model, node: ir.Node) -> Candidate | None:
    row = row_of(node)
    if row is None or row.linear is None or row.grid is None:
        return None
    y = node.outputs[0]
    blank = Candidate(
        node.name or str(y.name), node.op_type, "", "", -1, -1, 0, None, str(y.name), str(y.name),
        None, -math.inf, math.inf, "",
    )  # fmt: skip
    linear, grid = row.linear(node), row.grid(node)
    if linear is None:
        return replace(blank, reason="its second operand has not two axes")
    if grid is None:
        return replace(blank, reason="there is no integer kernel for its attributes or operands")
    ports = inputs(node)
    x, weight = ports[linear.x], ports[linear.w]
    described = replace(blank, x=str(x.name), weight=str(weight.name))
    reason = _operand_obstacle(model, node, x, weight)
    if reason:
        return replace(described, reason=reason)
    return _described(described, node, row, linear, grid)


def _operand_obstacle(model: ir.Model, node: ir.Node, x: ir.Value, weight: ir.Value) -> str:
    if not weight.is_initializer() or weight.const_value is None:
        return f"weight {weight.name!r} is not an initializer"
    if weight.is_graph_input() or weight.is_graph_output():
        return f"weight {weight.name!r} is an input or output of the model"
    if weight.const_value.dtype not in FLOATS:
        return f"weight {weight.name!r} is {weight.const_value.dtype.name}, not FLOAT or FLOAT16"
    if weight.graph is not model.graph:
        return f"weight {weight.name!r} belongs to another graph"
    if x.is_initializer():
        return f"its input {x.name!r} is a constant"
    if (source := x.producer()) is not None and integer_role(source) == "leave":
        return f"its input {x.name!r} comes from integers that were decided elsewhere"
    if 0 in weight.const_value.shape.numpy():
        return f"weight {weight.name!r} holds no value"
    if opset(node) < PER_CHANNEL_OPSET:
        return f"opset {opset(node)} has no scales per channel, opset {PER_CHANNEL_OPSET} has"
    return ""


def _described(blank: Candidate, node: ir.Node, row: Row, linear: Linear, grid: Grid) -> Candidate:
    assert row.weights is not None  # a row with a matrix names the input that holds it
    weight, y = inputs(node)[linear.w], outputs(node)[linear.y]
    assert weight.const_value is not None  # checked before
    axis = next(port.axis for port in row.weights(node) if port.name == linear.w)
    channels = int(weight.const_value.shape.numpy()[axis])
    bias = _bias(node, grid, y, channels)
    closes, low, high = None, -math.inf, math.inf
    reason = bias.reason
    if not grid.float_output:
        closes, low, high = closing(y)
        if closes.is_graph_output():
            reason = reason or f"output {closes.name!r} is an output of the model"
    return replace(
        blank,
        weight_index=list(node.inputs).index(weight),
        axis=axis,
        channels=channels,
        bias=None if bias.value is None else str(bias.value.name),
        bias_reader=str(bias.reader.outputs[0].name),
        closes=None if closes is None else str(closes.name),
        low=low,
        high=high,
        reason=reason,
    )


def _bias(node: ir.Node, grid: Grid, y: ir.Value, channels: int) -> _Bias:
    """Return what is added to the product: a port of the node, or the addition behind it.

    ONNX Runtime makes MatMul and an addition behind it one Gemm before it looks for integer
    kernels, and then takes the Gemm for one only if what is added is an int32 vector.
    """
    if grid.bias is not None:
        value = inputs(node).get(grid.bias)
        if value is None or _is_vector(value, channels):
            return _Bias(value, node)
        return _Bias(None, node, f"bias {value.name!r} is not a constant vector")
    adder = _only_reader(y)
    if adder is None or not adds(adder):
        return _Bias(None, node)
    addend = next((value for value in adder.inputs if value is not y), None)
    if addend is None:
        return _Bias(None, node)
    if _is_vector(addend, channels):
        return _Bias(addend, adder)
    if _may_be_matrices(y, addend):
        return _Bias(None, node, f"{addend.name!r} is added to it, which makes it a float Gemm")
    return _Bias(None, node)


def follower_obstacle(node: ir.Node, grid: Grid, channels: int) -> str:
    """Return what keeps a product from being one of blocks in what follows it; empty if nothing.

    A matrix that is added makes it a float Gemm. A clamp that is the only reader of the result
    keeps ONNX Runtime 1.32 from it, too, unless the clamp's own result is the model's, or a bias
    is added to a stack of matrices in between.

    Args:
        node: The product.
        grid: Its grid rule.
        channels: Values per row of its output.
    """
    bias = _bias(node, grid, node.outputs[0], channels)
    clamp = _only_reader(bias.reader.outputs[0])
    row = None if clamp is None else row_of(clamp)
    if bias.reason or clamp is None or row is None or not row.clamps:
        return bias.reason
    shape = node.outputs[0].shape
    is_stack = bias.reader is not node and shape is not None and len(shape) > 2
    if is_stack or clamp.outputs[0].is_graph_output():
        return ""
    return f"{clamp.op_type} behind it keeps ONNX Runtime from a product of blocks"


def _is_vector(value: ir.Value, channels: int) -> bool:
    """Return whether the value is a constant of one value or one per channel, up to two axes."""
    tensor = value.const_value
    if tensor is None or not value.is_initializer() or value.is_graph_input():
        return False
    shape = tuple(tensor.shape)
    is_short = 1 <= len(shape) <= 2 and set(shape[:-1]) <= {1}
    return is_short and shape[-1] in (1, channels) and tensor.dtype in FLOATS


def _may_be_matrices(y: ir.Value, addend: ir.Value) -> bool:
    ranks = [None if value.shape is None else len(value.shape) for value in (y, addend)]
    return ranks[1] == 2 and ranks[0] in (None, 2)


def _only_reader(value: ir.Value) -> ir.Node | None:
    """Return the one node of the value's own graph that reads it, once, or None."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.graph is not value.graph:
        return None
    return uses[0].node


def closing(y: ir.Value) -> tuple[ir.Value, float, float]:
    """Return the tensor whose grid closes the node, with the least and largest value of it."""
    clamp = _only_reader(y)
    row = None if clamp is None else row_of(clamp)
    if clamp is None or row is None or not row.clamps or clamp.inputs[0] is not y:
        return y, -math.inf, math.inf
    low, high = _clamp_range(clamp)
    after = clamp.outputs[0]
    if low != 0.0 or not high > 0.0 or after.is_graph_output():
        return y, -math.inf, math.inf
    return after, low, high


def _clamp_range(clamp: ir.Node) -> tuple[float, float]:
    """Return the ends of a clamp; NaN where they are not constant.

    Without any bound it starts at zero: that is Relu. A Clip without bounds looks the same, and is
    safe because a grid that reaches below zero is then refused.
    """
    bounds: dict[str, float] = {}
    for name, value in list(inputs(clamp).items())[1:]:
        tensor = value.const_value
        is_known = tensor is not None and value.is_initializer() and not value.is_graph_input()
        bounds[name] = (
            float(tensor.numpy().item()) if tensor is not None and is_known else math.nan
        )
    bounds |= {
        name: clamp.attributes[name].as_float()
        for name in ("min", "max")
        if name in clamp.attributes
    }
    return bounds.get("min", -math.inf if bounds else 0.0), bounds.get("max", math.inf)


def _shared(model: ir.Model, found: list[Candidate]) -> tuple[Candidate, ...]:
    """Refuse the candidates whose weight is also read where it stays float."""
    able = {(one.weight, one.y) for one in found if not one.reason}
    keeps: dict[str, str] = {}
    for weight in {weight for weight, _ in able}:
        for node in walk.readers(model.graph.initializers[weight]):
            y = str(node.outputs[0].name)
            uses = sum(value is model.graph.initializers[weight] for value in node.inputs)
            if node.graph is not model.graph or (weight, y) not in able or uses > 1:
                keeps[weight] = node.name or y
    reasons = {
        weight: f"weight {weight!r} is shared with {node!r}, which stays float"
        for weight, node in keeps.items()
    }
    return tuple(
        one
        if one.reason or one.weight not in reasons
        else replace(one, reason=reasons[one.weight])
        for one in found
    )
