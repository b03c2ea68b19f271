"""Weights of few bits with a scale per block, spelled so that ONNX Runtime has a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.blocks import BlockReader, BlockWeight, block_weight
from onnxsqueeze.errors import PlanError
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.numerics.blocks import SIZES
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import inputs
from onnxsqueeze.passes.block_spelling import Kept, Spelling, runtime_spelling, standard_spelling
from onnxsqueeze.passes.chain import Chain
from onnxsqueeze.passes.round_weights import Codes
from onnxsqueeze.plan.types import Plan, WeightChoice

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Planned:
    choice: WeightChoice
    weight: BlockWeight
    codes: Codes


class InsertBlockwisePass(ir.passes.InPlacePass):
    """Keep planned matrices of the main graph in blocks, one copy for all that read them.

    A product reads ``DequantizeLinear(w.int, w.scale[, w.zero])`` over (features, channels), which
    ONNX Runtime makes one MatMulNBits of; the scales are bfloat16 and cast first, which it folds,
    unless the plan is portable. A Gemm over the transposed weight becomes one over the weight as
    it lies then, and what it adds becomes a vector. Each further product reads through constants
    that ONNX Runtime folds, since it fuses no two products over the same initializers.
    Rows of a table are gathered as integers and made floats afterwards, so that nothing of the
    table's size is computed when the model runs. With ``operators: runtime`` the plan gets
    MatMulNBits and GatherBlockQuantized themselves.

    Planned are weights with form ``blockwise`` and, where the plan is portable, weights with form
    ``stored`` in 4 or 8 bits whose readers can have them so: spelled in any other way, they would
    be made floats as a whole at every run.

    Decides nothing: which weights comes from the plan.
    Leaves alone: all other forms, subgraphs and functions.

    A plan that does not fit raises ``PlanError`` before anything is changed. That is checked in
    ``call``, because onnx_ir replaces the errors of ``requires`` by its own.

    Source:
        ONNX DequantizeLinear-21; fused by ONNX Runtime 1.32 (DQMatMulToMatMulNBits), read back
        from its optimized graphs.
    """

    def __init__(self, plan: Plan, codes: Mapping[str, Codes]) -> None:
        """Take the plan, and by weight name the codes."""
        super().__init__()
        self.plan = plan
        self.codes = codes

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the plan; the result is modified if any weight was planned and not done before."""
        planned = [
            one
            for name, choice in self.plan.weights.items()
            if (one := self._planned(model, name, choice)) is not None
        ]
        taken = walk.value_names(model)
        shared: dict[tuple[ir.Graph, str], ir.Value] = {}
        is_standard = self.plan.operators == "standard"
        if planned and not is_standard:
            model.graph.opset_imports.setdefault("com.microsoft", 1)
        for one in planned:
            chain = Chain(model.graph, str(one.weight.value.name), taken, shared)
            make = (
                standard_spelling if is_standard or one.choice.block is None else runtime_spelling
            )
            kept = Kept(chain, one.choice, one.codes, one.weight, self.plan.portable)
            spelling = make(kept)
            _carry_out(model.graph, one, spelling, taken, shared)
        return ir.passes.PassResult(model, modified=bool(planned))

    def _planned(self, model: ir.Model, name: str, choice: WeightChoice) -> _Planned | None:
        """Return what is to be done with a weight, or None if that is nothing for this pass."""
        is_portable = self.plan.portable and choice.form == "stored"
        value = model.graph.initializers.get(name)
        if choice.form != "blockwise" and not is_portable:
            return None
        if value is None:
            if is_portable or f"{name}.int" in model.graph.initializers:
                return None
            raise PlanError(
                f"the plan keeps weight {name!r} in blocks, and the main graph has none such\n"
                "  Choose form 'stored' or 'float' for it in the plan."
            )
        weight = block_weight(model.graph, value)
        against = weight.reason or _misfit(choice, weight) or self._lacking(name)
        if not against:
            return _Planned(choice, weight, self.codes[name])
        if is_portable:
            return None
        raise PlanError(
            f"the plan keeps weight {name!r} in blocks, and that cannot be: {against}\n"
            "  Choose form 'stored' or 'float' for it in the plan, or correct what does not fit."
        )

    def _lacking(self, name: str) -> str:
        return "" if name in self.codes else "no codes are given for it"


