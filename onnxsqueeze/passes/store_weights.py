"""Weights as integers, as float16, or behind a bit mask, made float when the model loads.

The chain that restores a weight reads initializers only, so ONNX Runtime computes it once, while
it loads the model, and the kernels see the same float weights as before:

* ``float16``: Cast
* ``stored``: Cast · scale · column's scale, with blocks between two Reshapes; codes of other
  widths than 8 and 4 bits are put together from planes (numerics/planes.py) first
* ``masked``: the values that are not zero are gathered to the places that a bit mask names, first;
  where the plan asks for standard sparse initializers, the weight is only marked (graph/sparse.py)

A DequantizeLinear is not folded but runs at every inference; it is written only where the plan
asks for portable spelling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.errors import PlanError
from onnxsqueeze.graph import edit, sparse, walk
from onnxsqueeze.numerics.grid import from_rows
from onnxsqueeze.passes.chain import Chain
from onnxsqueeze.passes.round_weights import Codes, codes, pruned
from onnxsqueeze.plan.types import INTEGER_FORMS, Plan, WeightChoice

Array = npt.NDArray[Any]


class StoreWeightsPass(ir.passes.InPlacePass):
    """Write each weight in the form that its choice names: ``float``, ``float16`` or ``stored``.

    Decides nothing. Scope: initializers of every graph, and all of their readers. Choices with
    forms ``qdq`` and ``dynamic`` are left to InsertQdqPass and InsertDynamicPass; a ``float``
    weight changes only where the plan prunes it.
    """

    def __init__(self, plan: Plan, codes: Mapping[str, Codes]) -> None:
        super().__init__()
        self.plan = plan
        self.codes = codes

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Store the weights; ``modified`` tells whether there was any."""
        modified = False
        taken = walk.value_names(model)
        shared: dict[tuple[ir.Graph, str], ir.Value] = {}
        places = {value.name: (graph, value) for graph, value in walk.initializers(model)}
        stored = {
            name: choice
            for name, choice in self.plan.weights.items()
            if choice.form not in INTEGER_FORMS
        }
        check_fits(self.plan, stored, places)
        for name, choice in stored.items():
            graph, value = places[name]
            if choice.form == "float" and not choice.masked and not choice.prunes:
                continue
            chain = Chain(graph, name, taken, shared)
            output = self._stored(chain, value, choice)
            if output is None:
                if choice.masked:
                    sparse.mark(value)
                modified = _set_pruned(value, self._thin(value, choice)) or modified
                continue
            modified = True
            output.shape, output.type = value.shape, value.type
            _read_instead(graph, value, chain)
        edit.remove_unused(model)
        return ir.passes.PassResult(model, modified=modified)

    def _stored(self, chain: Chain, value: ir.Value, choice: WeightChoice) -> ir.Value | None:
        assert value.const_value is not None  # ONNX: an initializer has a value and a type
        assert value.dtype is not None
        name, dtype = value.name or "", value.dtype
        if choice.form == "stored":
            stored = self.codes[name]
            shape = tuple(value.const_value.shape.numpy())
            portable = self.plan.portable and not choice.masked
            spell = _dequantized if portable else _restored
            wide = spell(chain, stored, choice, shape)
            # Scales of small weights are not normal numbers in float16.
            is_wide = dtype == ir.DataType.FLOAT
            return wide if is_wide else chain.op("Cast", [wide], {"to": dtype})
        weight = self._thin(value, choice)
        if choice.form == "float16":
            half = weight.astype(np.float16)
            kept = chain.masked(half) if choice.masked else chain.constant("half", half)
            return chain.op("Cast", [kept], {"to": dtype})
        is_chain = choice.masked and self.plan.zeros == "mask"
        return chain.masked(weight) if is_chain else None

    def _thin(self, value: ir.Value, choice: WeightChoice) -> Array:
        """Return a weight that stays float, in its own type, with its zeros."""
        assert value.const_value is not None  # ONNX: an initializer has a value
        weight: Array = value.const_value.numpy()
        if not choice.is_fitted:
            return pruned(weight, choice.prune_below)
        given = self.codes.get(value.name or "") or codes(weight, choice, None)
        return given.values(weight.shape, choice.axis).astype(weight.dtype)


def _set_pruned(value: ir.Value, after: Array) -> bool:
    """Prune a weight in place; return whether that changed any value."""
    assert value.const_value is not None  # ONNX: an initializer has a value
    before = value.const_value.numpy()
    if np.array_equal(before, after):
        return False
    edit.set_value(value, after)
    return True


