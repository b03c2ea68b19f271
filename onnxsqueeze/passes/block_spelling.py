"""How a matrix in blocks is written for products and lookups: in standard operators, or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.blocks import BlockReader, BlockWeight
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import inputs
from onnxsqueeze.passes.chain import Chain
from onnxsqueeze.passes.round_weights import Codes
from onnxsqueeze.plan.types import WeightChoice

Array = npt.NDArray[Any]
RUNTIME = "com.microsoft"
ACCURACY_LEVEL = 4
"""Activations become int8 within the kernel, as they do where ONNX Runtime makes it by itself."""


@dataclass(frozen=True)
class Kept:
    """One weight, its choice and codes, and where its constants are put.

    Where it is ``portable``, scales of products are of the weight's own type, as kernels of other
    engines read them; otherwise they take two bytes, and ONNX Runtime casts them when it loads.
    """

    chain: Chain
    choice: WeightChoice
    codes: Codes
    weight: BlockWeight
    portable: bool = False

    @property
    def dtype(self) -> ir.DataType:
        """The weight's own type."""
        assert self.weight.value.dtype is not None  # initializers have types
        return self.weight.value.dtype


@dataclass(frozen=True)
class Spelling:
    """How the readers of one weight have it.

    Attributes:
        product: ``(chain, reader, bias, number) -> value``: the matrix (features, channels) or,
            with ``replaces_products``, the product itself; ``number`` counts the products.
        lookup: ``(chain, reader, indices) -> value``: the rows.
        replaces_products: See ``product``.
    """

    product: Callable[[Chain, BlockReader, ir.Value | None, int], ir.Value]
    lookup: Callable[[Chain, BlockReader, ir.Value], ir.Value]
    replaces_products: bool


def standard_spelling(kept: Kept) -> Spelling:
    """Return the spelling in standard operators; its constants are added to the graph."""
    if not kept.weight.products:
        table = _table(kept)
        return Spelling(
            _no_product,
            lambda chain, _, indices: _rows(kept, table, chain, indices),
            replaces_products=False,
        )
    zero = kept.codes.zero
    scale = kept.codes.scale.astype(kept.dtype.numpy() if kept.portable else ml_dtypes.bfloat16)
    parts = [
        kept.chain.constant("int", _typed(kept.codes.rows.T, kept.choice.bits)),
        kept.chain.constant("scale", scale[:, 0] if kept.choice.block is None else scale.T),
    ]
    if zero is not None:
        parts.append(kept.chain.constant("zero", _typed(zero.T, kept.choice.bits)))
    return Spelling(
        lambda chain, _, __, number: _dequantized(kept, chain, parts, number),
        lambda chain, _, indices: _rows(kept, _unfolded(kept, chain, parts), chain, indices),
        replaces_products=False,
    )


def _no_product(*_: object) -> ir.Value:
    raise AssertionError("the weight has no products")


def _typed(codes: Array, bits: int) -> Array:
    return codes.astype(ml_dtypes.int4 if bits == 4 else np.int8)


def _dequantized(kept: Kept, chain: Chain, parts: list[ir.Value], number: int) -> ir.Value:
    """DequantizeLinear over own constants: those of the second product and on are folded ones.

    ONNX Runtime fuses none of two that read the same initializers. Two Transposes, or a Reshape,
    give it copies when it loads the model, and the file holds one. It makes one of equal chains,
    so those of each further product are longer.
    """
    read = list(parts)
    if not kept.portable:
        read[1] = chain.op("Cast", [parts[1]], {"to": kept.dtype})
    tensor = parts[1].const_value
    assert tensor is not None  # an initializer
    shape = tuple(tensor.shape.numpy())
    for _ in range(number):
        read[1] = chain.op("Reshape", [read[1], chain.shape(shape)])
        for _ in range(2):
            for place in {*range(len(read))} - {1}:
                read[place] = chain.op("Transpose", [read[place]], {"perm": [1, 0]})
    attributes = {"axis": 1}
    if kept.choice.block is not None:
        attributes = {"axis": 0, "block_size": kept.choice.block}
    return chain.op("DequantizeLinear", read, attributes)


@dataclass(frozen=True)
class _Table:
    """Codes, scales and zero points by row, and by block where there are any.

    Attributes:
        codes: int8, or two in a uint8: the first half of a block in the low bits.
        scale: Any float type.
        zero: int8, or None.
        is_packed: Whether the codes are two in one.
    """

    codes: ir.Value
    scale: ir.Value
    zero: ir.Value | None
    is_packed: bool


