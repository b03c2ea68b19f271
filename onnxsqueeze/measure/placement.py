"""Placement: which operators ONNX Runtime makes of a model, and which provider runs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from onnxsqueeze.facts.records import Placement
from onnxsqueeze.graph import walk
from onnxsqueeze.runtime import ort

_RECORD = "session.record_ep_graph_assignment_info"


def placement(model: ir.Model | Path, provider: str = "cpu") -> Placement:
    """Return the operators of the model as ONNX Runtime optimizes it, and who runs its nodes.

    Operators are counted in all subgraphs, an operator that is not of ONNX's own domain as
    ``domain.Operator``: ``com.microsoft.nchwc.Conv`` is a fast Conv, ``Conv`` is one that is not.
    The optimized graph is the one of the CPU provider at default optimization. Providers are those
    of the nodes as ONNX Runtime assigned them, before its last fusions, so that the two counts
    differ; where the build does not tell, the session's first provider is given all operators.

    Raises:
        ModelError: If ONNX Runtime does not load the model.
        ProviderError: If the provider is not there.
    """
    operators = _counted((node.domain, node.op_type) for node in walk.nodes(ort.optimized(model)))
    options = ort.engine().SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(_RECORD, "1")
    made = ort.session(model, provider=provider, options=options)
    return Placement(optimized_operators=operators, providers=_providers(made, operators))


def _providers(made: Any, operators: Mapping[str, int]) -> dict[str, dict[str, int]]:
    if not hasattr(made, "get_provider_graph_assignment_info"):  # ONNX Runtime before 1.24
        return {made.get_providers()[0]: dict(operators)}
    nodes: dict[str, list[tuple[str, str]]] = {}
    for part in made.get_provider_graph_assignment_info():
        nodes.setdefault(part.ep_name, []).extend(
            (node.domain, node.op_type) for node in part.get_nodes()
        )
    return {provider: _counted(found) for provider, found in sorted(nodes.items())}


def _counted(nodes: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Count (domain, operator) pairs by name, in the order of the names."""
    names = (f"{domain}.{operator}" if domain else operator for domain, operator in nodes)
    return dict(sorted(Counter(names).items()))
