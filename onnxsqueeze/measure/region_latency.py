"""What nodes cost among integers: kernels by themselves, and what borders cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.regions import Joint
from onnxsqueeze.facts.op_latency import InRegion, OpKey, OpLatency
from onnxsqueeze.facts.records import Machine
from onnxsqueeze.graph.edit import add_initializer
from onnxsqueeze.measure.op_profile import op_key, profiled
from onnxsqueeze.ops.row import opset
from onnxsqueeze.passes.insert_qdq import activation_grid, on_grid
from onnxsqueeze.plan.types import CodeType
from onnxsqueeze.runtime import ort

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
_SEED = 0
_ENDS = (-4.0, 4.0)  # of the normal values that are fed


def in_region(
    floats: ir.Model,
    integers: Mapping[CodeType, ir.Model],
    feed: ort.Feed,
    provider: str = "cpu",
) -> InRegion:
    """Return what a node costs among its like, by profiles of models of the node alone.

    A border between floats and integers is as dear as the changes of type and order of both.

    Args:
        floats: The node in floats.
        integers: The same between QuantizeLinear and DequantizeLinear, by type of the codes.
        feed: What all are run on.
        provider: Execution provider.

    Raises:
        ModelError: If ONNX Runtime refuses a model.
        ProviderError: If the provider is not there.
    """
    before = profiled(floats, feed, provider=provider)
    found = {kind: profiled(model, feed, provider=provider) for kind, model in integers.items()}
    fused = {kind: one for kind, one in found.items() if one.is_integer}
    return InRegion(
        float_ms=before.kernel_ms,
        integer_ms={kind: one.kernel_ms for kind, one in fused.items()},
        enter_ms=before.before_ms + min((one.before_ms for one in fused.values()), default=0.0),
        leave_ms=before.after_ms + min((one.after_ms for one in fused.values()), default=0.0),
    )


def joint_latencies(
    model: ir.Model,
    joined: Iterable[Joint],
    shapes: Shapes,
    machine: Machine,
    *,
    provider: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, OpLatency]:
    """Return the latency of every able node without a weight, by its output ``y``.

    Each runs alone, over random values in the shapes that were measured, in one thread. Equal
    nodes are measured once. Those with an input whose shape is not known, or with other inputs
    than constants, are left out. ONNX Runtime makes one kernel of some that follow each other in
    floats, so these also run together in floats, and what that saves is taken off all of them.

    Args:
        model: The model that the nodes are of; it is not changed.
        joined: As ``joints`` returns them.
        shapes: Measured shapes by tensor name.
        machine: This machine.
        provider: Execution provider.
        progress: Called with (done, all) of the nodes.

    Raises:
        ModelError: If ONNX Runtime refuses a node.
        ProviderError: If the provider is not there.
    """
    nodes = {str(out.name): node for node in model.graph for out in node.outputs}
    able = [one for one in joined if not one.reason and _is_known(nodes[one.y], one, shapes)]
    known: dict[str, OpLatency] = {}
    found: dict[str, OpLatency] = {}
    for number, one in enumerate(able):
        node = nodes[one.y]
        key = op_key(node, {name: shapes[name] for name in one.reads}, provider)
        text = key.model_dump_json()
        if text not in known:
            known[text] = _measured(node, one, shapes, key, machine)
        found[one.y] = known[text]
        if progress is not None:
            progress(number + 1, len(able))
    fused: dict[str, float] = {}
    for cluster in _clusters(able):
        alone = sum(found[one.y].float_ms[0] for one in cluster)
        text = "\n".join(found[one.y].key.model_dump_json() for one in cluster)
        if text not in fused:
            fused[text] = _together_ms(
                [nodes[one.y] for one in cluster], cluster, shapes, provider
            )
        for one in cluster:
            found[one.y] = _scaled(found[one.y], min(1.0, fused[text] / alone) if alone else 1.0)
    return found


def _clusters(joined: Sequence[Joint]) -> list[list[Joint]]:
    """Return the nodes that follow each other, two or more together, in the order given."""
    root = {one.y: one.y for one in joined}
    makers = {one.y: one.y for one in joined} | {one.closes: one.y for one in joined}

    def found(y: str) -> str:
        return y if root[y] == y else found(root[y])

    for one in joined:
        for name in one.reads:
            if name in makers:
                root[found(makers[name])] = found(one.y)
    clusters: dict[str, list[Joint]] = {}
    for one in joined:
        clusters.setdefault(found(one.y), []).append(one)
    return [cluster for cluster in clusters.values() if len(cluster) > 1]


def _scaled(latency: OpLatency, ratio: float) -> OpLatency:
    assert latency.inside is not None  # just measured
    inside = latency.inside.model_copy(update={"float_ms": ratio * latency.inside.float_ms})
    return latency.model_copy(update={"float_ms": (inside.float_ms,), "inside": inside})


def _together_ms(
    nodes: Sequence[ir.Node], cluster: Sequence[Joint], shapes: Shapes, provider: str
) -> float:
    """Return the time of nodes that follow each other, in floats."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": opset(nodes[0])}, name="cluster")
    values: dict[str, ir.Value] = {}
    kind = ir.TensorType(ir.DataType.FLOAT)
    for node, one in zip(nodes, cluster, strict=True):
        for name in one.reads:
            if name not in values:
                values[name] = ir.Value(name=name, type=kind, shape=ir.Shape(shapes[name]))
                graph.inputs.append(values[name])
        graph.append(_copied(node, values, graph))
        values[one.y] = graph[-1].outputs[0]
    read = {name for one in cluster for name in one.reads}
    graph.outputs.extend(values[one.y] for one in cluster if one.y not in read)
    rng = np.random.default_rng(_SEED)
    feed = {
        str(value.name): rng.normal(size=value.shape.numpy()).astype(np.float32)
        for value in graph.inputs
        if value.shape is not None
    }
    model = ir.Model(graph, ir_version=10)
    return profiled(model, feed, provider=provider).kernel_ms