def check_fits(plan: Plan, names: Iterable[str], places: Mapping[str | None, Any]) -> None:
    """Raise PlanError if the plan has weights called ``names`` that the model lacks."""
    absent = sorted(set(names) - {name for name in places if name})
    if absent:
        shown = ", ".join(repr(name) for name in absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise PlanError(
            f"the plan names {len(absent)} weight(s) that the model lacks: {shown}\n"
            f"  The plan was made for model sha256:{plan.model_sha256[:12]}.\n"
            "  Make a plan for this one: onnxsqueeze plan MODEL"
        )


def _read_instead(graph: ir.Graph, value: ir.Value, chain: Chain) -> None:
    """Let the weight's readers read the chain's output, and drop the weight."""
    edit.read_through(graph, value, chain.nodes)
    graph.initializers.pop(value.name or "")


def _typed(rows: Array, bits: int) -> Array:
    return rows.astype(ml_dtypes.int4) if bits == 4 else rows


def _restored(
    chain: Chain, codes: Codes, choice: WeightChoice, shape: tuple[int, ...]
) -> ir.Value:
    """Cast · scale in float32, in the weight's shape; with blocks first in one of blocks."""
    tensor = from_rows(codes.rows, shape, choice.axis)
    inner, scale_shape = _block_shapes(codes, choice, shape)
    scale = from_rows_of_blocks(codes.scale, choice, len(shape)).reshape(scale_shape)
    stored = chain.constant("scale", scale.astype(ml_dtypes.bfloat16))
    factor = chain.op("Cast", [stored], {"to": ir.DataType.FLOAT})
    if choice.masked:
        some = chain.masked(_typed(tensor, choice.bits))
        value = chain.op("Cast", [some], {"to": ir.DataType.FLOAT})
    else:
        value = chain.coded(tensor, choice.bits)
    if inner != shape:
        value = chain.op("Reshape", [value, chain.shape(inner)])
    value = chain.op("Mul", [value, factor])
    if inner != shape:
        value = chain.op("Reshape", [value, chain.shape(shape)])
    return (
        value if codes.column is None else _with_columns(chain, value, codes.column, choice, shape)
    )


def _with_columns(
    chain: Chain, value: ir.Value, column: Array, choice: WeightChoice, shape: tuple[int, ...]
) -> ir.Value:
    assert choice.axis is not None  # plan/types.py: scales of columns go with an axis
    axis = choice.axis % len(shape)
    line = from_rows(column[None], (*shape[:axis], 1, *shape[axis + 1 :]), axis)
    stored = chain.constant("column", line.astype(ml_dtypes.bfloat16))
    return chain.op("Mul", [value, chain.op("Cast", [stored], {"to": ir.DataType.FLOAT})])


def from_rows_of_blocks(scale: Array, choice: WeightChoice, rank: int) -> Array:
    """Return scales (channels, blocks) with the channels first or last, as the weight has them."""
    last = choice.axis is not None and choice.axis % rank == rank - 1 and rank > 1
    return scale.T if last and choice.block else scale


def _block_shapes(
    codes: Codes, choice: WeightChoice, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape to multiply in, and the scale's shape that broadcasts to it."""
    channels, features = codes.rows.shape
    rank = len(shape)
    if choice.block is None:
        axis = None if choice.axis is None else choice.axis % rank
        return shape, tuple(dim if i == axis else 1 for i, dim in enumerate(shape))
    blocks = features // choice.block
    if choice.axis == 0:
        return (channels, blocks, choice.block), (channels, blocks, 1)
    assert choice.axis is not None  # plan/forms.py gives blocks to the first or last axis only
    assert choice.axis % rank == rank - 1
    return (blocks, choice.block, channels), (blocks, 1, channels)


def _dequantized(
    chain: Chain, codes: Codes, choice: WeightChoice, shape: tuple[int, ...]
) -> ir.Value:
    """DequantizeLinear with float32 scales: the standard spelling."""
    tensor = chain.constant("int", _typed(from_rows(codes.rows, shape, choice.axis), choice.bits))
    if choice.axis is None:
        return chain.op(
            "DequantizeLinear", [tensor, chain.constant("scale", codes.scale.ravel()[0])]
        )
    scale = from_rows_of_blocks(codes.scale, choice, len(shape))
    if choice.block is None:
        return chain.op(
            "DequantizeLinear",
            [tensor, chain.constant("scale", scale.ravel())],
            {"axis": choice.axis},
        )
    summed = 1 if choice.axis == 0 else 0
    attributes = {"axis": summed, "block_size": choice.block}
    return chain.op("DequantizeLinear", [tensor, chain.constant("scale", scale)], attributes)
