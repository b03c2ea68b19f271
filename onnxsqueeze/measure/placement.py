"""Placement: which operators ONNX Runtime makes of a model, which provider runs them, how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import onnx_ir as ir

from onnxsqueeze.config import Provider
from onnxsqueeze.facts.records import Placement
from onnxsqueeze.graph import walk
from onnxsqueeze.runtime import ort, providers
from onnxsqueeze.runtime.memory import release
from onnxsqueeze.runtime.profile import events

RUNS = 5
"""Profiled runs, after one that does not count; the median of each kernel counts."""


def placement(
    model: ir.Model | Path,
    provider: str | Provider = "cpu",
    feed: ort.Feed | None = None,
    *,
    threads: int = 1,
) -> Placement:
    """Return the operators of the model as ONNX Runtime optimizes it, and who runs its nodes.

    Operators are counted in all subgraphs, an operator that is not of ONNX's own domain as
    ``domain.Operator``: ``com.microsoft.nchwc.Conv`` is a fast Conv, ``Conv`` is one that is not.
    The optimized graph is the one of the CPU provider at default optimization. Providers are those
    of the nodes as ONNX Runtime assigned them, before its last fusions, so that the two counts
    differ; where the build does not tell, the session's first provider is given all operators.

    Args:
        model: The model, or its file.
        provider: What is asked for; nodes that it does not take are counted where they went.
        feed: What to run the model on for the time of its kernels; without, no time is told.
        threads: Threads of the timed session.

    Raises:
        ModelError: If ONNX Runtime does not load the model.
        ProviderError: If the provider is not there, or runs nothing.
    """
    operators = _counted((node.domain, node.op_type) for node in walk.nodes(ort.optimized(model)))
    options = ort.engine().SessionOptions()
    options.log_severity_level = 4
    if providers.is_cpu(provider):  # others are always made to tell
        options.add_session_config_entry(providers.RECORD, "1")
    made = ort.session(model, provider=provider, options=options)
    found = {name: _counted(nodes) for name, nodes in sorted(ort.assignment(made).items())}
    if not hasattr(made, providers.ASSIGNMENT):
        found = {made.get_providers()[0]: dict(operators)}
    del made  # before the next one: large models fit into memory once
    release()
    times = {} if feed is None else _milliseconds(model, provider, feed, threads)
    return Placement(optimized_operators=operators, providers=found, milliseconds=times)


def _milliseconds(
    model: ir.Model | Path, provider: str | Provider, feed: ort.Feed, threads: int
) -> dict[str, dict[str, float]]:
    """Return the time of one run by provider and operator, from ONNX Runtime's profile."""
    loaded = ir.load(model) if isinstance(model, Path) else model
    # A node with subgraphs is told with the time of all that is inside, which is told by itself.
    holders = {node.op_type for node in walk.nodes(loaded) if any(walk.subgraphs(node))}
    options = ort.session_options(threads=threads)
    spent: dict[tuple[str, str, str], list[float]] = {}
    for event in events(model, feed, options, provider=provider, runs=RUNS + 1):
        if _is_kernel(event) and event["args"]["op_name"] not in holders:
            arguments = event["args"]
            key = (str(arguments["provider"]), str(arguments["op_name"]), str(event["name"]))
            spent.setdefault(key, []).append(float(event["dur"]) / 1000)
    found: dict[str, dict[str, float]] = {}
    for (name, operator, _), times in sorted(spent.items()):
        # A kernel in a loop runs several times in each run: what a run takes is their sum.
        per_run = median(times[len(times) // (RUNS + 1) :] or times) * len(times) / (RUNS + 1)
        of_provider = found.setdefault(name, {})
        of_provider[operator] = of_provider.get(operator, 0.0) + per_run
    return found


def _is_kernel(event: Mapping[str, Any]) -> bool:
    is_run = event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time")
    return is_run and bool(event.get("args", {}).get("provider"))


def _counted(nodes: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Count (domain, operator) pairs by name, in the order of the names."""
    names = (f"{domain}.{operator}" if domain else operator for domain, operator in nodes)
    return dict(sorted(Counter(names).items()))
