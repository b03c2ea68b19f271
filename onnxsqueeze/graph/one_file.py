"""A model with weights on disk as one ONNX file, written in the memory of one weight.

A protobuf message is its fields, one behind the other, each with its number and length. So the
lengths of all that is written can be told before any weight is read, and what is written is, byte
by byte, what serializing the whole model in memory would give.

Source:
    Protocol Buffers, Encoding (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import onnx
import onnx_ir as ir
from google.protobuf.message import Message  # type: ignore[import-untyped]

from onnxsqueeze.graph.mapped import release

_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_BYTES = 2  # wire type of what has a length


def write_one_file(
    proto: onnx.ModelProto, mapped: Mapping[str, ir.ExternalTensor], file: IO[bytes]
) -> None:
    """Write a model, with the contents of its external initializers inside.

    Args:
        proto: The model; initializers of its main graph that are ``mapped`` only name their data.
        mapped: Where those initializers lie, by name.
        file: Open for writing.
    """
    graph = proto.graph
    before = _part(graph, lambda number: number < _INITIALIZER).SerializeToString()
    after = _part(graph, lambda number: number > _INITIALIZER).SerializeToString()
    heads = [_head(tensor, mapped) for tensor in graph.initializer]
    size = len(before) + len(after)
    for head, tensor in heads:
        inner = len(head) + (0 if tensor is None else tensor.nbytes)
        size += len(_tag(_INITIALIZER, inner)) + inner
    file.write(_part(proto, lambda number: number < _GRAPH).SerializeToString())
    file.write(_tag(_GRAPH, size))
    file.write(before)
    for head, tensor in heads:
        file.write(_tag(_INITIALIZER, len(head) + (0 if tensor is None else tensor.nbytes)))
        file.write(head)
        if tensor is not None:
            tensor.tofile(file)
            release(tensor)
    file.write(after)
    file.write(_part(proto, lambda number: number > _GRAPH).SerializeToString())


def _head(
    tensor: onnx.TensorProto, mapped: Mapping[str, ir.ExternalTensor]
) -> tuple[bytes, ir.ExternalTensor | None]:
    """Return an initializer up to where its contents begin, and what they are read from."""
    found = mapped.get(tensor.name)
    if found is None:
        return tensor.SerializeToString(), None
    plain = onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type, name=tensor.name)
    return plain.SerializeToString() + _tag(_RAW_DATA, found.nbytes), found


def _part(message: Message, is_kept: Callable[[int], bool]) -> Any:
    """Return a copy with the fields of some numbers only."""
    part = type(message)()
    for field, value in message.ListFields():
        if not is_kept(field.number):
            continue
        if field.is_repeated:
            getattr(part, field.name).extend(value)
        elif field.message_type is not None:
            getattr(part, field.name).CopyFrom(value)
        else:
            setattr(part, field.name, value)
    return part


def _tag(number: int, length: int) -> bytes:
    return bytes([*_varint(number << 3 | _BYTES), *_varint(length)])


def _varint(value: int) -> Iterator[int]:
    """Yield a number in groups of seven bits, the lowest first; the high bit says more follow.

    Example:
        >>> list(_varint(300))
        [172, 2]
    """
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
