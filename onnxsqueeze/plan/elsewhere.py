"""Latencies of nodes on another machine, from this machine's and that one's facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.analysis.weight_types import kind_of_node, weight_shape
from onnxsqueeze.facts.kernels import CodeType, Kernels
from onnxsqueeze.facts.op_latency import OpLatency

CODES: tuple[CodeType, ...] = ("uint8", "int8")


def elsewhere(
    model: ir.Model,
    candidates: Iterable[Candidate],
    latencies: Mapping[str, OpLatency],
    kernels: Kernels,
) -> dict[str, OpLatency]:
    """Return the latencies with integer kernels as fast as the probe of another machine found.

    What a node takes in floats, and borders, stay as they are here: only their ratio to the time
    in integers decides, and it is that of the probe's products of the node's kind. Kinds that were
    not timed there, and nodes without a weight, keep this machine's times.

    Args:
        model: The model that the candidates are of.
        candidates: As ``integer_candidates`` returns them.
        latencies: Measured here, by output ``y``.
        kernels: Facts of the other machine.
    """
    nodes = {str(out.name): node for node in model.graph for out in node.outputs}
    found = dict(latencies)
    for one in candidates:
        latency = latencies.get(one.y)
        if one.reason or latency is None or latency.inside is None:
            continue
        kind = kind_of_node(nodes[one.y], weight_shape(model, one), latency)
        times = {
            codes: latency.inside.float_ms / speedup
            for codes in CODES
            if (speedup := kernels.speedup(codes, kind)) is not None and speedup > 0
        }
        inside = latency.inside.model_copy(
            update={"integer_ms": {**latency.inside.integer_ms, **times}}
        )
        found[one.y] = latency.model_copy(update={"inside": inside})
    return found
