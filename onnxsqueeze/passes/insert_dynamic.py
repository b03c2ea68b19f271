"""Integer kernels without calibration: activations get their grid anew in each run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.passes.chain import Chain
from onnxsqueeze.passes.kernel_codes import ZERO_CODES, coded, kernel_codes
from onnxsqueeze.passes.qdq_checks import planned_candidates
from onnxsqueeze.passes.round_weights import Codes
from onnxsqueeze.plan.types import Plan

Array = npt.NDArray[Any]
Parts = tuple[ir.Value, ir.Value, ir.Value]
"""Codes, scale and zero point of one tensor."""


class InsertDynamicPass(ir.passes.InPlacePass):
    """Make planned products of the main graph integer products over grids of each run.

    ::

        q, x_scale, x_zero = DynamicQuantizeLinear(x)
        y = Cast(MatMulInteger(q, w.int, x_zero, w.zero)) · (x_scale · w.scale) [+ bias]

    A node is planned if the form of its weight is ``dynamic``. All planned readers of a tensor
    share one DynamicQuantizeLinear; other readers go on reading floats. Weights are stored as
    uint8 around 128, or as int8 where the plan says so, (features, channels) whatever the node's
    own layout, with one scale per channel, once for all nodes that read them. A bias stays float.

    The grid is of the whole tensor: what a sample becomes depends on the others of its batch.

    Decides nothing: which weights comes from the plan.
    Leaves alone: nodes of subgraphs and functions, and weights of other forms.

    A plan that does not fit raises ``PlanError`` before anything is changed. That is checked in
    ``call``, because onnx_ir replaces the errors of ``requires`` by its own.

    Source:
        ONNX DynamicQuantizeLinear-11 and MatMulInteger-10; fused by ONNX Runtime 1.32
        (MatMulIntegerToFloatFusion, DynamicQuantizeMatMulFusion). Unsigned weights are exact on
        processors without VNNI too; signed ones saturate there unless they are paired.
    """

    def __init__(self, plan: Plan, codes: Mapping[str, Codes] | None = None) -> None:
        """Take the plan, and by weight name the codes that were not rounded to the nearest."""
        super().__init__()
        self.plan = plan
        self.codes = codes or {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the plan; the result is modified if any node was planned and not done before."""
        planned = planned_candidates(model, self.plan, self.codes.keys(), "dynamic")
        if not planned:
            return ir.passes.PassResult(model, modified=False)
        graph, taken = model.graph, walk.value_names(model)
        shared: dict[tuple[ir.Graph, str], ir.Value] = {}
        by_output = {out.name: node for node in graph for out in node.outputs}
        weights: dict[str, Parts] = {}
        activations: dict[str, Parts] = {}
        for one in planned:
            node = by_output[one.y]
            if one.weight not in weights:
                chain = Chain(graph, one.weight, taken, shared)
                weights[one.weight] = self._stored(chain, one)
                graph.insert_before(node, chain.nodes)
            if one.x not in activations:
                x = next(value for value in node.inputs if value and value.name == one.x)
                activations[one.x] = _quantized(graph, x, taken)
            _replace(node, one, activations[one.x], weights[one.weight], taken)
        for name in weights:
            del graph.initializers[name]  # planned weights have no other readers
        return ir.passes.PassResult(model, modified=True)

    def _stored(self, chain: Chain, one: Candidate) -> Parts:
        codes, choice = self._codes(chain.graph, one), self.plan.weights[one.weight]
        read = kernel_codes(chain, codes.rows.T, choice, portable=self.plan.portable)
        scale = chain.constant("scale", codes.scale[:, 0])
        zero = chain.constant("zero", np.array(ZERO_CODES[choice.codes], choice.codes))
        return read, scale, zero

    def _codes(self, graph: ir.Graph, one: Candidate) -> Codes:
        given = self.codes.get(one.weight)
        if given is not None:
            return given
        tensor = graph.initializers[one.weight].const_value
        assert tensor is not None  # candidates have initializers with values
        return coded(tensor.numpy(), self.plan.weights[one.weight])


def _quantized(graph: ir.Graph, x: ir.Value, taken: set[str]) -> Parts:
    """Return the outputs of a DynamicQuantizeLinear behind ``x``."""
    q, scale, zero = (
        ir.Value(
            name=walk.unused_name(f"{x.name}.{part}", taken),
            type=ir.TensorType(dtype),
            shape=shape,
        )
        for part, dtype, shape in (
            ("q", ir.DataType.UINT8, None if x.shape is None else x.shape.copy()),
            ("scale", ir.DataType.FLOAT, ir.Shape([])),
            ("zero", ir.DataType.UINT8, ir.Shape([])),
        )
    )
    node = ir.node("DynamicQuantizeLinear", [x], outputs=[q, scale, zero], name=str(q.name))
    edit.insert_behind(graph, x, node)
    return q, scale, zero


def _replace(node: ir.Node, one: Candidate, x: Parts, weight: Parts, taken: set[str]) -> None:
    """Put the integer product where the node is; its output keeps name, type and shape."""
    old, channels = node.outputs[0], weight[1].shape
    nodes: list[ir.Node] = []

    def step(operator: str, read: list[ir.Value], part: str, **attributes: int) -> ir.Value:
        shape = channels if part == "scale" else old.shape
        output = ir.Value(
            name=walk.unused_name(f"{one.y}.{part}", taken),
            type=ir.TensorType(ir.DataType.INT32 if part == "int" else ir.DataType.FLOAT),
            shape=None if shape is None else shape.copy(),
        )
        nodes.append(ir.node(operator, read, attributes, outputs=[output], name=str(output.name)))
        return output

    product = step("MatMulInteger", [x[0], weight[0], x[2], weight[2]], "int")
    product = step("Cast", [product], "cast", to=ir.DataType.FLOAT)
    scale = step("Mul", [x[1], weight[1]], "scale")
    product = step("Mul", [product, scale], "product")
    if one.bias is not None and one.bias_reader == one.y:
        bias = next(value for value in node.inputs if value and value.name == one.bias)
        product = step("Add", [product, bias], "sum")
    assert node.graph is not None  # candidates are nodes of the main graph
    node.graph.insert_before(node, nodes)
    edit.replace_value(old, product)
    edit.remove_node(node)
    product.name = one.y
