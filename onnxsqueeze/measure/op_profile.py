"""What a node's kernel costs by itself, by ONNX Runtime's own profile of a model of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.facts.op_latency import OpKey
from onnxsqueeze.ops.row import inputs
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.profile import events

RUNS = 15
"""Runs of a node; a median over so many is not moved by the few that the system interrupts."""
ENTER, LEAVE = "QuantizeLinear", "DequantizeLinear"
ORDERS = frozenset({"Transpose", "ReorderInput", "ReorderOutput"})
"""Operators that ONNX Runtime adds to change the order in which values lie."""


@dataclass(frozen=True)
class Profile:
    """Milliseconds of one run of a model of one node, median over runs.

    Attributes:
        before_ms: What changes its inputs' type and order.
        kernel_ms: The kernel.
        after_ms: What changes its output's type and order.
        is_integer: Whether integers go into the kernel, and floats are made of nothing else than
            its output.
    """

    before_ms: float
    kernel_ms: float
    after_ms: float
    is_integer: bool


def profiled(
    model: ir.Model, feed: ort.Feed, *, provider: str = "cpu", runs: int = RUNS
) -> Profile:
    """Return the profile of a model of one node, at default optimization, in one thread.

    Where the node is one that only moves values, all of it is the kernel.

    Args:
        model: The model.
        feed: What to run it on.
        provider: Execution provider.
        runs: Runs after the first, which lays out memory.

    Raises:
        ModelError: If ONNX Runtime refuses the model.
        ProviderError: If the provider is not there.
    """
    times: dict[str, list[float]] = {}
    operators: dict[str, str] = {}
    options = ort.session_options()
    for event in events(model, feed, options, provider=provider, runs=runs + 1):
        name = str(event["name"])
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            times.setdefault(name, []).append(event["dur"] / 1000)
            operators[name] = event["args"]["op_name"]
    medians = {name: statistics.median(found[1:] or found) for name, found in times.items()}
    return _split(medians, operators)


def op_key(node: ir.Node, shapes: Mapping[str, tuple[int, ...]], provider: str) -> OpKey:
    """Return what a node's latency in one thread depends on.

    Args:
        node: The node.
        shapes: Shapes by tensor name; inputs without one do not count.
        provider: Execution provider.
    """
    return OpKey(
        op_type=node.op_type,
        attributes={name: str(one.value) for name, one in sorted(node.attributes.items())},
        shapes={
            port: shapes[str(value.name)]
            for port, value in inputs(node).items()
            if str(value.name) in shapes
        },
        provider=provider,
        threads=1,
    )


def _split(times: dict[str, float], operators: dict[str, str]) -> Profile:
    names = list(times)  # in the order of the first run
    inner = [name for name in names if operators[name] not in {ENTER, LEAVE}]
    kernel = [name for name in inner if operators[name] not in ORDERS] or inner
    first, last = (
        (names.index(kernel[0]), names.index(kernel[-1])) if kernel else (len(names), len(names))
    )
    found = [operators[name] for name in names]
    return Profile(
        before_ms=sum(times[name] for name in names[:first]),
        kernel_ms=sum(times[name] for name in names[first : last + 1]),
        after_ms=sum(times[name] for name in names[last + 1 :]),
        is_integer=LEAVE not in found[:first] and ENTER not in found[first:],
    )
