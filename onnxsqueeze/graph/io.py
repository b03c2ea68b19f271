"""Models from and to files: what is read was checked, what is written is complete."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from onnxsqueeze.errors import ModelError, OutputError
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.graph.check import check_model
from onnxsqueeze.graph.formats import other_format
from onnxsqueeze.graph.mapped import in_memory, inlined
from onnxsqueeze.graph.one_file import write_one_file
from onnxsqueeze.graph.protos import all_tensors, external_location, graph_protos
from onnxsqueeze.graph.sparse import densely, mark, marked, sparsely

LARGEST_FILE_BYTES = 1_900_000_000
"""Weights over this go to a file of their own: one protobuf message holds less than 2 GiB."""

LARGE_BYTES = 500_000_000
"""A model with more weights than this is treated in the memory of one weight at a time."""

_ALIGNMENT = 65536  # allocation granularity of Windows, a multiple of every page size in use
_CHUNK = 1 << 20


def read(path: Path, *, beside: Path | None = None) -> ir.Model:
    """Return the model, sorted, external weights memory-mapped, opsets known in every graph.

    Args:
        path: The file.
        beside: Another file, in whose folder the external data lies; None for the model's own.

    Raises:
        ModelError: If the file is missing, cut short, not ONNX, not valid, or holds what this
            package cannot carry; see ``check_model``.
    """
    path = Path(os.path.realpath(path))  # links in a circle are told when the file is opened
    folder = Path(os.path.realpath(beside or path)).parent
    proto = _proto(path)
    thin = densely(proto, path)
    check_model(proto, folder / path.name)
    try:
        model = ir.from_proto(proto)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{path} cannot be understood: {error}\n  Export the model again."
        ) from error
    _sort(model, path)
    edit.set_opsets(model)
    _bring_data(model, folder)
    for _, value in walk.initializers(model):
        if value.name in thin:
            mark(value)
    return model


def write(model: ir.Model, path: Path, *, external: bool = False) -> None:
    """Write the model, complete or not at all; an existing file at ``path`` is replaced.

    Initializers that are marked (graph/sparse.py) are written as sparse ones, but not beside
    external data. Weights over 1.9 GB, or any weights with ``external``, go to one file
    ``NAME.data`` beside it, where ``NAME`` is the name of the model's file, aligned for memory
    mapping. The model itself stays as it is.

    Raises:
        OutputError: If the folder is missing or cannot be written to, or if a file to be replaced
            holds weights of this very model.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 (a link at the path is replaced, not followed)
    data = path.with_name(path.name + ".data")
    external = external or weight_bytes(model) > LARGEST_FILE_BYTES
    _check_target(model, path, [path, data] if external else [path])
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            part = Path(folder) / path.name
            if external:
                ir.save(model, part, external_data=data.name, alignment=_ALIGNMENT)
                part.write_bytes(_stripped(_proto(part)).SerializeToString())
                beside = Path(folder) / data.name
                if beside.exists() and beside.stat().st_size:
                    beside.replace(data)
            else:
                _write_inside(model, part)
            part.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}\n"
            "  Check the folder's permissions and the free space, or choose another place."
        ) from error


def write_thin(model: ir.Model, path: Path) -> None:
    """Write the model without the contents of external weights: it goes on naming their data.

    Only ``read`` with the file ``beside`` which that data lies finds them again. Weights in
    memory are written inside.
    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        part = Path(folder) / path.name
        part.write_bytes(_stripped(ir.to_proto(model)).SerializeToString())
        part.replace(path)


def _write_inside(model: ir.Model, path: Path) -> None:
    """Write the model as one file; external weights of the main graph go through one by one."""
    mapped = {
        str(value.name): value.const_value
        for graph, value in walk.initializers(model)
        if isinstance(value.const_value, ir.ExternalTensor) and graph is model.graph
    }
    count = sum(
        isinstance(value.const_value, ir.ExternalTensor) for _, value in walk.initializers(model)
    )
    if not mapped or count > len(mapped) or marked(model):
        path.write_bytes(serialized(model))
        return
    with path.open("wb") as file:
        write_one_file(_stripped(ir.to_proto(model)), mapped, file)


def serialized(model: ir.Model) -> bytes:
    """Return the model as one ONNX file's bytes, external weights included.

    Raises:
        ModelError: If the weights are over 1.9 GB, which one protobuf message does not hold.
    """
    size = weight_bytes(model)
    if size > LARGEST_FILE_BYTES:
        raise ModelError(
            f"the weights are {size} bytes, and one ONNX file without external data holds "
            f"{LARGEST_FILE_BYTES}\n  Write the model with external data."
        )
    with inlined(model):
        proto = sparsely(_stripped(ir.to_proto(model)), marked(model))
        data: bytes = proto.SerializeToString()
    return data


def _stripped(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without declarations of initializers, which onnx_ir adds and say nothing new."""
    for graph in graph_protos(proto.graph):
        names = {tensor.name for tensor in graph.initializer}
        kept = [value for value in graph.value_info if value.name not in names]
        if len(kept) < len(graph.value_info):
            del graph.value_info[:]
            graph.value_info.extend(kept)
    return proto


