"""What an ONNX file must hold before anything else looks at it: files come from anywhere."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx_ir as ir

from onnxsqueeze.errors import ModelError
from onnxsqueeze.graph.bounds import check_bounds
from onnxsqueeze.graph.protos import (
    all_tensors,
    external_location,
    subgraph_protos,
)

_EXPORT_AGAIN = "  Export the model again; the file is not valid ONNX."


def check_model(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse a model that holds what this package cannot carry, or what no ONNX file may hold.

    Raises:
        ModelError: For a missing graph or output, training info, an input or output that is a map
            or sequence, a sparse initializer, an unknown opset, a name that is produced twice, a
            value that is read but never produced, a tensor whose data does not fit its shape,
            external data that is missing, too short, or outside the model's folder, a sparse
            tensor as an attribute, or what ``check_bounds`` refuses.
    """
    if not proto.HasField("graph"):
        raise ModelError(f"{path} holds no graph\n  It is not an ONNX model. Check the path.")
    if not proto.graph.output:
        raise ModelError(f"{path} has a graph without outputs\n{_EXPORT_AGAIN}")
    if proto.training_info:
        raise ModelError(
            f"{path} holds {len(proto.training_info)} training graph(s), and only inference "
            "models can be compressed\n  Export the model for inference."
        )
    _check_opsets(proto, path)
    check_bounds(proto, path)
    for kind, values in (("input", proto.graph.input), ("output", proto.graph.output)):
        for value in values:
            _check_type(value, kind, path)
    _check_graph(proto.graph, frozenset(), str(path))
    for function in proto.functions:
        _check_names(
            function.node, list(function.input), list(function.output), frozenset(),
            f"{path}, function {function.name!r}",
        )  # fmt: skip
    for tensor in all_tensors(proto):
        _check_tensor(tensor, path)


def _check_type(value: onnx.ValueInfoProto, kind: str, path: Path) -> None:
    """Refuse maps and sequences: there is nothing to feed them from, or to compare them by."""
    held = value.type
    is_sequence = held.HasField("sequence_type")
    if is_sequence:
        held = held.sequence_type.elem_type
    if held.HasField("map_type"):
        what = "a sequence of maps" if is_sequence else "a map"
        raise ModelError(
            f"{kind} {value.name!r} is {what}, and only tensors can be fed and compared\n"
            f"  In {path}.\n"
            "  Converters of scikit-learn and its kin write class scores so (ZipMap). Export\n"
            "  without: convert_sklearn(model, options={'zipmap': False}); elsewhere zipmap=False."
        )
    if is_sequence and kind == "output":
        raise ModelError(
            f"output {value.name!r} is a sequence of tensors, and only tensors can be compared\n"
            f"  In {path}.\n  Export the model with one output for each of them."
        )


def _check_opsets(proto: onnx.ModelProto, path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    version = versions.get("", versions.get("ai.onnx"))
    if version is None:
        if all(node.domain not in ("", "ai.onnx") for node in proto.graph.node):
            return
        raise ModelError(f"{path} does not say which ONNX opset it uses\n{_EXPORT_AGAIN}")
    if not 1 <= version <= newest:
        raise ModelError(
            f"{path} uses ONNX opset {version}, and the installed onnx knows 1 to {newest}\n"
            "  Update the onnx package, or export the model with an older opset."
        )


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str], place: str) -> None:
    if graph.sparse_initializer:
        raise ModelError(
            f"sparse initializer {graph.sparse_initializer[0].values.name!r} cannot be carried, "
            f"only dense ones\n  In {place}.\n  Store it densely; zeros can be packed again later."
        )
    constants = [tensor.name for tensor in graph.initializer]
    inputs = [value.name for value in graph.input]
    _refuse_twice(constants, "initializer", place)
    _refuse_twice(inputs, "input", place)
    start = list(dict.fromkeys([*inputs, *constants]))
    _check_names(graph.node, start, [value.name for value in graph.output], outer, place)