def _copied(node: ir.Node, values: Mapping[str, ir.Value], graph: ir.Graph) -> ir.Node:
    """Return the node again, over given values and copies of its constants."""
    read: list[ir.Value | None] = []
    for number, value in enumerate(node.inputs):
        if value is None or str(value.name) in values:
            read.append(None if value is None else values[str(value.name)])
            continue
        assert value.const_value is not None  # others than constants are left out
        name = f"{node.outputs[0].name}.{number}"
        read.append(add_initializer(graph, name, value.const_value.numpy()))
    y = ir.Value(name=node.outputs[0].name, type=ir.TensorType(ir.DataType.FLOAT))
    return ir.Node("", node.op_type, read, node.attributes.values(), outputs=[y], name=y.name)


def _is_known(node: ir.Node, one: Joint, shapes: Shapes) -> bool:
    others = (value for value in node.inputs if value is not None and value.name not in one.reads)
    constants = all(value.is_initializer() and value.const_value is not None for value in others)
    return constants and all(name in shapes for name in one.reads)


def _measured(
    node: ir.Node, one: Joint, shapes: Shapes, key: OpKey, machine: Machine
) -> OpLatency:
    rng = np.random.default_rng(_SEED)
    feed = {
        name: np.clip(rng.normal(size=shapes[read]), *_ENDS).astype(np.float32)
        for name, read in _inputs(one).items()
    }
    models = {grids: _single(node, one, shapes, on_grids=grids) for grids in (False, True)}
    inside = in_region(models[False], {"uint8": models[True]}, feed, key.provider)
    return OpLatency(
        key=key, machine=machine, float_ms=(inside.float_ms,), integers={}, inside=inside
    )


def _inputs(one: Joint) -> dict[str, str]:
    """Return what each input of a model of the node stands for."""
    return {f"x{number}": name for number, name in enumerate(one.reads)}


def _single(node: ir.Node, one: Joint, shapes: Shapes, *, on_grids: bool) -> ir.Model:
    """Return a model of one node, in floats or with all it reads and makes on grids."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": opset(node)}, name="single")
    kind = ir.TensorType(ir.DataType.FLOAT)
    read = {}
    for inner, name in _inputs(one).items():
        read[name] = ir.Value(name=inner, type=kind, shape=ir.Shape(shapes[name]))
        graph.inputs.append(read[name])
    single = _copied(node, read, graph)
    graph.append(single)
    out = y = single.outputs[0]
    if on_grids:
        grid, taken = activation_grid(*_ENDS), {str(y.name)}
        for value in read.values():
            through = on_grid(graph, value, grid, taken)
            for place, old in enumerate(single.inputs):
                if old is value:
                    single.replace_input_with(place, through)
        out = on_grid(graph, y, grid, taken)
    graph.outputs.append(out)
    return ir.Model(graph, ir_version=10)