def weight_bytes(model: ir.Model) -> int:
    """Return the bytes of all initializers, of every graph."""
    values = (value.const_value for _, value in walk.initializers(model))
    return sum(tensor.nbytes for tensor in values if tensor is not None)


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of the file and of the external data that it names, in hex.

    For a model without external data it is the SHA-256 of the file.
    """
    return sha256_of(*_files(path))


def sha256_of(*files: Path) -> str:
    """Return the SHA-256 of what files hold, one behind the other, in hex."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def size_bytes(path: Path) -> int:
    """Return the size of the file and of the external data that it names."""
    return sum(file.stat().st_size for file in _files(path))


def _files(path: Path) -> list[Path]:
    """The model's file, then its data files, each once, by name."""
    path = Path(os.path.realpath(path))
    proto = _proto(path)
    locations = {external_location(tensor) for tensor in all_tensors(proto)} - {None}
    if locations:
        densely(proto, path)
        check_model(proto, path)
    return [path, *(path.parent / name for name in sorted(str(name) for name in locations))]


def _proto(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        raise ModelError(f"{path} is a folder\n  Name the .onnx file in it.")
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is a pipe or a device, not a file\n  Save the model first.")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}\n  Check the path.") from None
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}\n  Check its permissions."
        ) from error
    if not content:
        raise ModelError(f"{path} is empty\n  Copy or export the model again.")
    if other := other_format(content):
        name, advice = other
        raise ModelError(f"{path} is {name}, not an ONNX model\n  {advice}.")
    try:
        proto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(_not_onnx(path, content)) from error
    assert isinstance(proto, onnx.ModelProto)
    return proto


def _not_onnx(path: Path, content: bytes) -> str:
    is_text = all(32 <= byte < 127 or byte in b"\t\n\r" for byte in content[:64])
    if is_text:
        return f"{path} is a text file, not an ONNX model\n  Name the .onnx file."
    return (
        f"{path} is not an ONNX model, or it is cut short at {len(content)} bytes\n"
        "  Compare its size with the source's, and copy or export it again. Graphs inside of\n"
        "  graphs, more than about 30 deep, cannot be read either."
    )


def _sort(model: ir.Model, path: Path) -> None:
    try:
        model.graph.sort()
        for function in model.functions.values():
            function.sort()
    except ValueError as error:
        raise ModelError(
            f"{path} holds a graph with a cycle: some node needs its own output\n"
            "  Export the model again; the file is not valid ONNX."
        ) from error


def _bring_data(model: ir.Model, folder: Path) -> None:
    """Tell external weights their folder; read external tensors in attributes, which are rare."""
    for _, value in walk.initializers(model):
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value.base_dir = folder
    for node in walk.nodes(model):
        for attribute in list(node.attributes.values()):
            tensor = attribute.value
            if attribute.is_ref() or not isinstance(tensor, ir.ExternalTensor):
                continue
            tensor.base_dir = folder
            node.attributes.add(ir.AttrTensor(attribute.name, in_memory(tensor)))


def _check_target(model: ir.Model, path: Path, targets: list[Path]) -> None:
    if not path.parent.is_dir():
        raise OutputError(
            f"there is no folder {path.parent} to write {path.name} to\n  Make it first."
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder\n  Name a file in it.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"folder {path.parent} cannot be written to\n  Choose another one.")
    mapped = {
        Path(value.const_value.path).resolve()
        for _, value in walk.initializers(model)
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    for target in targets:
        if target.resolve() in mapped:
            raise OutputError(
                f"{target} holds weights of the model that is to be written there\n"
                "  Choose another name, so that the original stays as it is."
            )