def _check_names(
    nodes: Iterable[onnx.NodeProto],
    start: list[str],
    outputs: list[str],
    outer: frozenset[str],
    place: str,
) -> None:
    nodes = list(nodes)
    produced = [*start, *(name for node in nodes for name in node.output if name)]
    _refuse_twice(produced, "value", place)
    known = outer.union(produced)
    for node in nodes:
        label = f"node {node.name!r} ({node.op_type})"
        missing = next((name for name in node.input if name and name not in known), None)
        if missing is not None:
            raise ModelError(
                f"{label} reads {missing!r}, which nothing produces\n"
                f"  In {place}.\n{_EXPORT_AGAIN}"
            )
        if any(one.HasField("sparse_tensor") or one.sparse_tensors for one in node.attribute):
            raise ModelError(
                f"{label} holds a sparse tensor, and only dense ones can be carried\n"
                f"  In {place}.\n  Store it densely; zeros can be packed again later."
            )
        for graph in subgraph_protos(node):
            _check_graph(graph, known, f"{place}, {label}")
    for name in outputs:
        if name not in known:
            raise ModelError(
                f"output {name!r} is produced by nothing\n  In {place}.\n{_EXPORT_AGAIN}"
            )


def _refuse_twice(names: list[str], kind: str, place: str) -> None:
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    raise ModelError(f"{kind} {twice!r} is defined twice\n  In {place}.\n{_EXPORT_AGAIN}")


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype == ir.DataType.UNDEFINED or min(tensor.dims, default=0) < 0:
        raise ModelError(
            f"tensor {tensor.name!r} has data type {tensor.data_type} and shape "
            f"{list(tensor.dims)}, which mean nothing\n  In {path}.\n{_EXPORT_AGAIN}"
        )
    location = external_location(tensor)
    if location is not None:
        if dtype == ir.DataType.STRING:
            raise ModelError(
                f"string tensor {tensor.name!r} has external data, which ONNX does not allow\n"
                f"  In {path}.\n{_EXPORT_AGAIN}"
            )
        _check_external(tensor, location, _bytes(tensor, dtype), path)
        return
    unit, held, needed = _contents(tensor, dtype)
    if held != needed:
        raise ModelError(
            f"tensor {tensor.name!r} holds {held} {unit}, and {dtype.name} "
            f"{list(tensor.dims)} needs {needed}\n  In {path}.\n{_EXPORT_AGAIN}"
        )


def _bytes(tensor: onnx.TensorProto, dtype: ir.DataType) -> int:
    return int(-(-math.prod(tensor.dims) * dtype.bitwidth // 8))


def _contents(tensor: onnx.TensorProto, dtype: ir.DataType) -> tuple[str, int, int]:
    """Unit, number held and number needed of what the tensor holds itself.

    In the typed fields a complex number takes two entries and narrow integers share one per byte.
    """
    size = math.prod(tensor.dims)
    if dtype == ir.DataType.STRING:
        return "strings", len(tensor.string_data), size
    if tensor.HasField("raw_data"):
        return "bytes", len(tensor.raw_data), _bytes(tensor, dtype)
    lists = (
        tensor.float_data,
        tensor.int32_data,
        tensor.int64_data,
        tensor.double_data,
        tensor.uint64_data,
    )
    held = sum(map(len, lists))
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        size *= 2
    return "values", held, _bytes(tensor, dtype) if dtype.bitwidth < 8 else size


def _check_external(tensor: onnx.TensorProto, location: str, needed: int, path: Path) -> None:
    what = f"external data of {tensor.name!r}"
    folder = path.resolve().parent
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise ModelError(
            f"{what} is at {location!r}, which is not a path inside the model's folder\n"
            f"  {path} asks for it. Data outside {folder} is never read: the file may be anyone's."
        )
    target = folder / location
    real = Path(os.path.realpath(target))  # of a circle of links: the link itself
    if not real.is_relative_to(folder):
        raise ModelError(
            f"{what} is at {location!r}, a link that leaves the model's folder\n"
            f"  It leads to {real}. Copy the data into {folder}."
        )
    if not target.is_file():
        raise ModelError(
            f"{what} is missing: there is no file {location!r} beside the model\n"
            f"  {path} asks for {target}. Put the data file there; it belongs to the model."
        )
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
    except ValueError:
        offset = length = -1
    size = target.stat().st_size
    if offset < 0 or length != needed or offset + needed > size:
        raise ModelError(
            f"{what} is bytes {entries.get('offset', 0)} to +{entries.get('length', needed)} of a "
            f"file of {size}, and its shape {list(tensor.dims)} needs {needed}\n"
            f"  The file is {target}. It may be cut short: copy or export it again."
        )
    if target.stat().st_nlink > 1:
        raise ModelError(
            f"{what} is at {location!r}, a file with several hard links\n"
            f"  It may belong to something else. Copy {target} to a file of its own."
        )
