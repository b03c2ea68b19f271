"""What one node costs in floats and in each form of integers here, by running it alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.blocks import in_blocks
from onnxsqueeze.analysis.dynamic import without_ranges
from onnxsqueeze.analysis.grids import Candidate, integer_candidates
from onnxsqueeze.facts.op_latency import (
    IntegerLatency,
    KernelForm,
    OpKey,
    OpLatencies,
    OpLatency,
)
from onnxsqueeze.facts.records import Interval, Machine
from onnxsqueeze.graph import walk
from onnxsqueeze.graph.edit import add_initializer
from onnxsqueeze.measure.op_profile import op_key
from onnxsqueeze.measure.region_latency import in_region
from onnxsqueeze.numerics.blocks import USUAL, block_within
from onnxsqueeze.numerics.statistics import median_interval
from onnxsqueeze.ops.row import opset
from onnxsqueeze.passes.coverage import KERNELS
from onnxsqueeze.passes.insert_blockwise import InsertBlockwisePass
from onnxsqueeze.passes.insert_dynamic import InsertDynamicPass
from onnxsqueeze.passes.insert_qdq import InsertQdqPass
from onnxsqueeze.passes.round_weights import codes as codes_of
from onnxsqueeze.plan.quantize import OFFSET_BITS
from onnxsqueeze.plan.types import ActivationChoice, CodeType, IntegerForm, Plan, WeightChoice
from onnxsqueeze.runtime import ort

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]

PAIRS = 15
"""Interleaved rounds of runs: their median ratio is then good to 1.5% on a loaded machine."""
LEAST_SECONDS = 0.003
"""A timing is the mean of as many runs as take at least this long."""
BLOCK_BITS: Mapping[KernelForm, Literal[4, 8]] = {"blockwise4": 4, "blockwise8": 8}
"""Bits of codes by form."""
_SEED = 0


def op_latencies(
    model: ir.Model,
    candidates: Iterable[Candidate],
    shapes: Shapes,
    machine: Machine,
    *,
    known: OpLatencies | None = None,
    provider: str = "cpu",
    pairs: int = PAIRS,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, OpLatency], OpLatencies]:
    """Return the latency of every able candidate by its output ``y``, and all records so far.

    Each node runs alone, with its own weight shapes and the shape of its input that was measured,
    over random values, in one thread. Equal nodes are measured once. Candidates that have a reason
    against them, or whose input's shape was not measured, are left out.

    Args:
        model: The model that the candidates are of; it is not changed.
        candidates: As ``integer_candidates`` returns them.
        shapes: Measured shapes by tensor name.
        machine: This machine.
        known: Records that are reused where node, machine and engine are equal.
        provider: Execution provider, short or full name.
        pairs: Interleaved rounds of timings per node.
        progress: Called with (done, all) of the nodes.

    Raises:
        ModelError: If ONNX Runtime refuses a node.
        ProviderError: If the provider is not there.
    """
    records = known or OpLatencies()
    nodes = {out.name: node for node in model.graph for out in node.outputs}
    able = [one for one in candidates if not one.reason and one.x in shapes]
    found: dict[str, OpLatency] = {}
    for number, one in enumerate(able):
        single = _single(model, nodes[one.y], one, shapes[one.x])
        key = _key(single, provider)
        row = records.of(key, machine)
        if row is None:
            row = _measured(single, key, shapes[one.x], machine, pairs)
            records = records.added(row)
        found[one.y] = row
        if progress is not None:
            progress(number + 1, len(able))
    return found, records


def _single(model: ir.Model, node: ir.Node, one: Candidate, x_shape: tuple[int, ...]) -> ir.Model:
    """Return a model of one node, with random constants of the same shapes.

    Behind the node stands an Identity, so that its output is no output of the model and can have a
    grid; ONNX Runtime removes it.
    """
    rng = np.random.default_rng(_SEED)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(x_shape))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": opset(node)}, name="single")
    constants = {one.weight: "w", one.bias: "b"}
    values: list[ir.Value | None] = []
    for value in node.inputs:
        if value is None or value.name == one.x:
            values.append(None if value is None else x)
            continue
        tensor = model.graph.initializers[str(value.name)].const_value
        assert tensor is not None  # candidates multiply by, and add, initializers
        drawn = rng.normal(size=tensor.shape.numpy()).astype(np.float32)
        values.append(add_initializer(graph, constants[value.name], drawn))
    y, out = (ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT)) for name in ("y", "out"))
    graph.append(
        ir.Node("", node.op_type, values, node.attributes.values(), outputs=[y], name="y")
    )
    graph.append(ir.node("Identity", [y], outputs=[out], name="out"))
    graph.outputs.append(out)
    return ir.Model(graph, ir_version=model.ir_version)


def _key(single: ir.Model, provider: str) -> OpKey:
    node = single.graph[0]
    shapes = {
        str(value.name): tuple(value.shape.numpy())
        for value in node.inputs
        if value is not None and value.shape is not None
    }
    return op_key(node, shapes, provider)


def _measured(
    single: ir.Model, key: OpKey, x_shape: tuple[int, ...], machine: Machine, pairs: int
) -> OpLatency:
    feed = {"x": np.random.default_rng(_SEED).normal(size=x_shape).astype(np.float32)}
    floats = ort.session(single, provider=key.provider)
    (one,) = integer_candidates(single)
    assert not one.reason  # the node alone has no obstacle that it has not in its model
    y = ort.run(floats, feed)["out"]
    made = _integers(single, one, feed["x"], y)
    signed = single.clone()
    InsertQdqPass(_plan(one, "qdq", feed["x"], y, "int8"))(signed)
    spelled: dict[CodeType, ir.Model] = {"uint8": made["qdq"], "int8": signed}
    sessions = [ort.session(model, provider=key.provider) for model in made.values()]
    float_ms, *times = _in_turns([floats, *sessions], feed, pairs)
    return OpLatency(
        key=key,
        machine=machine,
        float_ms=tuple(float_ms),
        integers={
            form: IntegerLatency(
                ms=tuple(ms),
                speedup=_speedup(float_ms, ms),
                fused=_is_fused(made[form], form),
                block=block_of(single, one, form),
            )
            for form, ms in zip(made, times, strict=True)
        },
        inside=in_region(single, spelled, feed, key.provider),
    )


def _speedup(float_ms: Sequence[float], ms: Sequence[float]) -> Interval:
    ratios = [a / b for a, b in zip(float_ms, ms, strict=True)]
    return Interval(**median_interval(ratios)._asdict())


def _is_fused(model: ir.Model, form: KernelForm) -> bool:
    found = {(node.domain, node.op_type) for node in walk.nodes(ort.optimized(model))}
    return bool(found & KERNELS["blockwise" if form in BLOCK_BITS else form])


def block_of(single: ir.Model, one: Candidate, form: KernelForm) -> int | None:
    """Return the values per scale that a node's weight would have in a form; None for no blocks.

    Args:
        single: The model.
        one: Its candidate.
        form: The form.
    """
    tensor = single.graph.initializers[one.weight].const_value
    assert tensor is not None  # candidates multiply by initializers
    if form not in BLOCK_BITS:
        return None
    return block_within(tensor.size // one.channels, USUAL[BLOCK_BITS[form]])


def _integers(single: ir.Model, one: Candidate, x: Array, y: Array) -> dict[KernelForm, ir.Model]:
    """Return the model in each form of integers that its node can have."""
    made: dict[KernelForm, ir.Model] = {"qdq": single.clone()}
    InsertQdqPass(_plan(one, "qdq", x, y))(made["qdq"])
    if not without_ranges(single, [one])[0].reason:
        made["dynamic"] = single.clone()
        InsertDynamicPass(_plan(one, "dynamic", x, y))(made["dynamic"])
    if not in_blocks(single, [one])[0].reason:
        for form in BLOCK_BITS:
            made[form] = _in_blocks(single, one, form)
    return made


def _in_blocks(single: ir.Model, one: Candidate, form: KernelForm) -> ir.Model:
    bits = BLOCK_BITS[form]
    choice = WeightChoice(
        form="blockwise",
        bits=bits,
        axis=one.axis,
        block=block_of(single, one, form),
        offset=bits == OFFSET_BITS,
        reason="to be timed",
    )
    tensor = single.graph.initializers[one.weight].const_value
    assert tensor is not None  # candidates multiply by initializers
    made = single.clone()
    plan = Plan(model_sha256="", weights={one.weight: choice})
    InsertBlockwisePass(plan, {one.weight: codes_of(tensor.numpy(), choice, None)})(made)
    return made


def _plan(
    one: Candidate, form: IntegerForm, x: Array, y: Array, codes: CodeType = "uint8"
) -> Plan:
    reason = "to be timed"
    choice = WeightChoice(form=form, bits=8, axis=one.axis, codes=codes, reason=reason)
    return Plan(
        model_sha256="",
        weights={one.weight: choice},
        activations={
            name: ActivationChoice(low=float(seen.min()), high=float(seen.max()), reason=reason)
            for name, seen in (("x", x), ("y", y))
        },
    )


def _in_turns(sessions: Sequence[Any], feed: ort.Feed, rounds: int) -> list[list[float]]:
    """Return milliseconds of thread CPU time per run of each session, in alternating order."""
    repeats = []
    for made in sessions:
        made.run(None, feed)  # lays out memory
        seconds = _seconds(made, feed, 1)
        repeats.append(max(1, math.ceil(LEAST_SECONDS / max(seconds, 1e-6))))
    times: list[list[float]] = [[] for _ in sessions]
    order = list(range(len(sessions)))
    for _ in range(rounds):
        for which in order:
            times[which].append(1000 * _seconds(sessions[which], feed, repeats[which]))
        order.reverse()
    return times


def _seconds(made: Any, feed: ort.Feed, repeats: int) -> float:
    start = time.thread_time()
    for _ in range(repeats):
        made.run(None, feed)
    return max((time.thread_time() - start) / repeats, 1e-9)