def _misfit(choice: WeightChoice, weight: BlockWeight) -> str:
    """Return what a choice has against the weight's shape and readers; empty if nothing."""
    if choice.axis is None or choice.axis % 2 != weight.axis:
        return f"its channels are on axis {weight.axis}, not {choice.axis}"
    if choice.masked or choice.columns or choice.bits not in (4, 8):
        return "blocks have 4 or 8 bits, no bit mask and no scales of columns"
    if choice.block is not None and (choice.block not in SIZES or weight.features % choice.block):
        return f"blocks of {choice.block} do not divide its {weight.features} features"
    return ""


def _carry_out(
    graph: ir.Graph,
    one: _Planned,
    spelling: Spelling,
    taken: set[str],
    shared: dict[tuple[ir.Graph, str], ir.Value],
) -> None:
    """Let every reader have the weight in its spelling, and drop the weight."""
    name = str(one.weight.value.name)
    turned = dict.fromkeys(r.through for r in one.weight.readers if r.through is not None)
    for number, reader in enumerate(one.weight.products):
        chain = Chain(graph, name, taken, shared)
        row = row_of(reader.node)
        assert row is not None  # analysis/blocks.py: readers have rows
        assert row.blocks is not None  # and kernels
        blocks = row.blocks(reader.node)
        assert blocks is not None  # as above
        bias = None if blocks.bias is None else inputs(reader.node).get(blocks.bias)
        vector = None if bias is None else _vector(graph, bias, one.weight.channels, taken)
        output = spelling.product(chain, reader, vector, number)
        graph.insert_before(reader.node, chain.nodes)
        if spelling.replaces_products:
            _replace(reader.node, output)
            continue
        reader.node.replace_input_with(reader.place, output)
        if bias is not None:
            reader.node.replace_input_with(list(reader.node.inputs).index(bias), vector)
        for key, number_of in blocks.attributes.items():
            reader.node.attributes.add(ir.AttrInt64(key, number_of))
    for reader in one.weight.lookups:
        chain = Chain(graph, name, taken, shared)
        output = spelling.lookup(chain, reader, _indices(reader))
        graph.insert_before(reader.node, chain.nodes)
        _replace(reader.node, output)
    for through in turned:
        edit.remove_node(through)
    del graph.initializers[name]


def _indices(reader: BlockReader) -> ir.Value:
    row = row_of(reader.node)
    assert row is not None  # analysis/blocks.py: readers have rows
    assert row.lookup is not None  # and this one looks up
    lookup = row.lookup(reader.node)
    assert lookup is not None  # as above
    return inputs(reader.node)[lookup.indices]


def _vector(graph: ir.Graph, bias: ir.Value, channels: int, taken: set[str]) -> ir.Value:
    """Return what a product adds as a vector with a value per channel."""
    assert bias.const_value is not None  # analysis/grids.py: constant vectors only
    values = bias.const_value.numpy()
    if values.shape == (channels,):
        return bias
    wide = np.ascontiguousarray(np.broadcast_to(values.reshape(-1), (channels,)))
    return edit.add_initializer(graph, f"{bias.name}.vector", wide, taken)


def _replace(node: ir.Node, output: ir.Value) -> None:
    """Put ``output`` in the node's place, with the name, type and shape of its output."""
    old = node.outputs[0]
    name, output.type, output.shape = old.name, old.type, old.shape
    edit.replace_value(old, output)
    edit.remove_node(node)
    output.name = name
