"""An ONNX graph run by torch, node by node, so that its outputs can be differentiated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.errors import ModelError
from onnxsqueeze.graph import walk
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, as_torch

Array = npt.NDArray[Any]
Values = dict[ir.Value, Tensor]

REFUSALS = (NotImplementedError, RuntimeError, ValueError, TypeError, IndexError)
"""What a kernel may raise: torch's own errors, and settings that it does not know."""


class Executor:
    """Runs a model's main graph, with the weights it has or others of the same shape.

    A tensor is let go of after the last node that reads it; what a backward pass needs, torch
    itself keeps.
    """

    def __init__(self, model: ir.Model) -> None:
        """Look up every node's kernel.

        Raises:
            DependencyError: If torch is not installed.
            ModelError: If an operator of the model has no kernel, or a weight no torch type.
        """
        self.model = model
        self._kernels = {node: _kernel(node) for node in walk.nodes(model)}
        self._weights: Values = {}
        for _, value in walk.initializers(model):
            self._weights[value] = _weight(value)
        self._last = _last_uses(model.graph)

    def weight(self, name: str) -> Tensor:
        """Return an initializer of the main graph as a tensor."""
        return self._weights[self.model.graph.initializers[name]]

    def run(
        self,
        feed: Mapping[str, Array],
        names: Sequence[str] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return outputs by name, or the main graph's values called ``names``.

        Args:
            feed: Input arrays by name.
            names: Values of the main graph to return; None for the outputs.
            weights: Tensors in the place of initializers of the main graph, by name.

        Raises:
            ModelError: If a kernel refuses its inputs or an attribute's value.
        """
        graph = self.model.graph
        wanted = [str(out.name) for out in graph.outputs] if names is None else list(names)
        values = dict(self._weights)
        values |= {value: as_torch(np.asarray(feed[str(value.name)])) for value in _fed(graph)}
        for name, tensor in (weights or {}).items():
            values[graph.initializers[name]] = tensor
        found = {str(v.name): values[v] for v in values if str(v.name) in wanted}
        for node in graph:
            self._compute(node, values)
            found |= {str(v.name): values[v] for v in node.outputs if v.name in wanted}
            for value in self._last.get(node, ()):
                values.pop(value, None)
        return {name: found[name] for name in wanted}

    def _compute(self, node: ir.Node, values: Values) -> None:
        inputs = [None if value is None else values[value] for value in node.inputs]
        call = Call(node, inputs, partial(self._subgraph, values))
        try:
            made = self._kernels[node](call)
        except REFUSALS as error:
            shapes = ", ".join("-" if x is None else str(list(x.shape)) for x in inputs)
            raise ModelError(
                f"torch does not compute {node.op_type} (node {node.name!r}): {error}\n"
                f"  Its inputs have the shapes {shapes}.\n"
                "  Choose an importance that needs no gradients: obs, activation, l1 or l2."
            ) from error
        values.update(zip(node.outputs, made, strict=False))

    def _subgraph(self, outer: Values, graph: ir.Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run a body; it sees what is around it, and what is around does not see inside."""
        values = dict(outer)
        values.update(zip(graph.inputs, inputs, strict=True))
        for node in graph:
            self._compute(node, values)
        return [values[out] for out in graph.outputs]


def _fed(graph: ir.Graph) -> Iterable[ir.Value]:
    return (value for value in graph.inputs if not value.is_initializer())


def _kernel(node: ir.Node) -> Kernel:
    row = row_of(node)
    if row is None or row.kernel is None:
        domain = f" of {node.domain}" if node.domain else ""
        raise ModelError(
            f"operator {node.op_type}{domain} (node {node.name!r}) has no torch kernel\n"
            "  Gradients need one for every operator of the model.\n"
            "  Choose an importance that needs no gradients: obs, activation, l1 or l2."
        )
    return row.kernel


def _weight(value: ir.Value) -> Tensor:
    assert value.const_value is not None  # ONNX: an initializer has a value
    try:
        return as_torch(value.const_value.numpy())
    except TypeError as error:
        raise ModelError(
            f"torch has no type for initializer {value.name!r}, {value.const_value.dtype}: {error}"
            "\n  Choose an importance that needs no gradients: obs, activation, l1 or l2."
        ) from error


def _last_uses(graph: ir.Graph) -> dict[ir.Node, list[ir.Value]]:
    """Return by node the values that nothing after it reads, initializers aside."""
    last: dict[ir.Value, ir.Node] = {}
    for node in graph:
        captured = (v for inner in walk.subgraphs(node) for v in walk.captures(inner))
        for value in (*node.inputs, *captured, *node.outputs):
            if value is not None and not value.is_initializer():
                last[value] = node
    found: dict[ir.Node, list[ir.Value]] = {}
    for value, node in last.items():
        found.setdefault(node, []).append(value)
    return found
