"""Weights as integers, as float16, or behind a bit mask, made float when the model loads.

The chain that restores a weight reads initializers only, so ONNX Runtime computes it once, while
it loads the model, and the kernels see the same float weights as before:

* ``float16``: Cast
* ``stored``: Cast · scale, with blocks between two Reshapes
* ``masked``: the values that are not zero are gathered to the places that a bit mask names, first

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
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.numerics.grid import from_rows
from onnxsqueeze.passes.round_weights import Codes, pruned
from onnxsqueeze.plan.types import Plan, WeightChoice

Array = npt.NDArray[Any]


class StoreWeightsPass(ir.passes.InPlacePass):
    """Write each weight in the form that its choice names: ``float``, ``float16`` or ``stored``.

    Decides nothing. Scope: initializers of every graph, and all of their readers. Choices with
    form ``qdq`` are left to InsertQdqPass; a ``float`` weight changes only where the plan prunes
    it.
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
        stored = {n: choice for n, choice in self.plan.weights.items() if choice.form != "qdq"}
        check_fits(self.plan, stored, places)
        for name, choice in stored.items():
            graph, value = places[name]
            if choice.form == "float" and not choice.masked and choice.prune_below is None:
                continue
            chain = _Chain(graph, name, taken, shared)
            output = self._stored(chain, value, choice)
            if output is None:
                modified = _set_pruned(value, choice) or modified
                continue
            modified = True
            output.shape, output.type = value.shape, value.type
            _read_instead(graph, value, chain)
        edit.remove_unused(model)
        return ir.passes.PassResult(model, modified=modified)

    def _stored(self, chain: _Chain, value: ir.Value, choice: WeightChoice) -> ir.Value | None:
        assert value.const_value is not None  # ONNX: an initializer has a value and a type
        assert value.dtype is not None
        name, dtype = value.name or "", value.dtype
        if choice.form == "stored":
            codes = self.codes[name]
            shape = tuple(value.const_value.shape.numpy())
            portable = self.plan.portable and not choice.masked
            spell = _dequantized if portable else _restored
            wide = spell(chain, codes, choice, shape)
            # Scales of small weights are not normal numbers in float16.
            is_wide = dtype == ir.DataType.FLOAT
            return wide if is_wide else chain.op("Cast", [wide], {"to": dtype})
        weight = pruned(value.const_value.numpy(), choice.prune_below)
        if choice.form == "float16":
            half = weight.astype(np.float16)
            kept = chain.masked(half) if choice.masked else chain.constant("half", half)
            return chain.op("Cast", [kept], {"to": dtype})
        return chain.masked(weight) if choice.masked else None


def _set_pruned(value: ir.Value, choice: WeightChoice) -> bool:
    """Prune a weight in place; return whether that changed any value."""
    assert value.const_value is not None  # ONNX: an initializer has a value
    before = value.const_value.numpy()
    after = pruned(before, choice.prune_below)
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


def _read_instead(graph: ir.Graph, value: ir.Value, chain: _Chain) -> None:
    """Let the weight's readers read the chain's output, and drop the weight."""
    edit.read_through(graph, value, chain.nodes)
    graph.initializers.pop(value.name or "")


class _Chain:
    """Nodes under construction, with their constants, all named after one weight."""

    def __init__(
        self,
        graph: ir.Graph,
        name: str,
        taken: set[str],
        shared: dict[tuple[ir.Graph, str], ir.Value],
    ) -> None:
        self.graph = graph
        self.name = name
        self.taken = taken
        self._shared = shared
        self.nodes: list[ir.Node] = []

    def constant(self, part: str, values: Array) -> ir.Value:
        return edit.add_initializer(
            self.graph, f"{self.name}.{part}", np.ascontiguousarray(values), self.taken
        )

    def shared(self, part: str, values: Array) -> ir.Value:
        """Return a constant that all weights of a graph use alike."""
        key = self.graph, part
        if key not in self._shared:
            self._shared[key] = edit.add_initializer(self.graph, part, values, self.taken)
        return self._shared[key]

    def op(
        self, kind: str, inputs: list[ir.Value], attributes: Mapping[str, Any] | None = None
    ) -> ir.Value:
        name = walk.unused_name(f"{self.name}.{len(self.nodes)}", self.taken)
        output = ir.Value(name=name)
        node = ir.node(kind, inputs, _plain(attributes), outputs=[output], name=name)
        self.nodes.append(node)
        return output

    def shape(self, dims: tuple[int, ...]) -> ir.Value:
        name = "shape." + "x".join(str(dim) for dim in dims)
        return self.shared(name, np.array(dims, np.int64))

    def masked(self, values: Array) -> ir.Value:
        """Store a bit per value and the values that are not zero; return all in their shape."""
        flat = values.ravel()
        kept = flat != 0
        bits = self.constant("mask", np.packbits(kept, bitorder="little"))
        some = self.constant("some", np.concatenate([flat[:1] * 0, flat[kept]]))
        if flat.dtype == ml_dtypes.int4:  # ONNX Runtime gathers no 4-bit values
            some = self.op("Cast", [some], {"to": ir.DataType.INT8})
        column = self.op("Unsqueeze", [bits, self.shared("mask.last", np.array([1], np.int64))])
        # Bit k goes to the top, which drops those above it, and then to the bottom.
        up = self.shared("mask.up", np.arange(7, -1, -1, dtype=np.uint8)[None])
        top = self.op("BitShift", [column, up], {"direction": "LEFT"})
        down = self.shared("mask.down", np.array([[7]], np.uint8))
        one = self.op("BitShift", [top, down], {"direction": "RIGHT"})
        line = self.op(
            "Reshape", [self.op("Cast", [one], {"to": ir.DataType.INT32}), self.shape((-1,))]
        )
        zero = self.shared("mask.zero", np.array(0, np.int64))
        place = self.op("Mul", [self.op("CumSum", [line, zero]), line])
        if flat.size % 8:
            first = self.shared("mask.first", np.array([0], np.int64))
            place = self.op("Slice", [place, first, self.shape((flat.size,)), first])
        spread = self.op("Gather", [some, place], {"axis": 0})
        return self.op("Reshape", [spread, self.shape(values.shape)])


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {k: int(v) if isinstance(v, ir.DataType) else v for k, v in (attributes or {}).items()}


def _typed(rows: Array, bits: int) -> Array:
    return rows.astype(ml_dtypes.int4) if bits == 4 else rows


def _restored(
    chain: _Chain, codes: Codes, choice: WeightChoice, shape: tuple[int, ...]
) -> ir.Value:
    """Cast · scale in float32, in the weight's shape; with blocks first in one of blocks."""
    tensor = _typed(from_rows(codes.rows, shape, choice.axis), choice.bits)
    kept = chain.masked(tensor) if choice.masked else chain.constant("int", tensor)
    inner, scale_shape = _block_shapes(codes, choice, shape)
    scale = from_rows_of_blocks(codes.scale, choice, len(shape)).reshape(scale_shape)
    stored = chain.constant("scale", scale.astype(ml_dtypes.bfloat16))
    factor = chain.op("Cast", [stored], {"to": ir.DataType.FLOAT})
    value = chain.op("Cast", [kept], {"to": ir.DataType.FLOAT})
    if inner != shape:
        value = chain.op("Reshape", [value, chain.shape(inner)])
    value = chain.op("Mul", [value, factor])
    return chain.op("Reshape", [value, chain.shape(shape)]) if inner != shape else value


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
    chain: _Chain, codes: Codes, choice: WeightChoice, shape: tuple[int, ...]
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
