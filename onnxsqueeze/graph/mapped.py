"""Weights that lie on disk: let go after they were read, and moved there when they are made.

A weight in external data is a memory map. What was read of it stays in memory until the map is
closed, so whoever goes through many of them closes one before the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import onnx_ir as ir

from onnxsqueeze.graph import walk

SPILLED_BYTES = 4096
"""Smaller initializers stay in memory: a page of a file is no smaller."""
_ALIGNMENT = 4096


def release(tensor: ir.TensorProtocol | None) -> None:
    """Close a tensor's memory map, if it is one; it is opened again when it is read again.

    A map that an array still reads stays open until that array is gone.
    """
    if isinstance(tensor, ir.ExternalTensor):
        with suppress(BufferError):
            tensor.release()


def is_external(model: ir.Model) -> bool:
    """Return whether any initializer lies in external data."""
    return any(
        isinstance(value.const_value, ir.ExternalTensor) for _, value in walk.initializers(model)
    )


def in_memory(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    """Return a copy that holds its contents."""
    array = tensor.numpy().copy()
    release(tensor)
    return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)


@contextmanager
def inlined(model: ir.Model, but: str | None = None) -> Iterator[None]:
    """Hold external weights in memory for the time of the block, ``but`` those of one folder."""
    mapped: list[tuple[ir.Value, ir.ExternalTensor]] = [
        (value, value.const_value)
        for _, value in walk.initializers(model)
        if isinstance(value.const_value, ir.ExternalTensor)
        and str(value.const_value.base_dir) != but
    ]
    try:
        for value, tensor in mapped:
            value.const_value = in_memory(tensor)
        yield
    finally:
        for value, tensor in mapped:
            value.const_value = tensor


class DataFile:
    """A file that tensors are moved to, one behind the other; an older one is replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.path.write_bytes(b"")

    def moved(self, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        """Write a tensor to the file and return it as one that is read from there."""
        content = tensor.tobytes()
        with self.path.open("ab") as file:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            offset = file.tell()
            file.write(content)
        return ir.ExternalTensor(
            self.path.name,
            offset,
            len(content),
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=str(tensor.name),
            base_dir=self.path.parent,
        )


def spill(model: ir.Model, file: DataFile) -> int:
    """Move the initializers that are in memory to a file, but for small ones; return the bytes."""
    moved = 0
    for _, value in walk.initializers(model):
        tensor = value.const_value
        if tensor is None or isinstance(tensor, ir.ExternalTensor):
            continue
        if tensor.dtype != ir.DataType.STRING and tensor.nbytes >= SPILLED_BYTES:
            value.const_value = file.moved(tensor)
            moved += tensor.nbytes
    return moved
