"""How torch computes a node: what a kernel is given; torch is imported when first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsqueeze.errors import DependencyError
from onnxsqueeze.ops.row import attribute, opset

Tensor = Any
"""A torch.Tensor; the name cannot be imported where torch is not installed."""


class _Torch:
    """Stands for the module ``torch``, which is imported when something of it is first used."""

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(importlib.import_module("torch"), name)
        except ImportError as error:
            raise DependencyError(
                f"PyTorch is needed for gradients and is not installed ({error})\n"
                "  Install it: pip install 'onnxsqueeze[torch]'\n"
                "  Or choose an importance that needs none: obs, activation, l1 or l2."
            ) from error


torch: Any = _Torch()


@dataclass(frozen=True)
class Call:
    """One run of a node.

    Attributes:
        node: The node.
        inputs: Its inputs in the order of the schema; None where an optional one is absent.
        run: ``(subgraph, its inputs) -> its outputs``, for control flow.
    """

    node: ir.Node
    inputs: Sequence[Tensor | None]
    run: Callable[[ir.Graph, Sequence[Tensor]], list[Tensor]]

    def __getitem__(self, position: int) -> Tensor:
        """Return an input that must be there."""
        return self.inputs[position]

    def optional(self, position: int) -> Tensor | None:
        """Return an input, or None where it is absent."""
        return self.inputs[position] if position < len(self.inputs) else None

    def attribute(self, name: str) -> Any:
        """Return an attribute, its default, or None where it has neither."""
        return attribute(self.node, name)

    def setting(self, name: str, position: int) -> Any:
        """Return an attribute, or the input that newer opsets have instead, as Python numbers."""
        if name in self.node.attributes:
            return attribute(self.node, name)
        found = self.optional(position)
        return None if found is None else found.tolist()

    @property
    def opset(self) -> int:
        """The opset that the node is of."""
        return opset(self.node)

    @property
    def present(self) -> list[Tensor]:
        """The inputs that are there."""
        return [value for value in self.inputs if value is not None]


def as_torch(array: np.ndarray[Any, Any]) -> Tensor:
    """Return a tensor that may share the array's memory.

    Raises:
        TypeError: If torch has no such type (strings, 4-bit integers).
    """
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    array = np.ascontiguousarray(array).reshape(array.shape)  # a scalar would get an axis
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def torch_type(code: int) -> Any:
    """Return the torch type of an ONNX type.

    Raises:
        TypeError: If torch has no such type.
    """
    dtype = ir.DataType(code)
    if dtype == ir.DataType.BFLOAT16:
        return torch.bfloat16
    return as_torch(np.zeros(1, dtype.numpy())).dtype


def shaped(vector: Tensor, like: Tensor, axis: int) -> Tensor:
    """Return a vector along one axis of a tensor, broadcast along the others."""
    shape = [1] * like.ndim
    shape[axis] = -1
    return vector.reshape(shape)
