"""A scale and a shift per output channel, taken into the weight and bias of the node before.

For a linear node ``y = x · W + b`` and what follows it, ``s * y + t`` with one ``s`` and ``t`` per
output channel, ``W' = s * W`` and ``b' = s * b + t`` give the same in one node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.graph import edit, walk
from onnxsqueeze.numerics.error import relative_energy

Array = npt.NDArray[Any]
_FLOATS = {ir.DataType.FLOAT: True, ir.DataType.DOUBLE: True, ir.DataType.FLOAT16: True}
_MOST_LOST = 1e-6
"""Relative error energy (60 dB) that a weight may get from being rounded again: half precision
rounds its normal numbers at 2e-8 to 8e-8, and loses more only where it leaves their range."""


@dataclass(frozen=True)
class Producer:
    """A linear operator as this module needs it: weight is input 1, bias (if it has one) input 2.

    Attributes:
        has_bias: Whether the operator takes a bias.
        rank: ``w -> `` rank of the output, or None where the weight does not tell.
        channels: ``(node, w) -> `` number of output channels.
        scaled: ``(node, w, s) -> `` the weight times ``s`` of shape (channels,).
    """

    has_bias: bool
    rank: Callable[[Array], int | None]
    channels: Callable[[ir.Node, Array], int]
    scaled: Callable[[ir.Node, Array, Array], Array]


def _transposed_channels(node: ir.Node, w: Array) -> int:
    return int(w.shape[1]) * node.attributes.get_int("group", 1)


def _transposed_scaled(node: ir.Node, w: Array, s: Array) -> Array:
    """W is (C, M/group, ...): the channels of a group are made from that group's inputs only."""
    group = node.attributes.get_int("group", 1)
    grouped = w.reshape(group, w.shape[0] // group, *w.shape[1:])
    factors = s.reshape(group, 1, w.shape[1], *(1 for _ in w.shape[2:]))
    return (grouped * factors).reshape(w.shape)


def _gemm_axis(node: ir.Node) -> int:
    return 0 if node.attributes.get_int("transB", 0) else 1


# Facts about operators, kept here until the operator table says where a bias goes.
PRODUCERS = {
    "Conv": Producer(
        has_bias=True,
        rank=lambda w: w.ndim,
        channels=lambda _, w: int(w.shape[0]),
        scaled=lambda _, w, s: w * s.reshape(-1, *(1 for _ in w.shape[1:])),
    ),
    "ConvTranspose": Producer(
        has_bias=True,
        rank=lambda w: w.ndim,
        channels=_transposed_channels,
        scaled=_transposed_scaled,
    ),
    "Gemm": Producer(
        has_bias=True,
        rank=lambda _: 2,
        channels=lambda node, w: int(w.shape[_gemm_axis(node)]),
        scaled=lambda node, w, s: w * (s if _gemm_axis(node) else s[:, None]),
    ),
    "MatMul": Producer(
        has_bias=False,
        rank=lambda _: None,
        channels=lambda _, w: int(w.shape[-1]),
        scaled=lambda _, w, s: w * s,
    ),
}


def constant(value: ir.Value | None) -> Array | None:
    """Return an initializer's contents, or None for what is no initializer."""
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return value.const_value.numpy()


def producer(value: ir.Value | None) -> tuple[ir.Node, Producer] | None:
    """Return the linear node with a constant weight that makes the value, if there is one."""
    node = None if value is None else value.producer()
    if node is None or node.domain:
        return None
    found = PRODUCERS.get(node.op_type)
    if found is None or len(node.inputs) < 2:
        return None
    weight = constant(node.inputs[1])
    return None if weight is None or weight.ndim < 2 else (node, found)


def per_channel(node: ir.Node, facts: Producer, values: Array) -> Array | None:
    """Return an operand of Mul or Add as one value per output channel, or None if it is none.

    It is one if broadcasting it against the output changes no shape and repeats it along all axes
    but the channels'.
    """
    weight = constant(node.inputs[1])
    assert weight is not None
    channels, rank = facts.channels(node, weight), facts.rank(weight)
    if values.size not in (1, channels) or values.ndim > (rank or 1):
        return None
    channel_axis = 1 if rank else 0
    padded = values.reshape((1,) * ((rank or 1) - values.ndim) + values.shape)
    if (
        padded.shape[channel_axis] not in (1, channels)
        or padded.shape[channel_axis] != values.size
    ):
        return None
    return np.broadcast_to(padded.reshape(-1), (channels,)).astype(np.float64)


def is_only_reader(node: ir.Node, value: ir.Value) -> bool:
    """Return whether the node reads the value, once, and nothing else does, no output either."""
    is_same_graph = value.graph is node.graph
    return is_same_graph and len(value.uses()) == 1 and not value.is_graph_output()


def obstacle(node: ir.Node, follower: ir.Node, facts: Producer, scale: Array, shift: Array) -> str:
    """Return why scale and shift cannot be taken into the node, or an empty string if they can."""
    output, weight = node.outputs[0], node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    bias = node.inputs[2] if facts.has_bias and len(node.inputs) > 2 else None
    scales, shifts = bool((scale != 1).any()), bool((shift != 0).any())
    if not is_only_reader(follower, output):
        return f"{output.name!r} is read elsewhere too"
    if weight.const_value.dtype not in _FLOATS:
        return f"weight {weight.name!r} is {weight.const_value.dtype}"
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return "its constants are not finite"
    if scales and (len(walk.readers(weight)) > 1 or weight.is_graph_output()):
        return f"weight {weight.name!r} is read elsewhere too"
    if scales and weight.const_value.dtype == ir.DataType.FLOAT16:
        exact = facts.scaled(node, weight.const_value.numpy().astype(np.float64), scale)
        if relative_energy(exact, _half(exact)) > _MOST_LOST:
            return f"weight {weight.name!r} would leave the range of half precision"
    if shifts and not facts.has_bias:
        return f"{node.op_type} takes no bias"
    if bias is None:
        return ""
    values = constant(bias)
    if values is None:
        return f"bias {bias.name!r} is computed"
    if values.size not in (1, scale.size) or values.shape[-1:] not in ((), (1,), scale.shape):
        return f"bias {bias.name!r} is no vector of {scale.size} channels"
    return ""


def _half(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def fold(node: ir.Node, follower: ir.Node, facts: Producer, scale: Array, shift: Array) -> None:
    """Take ``scale`` and ``shift`` (channels,) into the node; the follower leaves the graph."""
    weight = node.inputs[1]
    assert weight is not None
    values = constant(weight)
    assert values is not None
    if (scale != 1).any():
        edit.set_value(
            weight, facts.scaled(node, values.astype(np.float64), scale).astype(values.dtype)
        )
    if facts.has_bias:
        _set_bias(node, scale, shift, values.dtype, f"{weight.name}.bias")
    edit.replace_value(follower.outputs[0], node.outputs[0])
    edit.remove_node(follower)


def _set_bias(node: ir.Node, scale: Array, shift: Array, dtype: np.dtype[Any], name: str) -> None:
    """Gemm multiplies its bias by beta, which becomes 1."""
    old = node.inputs[2] if len(node.inputs) > 2 else None
    beta = node.attributes.get_float("beta", 1.0)
    given = 0.0 if old is None else constant(old)
    assert given is not None
    vector = np.asarray(given, np.float64).reshape(-1) * beta
    new = np.broadcast_to(vector * scale + shift, scale.shape).astype(dtype)
    if old is None and not new.any():
        return
    if "beta" in node.attributes:
        node.attributes.add(ir.AttrFloat32("beta", 1.0))
    if old is not None and len(old.uses()) == 1 and not old.is_graph_output():
        edit.set_value(old, new)
        return
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    taken = {str(value.name) for value in _visible(graph)}
    value = edit.add_initializer(graph, str(old.name) if old else name, new, taken)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, value)


def _visible(graph: ir.Graph) -> list[ir.Value]:
    """Names of its own are made for all graphs at the end; here those of this graph are enough."""
    values = [*graph.inputs, *graph.initializers.values()]
    return [*values, *(output for node in graph for output in node.outputs if output.name)]
