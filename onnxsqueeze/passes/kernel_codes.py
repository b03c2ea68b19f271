"""The codes that integer kernels read, in as few bytes as they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.numerics.grid import as_rows, max_scale, to_grid
from onnxsqueeze.numerics.pairs import paired_scale, partners
from onnxsqueeze.passes.chain import Chain
from onnxsqueeze.passes.round_weights import Codes, pruned
from onnxsqueeze.plan.types import CodeType, WeightChoice

Array = npt.NDArray[Any]

ZERO_CODES: Mapping[CodeType, int] = {"uint8": 128, "int8": 0}
"""Code of zero in stored weights, by their type."""


def coded(values: Array, choice: WeightChoice) -> Codes:
    """Return a weight's nearest codes, with scales at which nothing is cut off."""
    rows = as_rows(pruned(values, choice.prune_below), choice.axis)
    scale = max_scale(rows, choice.bits)
    if choice.paired and choice.axis is not None:
        scale = np.maximum(scale, paired_scale(rows, partners(values.shape, choice.axis)))
    return Codes(to_grid(rows, scale, choice.bits), scale)


def kernel_codes(chain: Chain, codes: Array, choice: WeightChoice, *, portable: bool) -> ir.Value:
    """Return what a kernel reads: signed codes around the zero of their type.

    Codes of 8 bits are stored as they are. Narrower ones are stored in planes and made 8 bits by
    nodes of ``chain``, which ONNX Runtime runs once, when it loads the model.

    Args:
        chain: Takes the nodes and the constants.
        codes: Codes around zero, in the shape that the kernel reads.
        choice: How they are stored.
        portable: Store 8 bits whatever the width: every other spelling needs what folds it.

    Source:
        ONNX Runtime 1.32, ConstantFolding before the quantization fusions, read back from its
        optimized graphs.
    """
    zero, kind = ZERO_CODES[choice.codes], np.dtype(choice.codes)
    if choice.bits == 8 or portable:
        return chain.constant("int", (codes.astype(np.int16) + zero).astype(kind))
    wide = chain.coded(codes, choice.bits)
    if zero:
        middle = chain.shared(f"bits.middle{zero}", np.array(zero, np.float32))
        wide = chain.op("Add", [wide, middle])
    dtype = ir.DataType.from_numpy(kind)
    read = chain.op("Cast", [wide], {"to": dtype})
    read.type, read.shape = ir.TensorType(dtype), ir.Shape(codes.shape)
    return read
