"""What a model needs to be fed with: one InputSpec per input that is not an initializer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsqueeze.errors import ModelError

_NOT_IN_FILES = (
    ir.DataType.BFLOAT16,
    ir.DataType.FLOAT8E4M3FN,
    ir.DataType.FLOAT8E4M3FNUZ,
    ir.DataType.FLOAT8E5M2,
    ir.DataType.FLOAT8E5M2FNUZ,
)


@dataclass(frozen=True)
class InputSpec:
    """One required input of a model.

    Attributes:
        name: The input's name.
        dtype: NumPy type of its elements; ``object`` for strings.
        shape: Per axis an int where it is fixed, else the symbol's name or None; None if unranked.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        dims = "?"
        if self.shape is not None:
            dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name}: {self.dtype} [{dims}]"


def signature(model: ir.Model) -> tuple[InputSpec, ...]:
    """Return what the model must be fed with, in the model's order.

    Raises:
        ModelError: If an input is no tensor (a sequence, a map, an optional), or one of a type
            that no file of samples can hold.
    """
    specs = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        if not isinstance(value.type, ir.TensorType):
            raise ModelError(
                f"input {value.name!r} is {value.type}, and only tensors can be fed\n"
                "  Export the model with tensor inputs."
            )
        shape = None
        if value.shape is not None:
            shape = tuple(d if isinstance(d, int) else d.value for d in value.shape)
        dtype = value.type.dtype
        if dtype in _NOT_IN_FILES:
            raise ModelError(
                f"input {value.name!r} is {dtype.name.lower()}, which neither files of samples "
                "nor ONNX Runtime's CPU provider know\n"
                "  Export the model with float32 or float16 inputs; weights may stay as they are."
            )
        kind = np.dtype(object) if dtype == ir.DataType.STRING else dtype.numpy()
        specs.append(InputSpec(value.name or "", kind, shape))
    return tuple(specs)
