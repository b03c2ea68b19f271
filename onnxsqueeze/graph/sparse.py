"""Standard sparse initializers: dense in memory, since onnx_ir knows none; sparse in files.

An initializer of a model in memory is dense, and may be marked. Marked ones are written as
``SparseTensorProto`` with linear int64 indices, the only ones that onnx.checker accepts: a value
that is not zero takes 8 bytes more than itself, so that float32 gets smaller from two thirds zeros
on. Reading makes them dense and marks them again.

Source:
    ONNX IR specification, sparse tensors (SparseTensorProto, onnx.proto3).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from onnxsqueeze.errors import ModelError
from onnxsqueeze.graph import walk
from onnxsqueeze.graph.protos import graph_protos

Array = npt.NDArray[Any]

INDEX_BYTES = 8
LARGEST_BYTES = 1_900_000_000
"""All sparse initializers of a model together, when they are dense: a few bytes may ask for it."""
_MARK = "onnxsqueeze.sparse"


def mark(value: ir.Value) -> None:
    """Let an initializer be written as a sparse one."""
    value.meta[_MARK] = True


def marked(model: ir.Model) -> frozenset[str]:
    """Return the names of the initializers that are to be written as sparse ones."""
    return frozenset(
        str(value.name) for _, value in walk.initializers(model) if value.meta.get(_MARK)
    )


def sparsely(proto: onnx.ModelProto, names: frozenset[str]) -> onnx.ModelProto:
    """Write the named initializers of a model as sparse ones, in place; return the model.

    Those that would take no fewer bytes, or whose data lies in another file, stay dense.
    """
    for graph in graph_protos(proto.graph):
        dense = [tensor for tensor in graph.initializer if not _moved(graph, tensor, names)]
        if len(dense) < len(graph.initializer):
            del graph.initializer[:]
            graph.initializer.extend(dense)
    return proto


def _moved(graph: onnx.GraphProto, tensor: onnx.TensorProto, names: frozenset[str]) -> bool:
    """Add a named initializer to the sparse ones, if that takes fewer bytes."""
    if tensor.name not in names or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return False
    flat = numpy_helper.to_array(tensor).ravel()
    places = np.flatnonzero(flat)
    if not len(places) or len(places) * (flat.itemsize + INDEX_BYTES) >= flat.nbytes:
        return False
    graph.sparse_initializer.append(
        onnx.helper.make_sparse_tensor(
            numpy_helper.from_array(flat[places], tensor.name),
            numpy_helper.from_array(places.astype(np.int64)),
            list(tensor.dims),
        )
    )
    return True


def densely(proto: onnx.ModelProto, path: Path) -> frozenset[str]:
    """Make the sparse initializers of a model dense, in place; return their names.

    Args:
        proto: A model.
        path: Where it came from, for errors.

    Raises:
        ModelError: If one is malformed, or too large to be dense.
    """
    found: list[str] = []
    if not proto.HasField("graph"):
        return frozenset()
    _check_dense_bytes(proto, path)
    for graph in graph_protos(proto.graph):
        for one in graph.sparse_initializer:
            graph.initializer.append(_dense(one, path))
            found.append(one.values.name)
        del graph.sparse_initializer[:]
    return frozenset(found)


def _check_dense_bytes(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse many that are together too large; one that is so by itself has its own message."""
    found = [one for graph in graph_protos(proto.graph) for one in graph.sparse_initializer]
    sizes = [math.prod(one.dims) * 4 for one in found]  # most are float32
    needed = sum(size for size in sizes if size <= LARGEST_BYTES)
    if needed > LARGEST_BYTES:
        raise ModelError(
            f"{len(found)} sparse initializers need {needed} bytes when they are dense, and "
            f"{LARGEST_BYTES} are the most\n"
            f"  In {path}.\n  Export the model again, with dense initializers."
        )


def _dense(one: onnx.SparseTensorProto, path: Path) -> onnx.TensorProto:
    try:
        flat = _flat(one)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ModelError(
            f"sparse initializer {one.values.name!r} cannot be read: {error}\n"
            f"  In {path}.\n  Export the model again, with dense initializers."
        ) from error
    return numpy_helper.from_array(flat.reshape(tuple(one.dims)), one.values.name)


def _flat(one: onnx.SparseTensorProto) -> Array:
    """Return the dense values in a row; raises ValueError for what does not fit."""
    dims = tuple(one.dims)
    if onnx.TensorProto.EXTERNAL in (one.values.data_location, one.indices.data_location):
        raise ValueError("its data lies in another file, which is not read")
    values, places = numpy_helper.to_array(one.values), numpy_helper.to_array(one.indices)
    if min(dims, default=0) < 0 or math.prod(dims) * values.itemsize > LARGEST_BYTES:
        raise ValueError(f"shape {list(dims)} cannot be dense")
    if places.ndim == 2:
        if places.shape[1] != len(dims):
            raise ValueError(f"indices {list(places.shape)} are not for shape {list(dims)}")
        places = np.ravel_multi_index(tuple(places.T.astype(np.int64)), dims)
    if places.shape != values.shape or values.ndim != 1:
        raise ValueError(f"{values.size} values have {places.size} indices")
    if places.size and not 0 <= places.min() <= places.max() < math.prod(dims):
        raise ValueError(f"an index lies outside of shape {list(dims)}")
    flat = np.zeros(math.prod(dims), values.dtype)
    flat[places.astype(np.int64)] = values
    return flat