def _dims(kept: Kept) -> tuple[int, ...]:
    """Return the shape of the table: (rows, blocks, values of one), or (rows, values)."""
    rows, features = kept.codes.rows.shape
    block = kept.choice.block
    return (rows, features) if block is None else (rows, features // block, block)


def _table(kept: Kept) -> _Table:
    dims = _dims(kept)
    codes, is_packed = kept.codes.rows.reshape(dims).astype(np.int8), kept.choice.bits == 4
    if is_packed:
        low, high = np.split((codes + 8).astype(np.uint8), 2, axis=-1)
        codes = low | (high << 4)
    scale = kept.codes.scale.reshape(*dims[:-1], 1)
    zero = kept.codes.zero
    return _Table(
        kept.chain.constant("int", codes),
        kept.chain.constant("scale", scale.astype(ml_dtypes.bfloat16)),
        None if zero is None else kept.chain.constant("zero", zero.reshape(scale.shape)),
        is_packed,
    )


def _unfolded(kept: Kept, chain: Chain, parts: list[ir.Value]) -> _Table:
    """Return the table made of the constants that products read: ONNX Runtime folds all of it.

    It gathers no 4-bit integers, so the table is of 8-bit ones in memory.
    """
    dims = _dims(kept)

    def turned(value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        wide = chain.op("Transpose", [value], {"perm": [1, 0]})
        return chain.op("Reshape", [wide, chain.shape(shape)])

    def as_bytes(value: ir.Value) -> ir.Value:
        return chain.op("Cast", [value], {"to": ir.DataType.INT8}) if packed else value

    packed = kept.choice.bits == 4
    by_block = (*dims[:-1], 1)
    if kept.choice.block is None:
        scale = chain.op("Reshape", [parts[1], chain.shape(by_block)])
    else:
        scale = turned(parts[1], by_block)
    zero = turned(as_bytes(parts[2]), by_block) if len(parts) > 2 else None
    return _Table(turned(as_bytes(parts[0]), dims), scale, zero, is_packed=False)


def _rows(kept: Kept, table: _Table, chain: Chain, indices: ir.Value) -> ir.Value:
    """Gather integers, then make floats of them, in float32."""

    def gathered(value: ir.Value) -> ir.Value:
        return chain.op("Gather", [value, indices], {"axis": 0})

    def as_float(value: ir.Value) -> ir.Value:
        return chain.op("Cast", [value], {"to": ir.DataType.FLOAT})

    codes = gathered(table.codes)
    if table.is_packed:
        mask = chain.shared("blocks.low", np.array(15, np.uint8))
        shift = chain.shared("blocks.shift", np.array(4, np.uint8))
        low = chain.op("BitwiseAnd", [codes, mask])
        high = chain.op("BitShift", [codes, shift], {"direction": "RIGHT"})
        codes = chain.op("Concat", [low, high], {"axis": -1})
    value = as_float(codes)
    if table.is_packed:
        value = chain.op("Sub", [value, chain.shared("blocks.middle", np.array(8, np.float32))])
    if table.zero is not None:
        value = chain.op("Sub", [value, as_float(gathered(table.zero))])
    value = chain.op("Mul", [value, as_float(gathered(table.scale))])
    if kept.choice.block is not None:
        value = chain.op("Reshape", [value, _rows_shape(kept, chain, indices)])
    is_wide = kept.dtype == ir.DataType.FLOAT
    return value if is_wide else chain.op("Cast", [value], {"to": kept.dtype})


def _rows_shape(kept: Kept, chain: Chain, indices: ir.Value) -> ir.Value:
    """Return the shape of what is looked up: that of the indices, and the features behind it."""
    features = kept.weight.features
    if indices.shape is not None:  # a 0 keeps the dim of what is reshaped
        return chain.shape((*(0 for _ in indices.shape), features))
    dims = chain.op("Shape", [indices])
    return chain.op("Concat", [dims, chain.shape((features,))], {"axis": 0})


def runtime_spelling(kept: Kept) -> Spelling:
    """Return the spelling in ONNX Runtime's own operators; its constants are added."""
    bits, block = kept.choice.bits, kept.choice.block
    assert block is not None  # per channel, weights are spelled in standard operators
    channels, features = kept.codes.rows.shape
    count = features // block
    codes = _unsigned(kept.codes.rows, bits)
    shape: tuple[int, ...] = (channels, features * bits // 8)
    if kept.weight.products:
        shape = (channels, count, block * bits // 8)
    read: list[ir.Value | None] = [
        kept.chain.constant("int", codes.reshape(shape)),
        kept.chain.constant("scale", kept.codes.scale.astype(kept.dtype.numpy())),
    ]
    if kept.codes.zero is not None:
        read.append(kept.chain.constant("zero", _unsigned(kept.codes.zero, bits)))

    def product(chain: Chain, reader: BlockReader, bias: ir.Value | None, _: int) -> ir.Value:
        zero = read[2] if len(read) > 2 else None
        row = row_of(reader.node)
        blocks = None if row is None or row.blocks is None else row.blocks(reader.node)
        assert blocks is not None  # analysis/blocks.py: products have such kernels
        x = inputs(reader.node)[blocks.x]
        given = [x, read[0], read[1], zero, None, bias]
        attributes = {"K": features, "N": channels, "bits": bits, "block_size": block}
        attributes["accuracy_level"] = ACCURACY_LEVEL
        return chain.op("MatMulNBits", given, attributes, domain=RUNTIME)

    def lookup(chain: Chain, _: BlockReader, indices: ir.Value) -> ir.Value:
        data = read[0]
        assert data is not None  # the codes
        if kept.weight.products:
            flat = chain.shape((channels, math.prod(shape[1:])))
            data = chain.op("Reshape", [data, flat])
        attributes = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
        given = [data, indices, *read[1:]]
        return chain.op("GatherBlockQuantized", given, attributes, domain=RUNTIME)

    return Spelling(product, lookup, replaces_products=True)


def _unsigned(codes: Array, bits: int) -> Array:
    """Return codes around the middle of their range; of 4 bits two in a byte, the first low."""
    wide: Array = (codes.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 8:
        return wide
    if wide.shape[1] % 2:
        wide = np.pad(wide, ((0, 0), (0, 1)), constant_values=8)
    packed: Array = wide[:, 0::2] | (wide[:, 1::2] << 4)
    return packed
