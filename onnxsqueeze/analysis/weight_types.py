"""The type of every integer weight's codes, by what the target's kernels make of its nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.analysis.saturation import WeightType, is_single, weight_type
from onnxsqueeze.facts.kernels import Kernels, kind_of
from onnxsqueeze.facts.op_latency import OpLatency
from onnxsqueeze.ops.row import attribute


def weight_types(
    model: ir.Model,
    candidates: Iterable[Candidate],
    kernels: Kernels | None,
    latencies: Mapping[str, OpLatency],
    *,
    portable: bool = False,
) -> dict[str, WeightType]:
    """Return the type of the codes of every able candidate's weight, by initializer.

    Where a weight has several readers, signed codes must suit all, and their neighbours are paired
    if any reader's products are.

    Args:
        model: The model that the candidates are of.
        candidates: As ``integer_candidates`` returns them.
        kernels: Facts of the target; None where they are not known.
        latencies: Measured there, by candidate output ``y``; empty where kinds must do.
        portable: The file should be right everywhere.
    """
    nodes = {str(out.name): node for node in model.graph for out in node.outputs}
    found: dict[str, WeightType] = {}
    for one in candidates:
        if one.reason:
            continue
        shape = weight_shape(model, one)
        latency = latencies.get(one.y)
        made = weight_type(
            kernels,
            portable=portable,
            is_single=is_single(nodes[one.y], shape),
            kind=kind_of_node(nodes[one.y], shape, latency),
            gain=None if latency is None else _gain(latency),
        )
        before = found.setdefault(one.weight, made)
        if "uint8" in (before.dtype, made.dtype):
            found[one.weight] = before if before.dtype == "uint8" else made
        elif made.paired:
            found[one.weight] = made
    return found


def weight_shape(model: ir.Model, one: Candidate) -> tuple[int, ...]:
    """Return the shape of a candidate's weight."""
    tensor = model.graph.initializers[one.weight].const_value
    assert tensor is not None  # candidates multiply by initializers with values
    return tuple(tensor.shape.numpy())


def kind_of_node(node: ir.Node, w_shape: tuple[int, ...], latency: OpLatency | None) -> str:
    """Return the kind of product that a node is, as the probe's rows name it."""
    rows = 1
    if latency is not None:  # all places but the features, whichever port is the activation
        largest = max(latency.key.shapes.values(), key=math.prod, default=(1,))
        shapes = [shape for shape in latency.key.shapes.values() if shape != w_shape] or [largest]
        rows = math.prod(shapes[0][:-1])
    return kind_of(w_shape, int(attribute(node, "group") or 1), rows)


def _gain(latency: OpLatency) -> float | None:
    times = {} if latency.inside is None else latency.inside.integer_ms
    if "uint8" not in times or times.get("int8", 0.0) <= 0:
        return None
    return times["uint8"] / times["int8"]
