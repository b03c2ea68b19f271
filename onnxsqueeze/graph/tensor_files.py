"""Files that hold one ONNX TensorProto, as in ONNX's own ``test_data_set_*`` folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from onnxsqueeze.errors import DataError


def read_tensor_file(path: Path) -> npt.NDArray[Any]:
    """Return the tensor in a serialized TensorProto; strings become an array of ``str``.

    Raises:
        DataError: If the file is no TensorProto, or its values do not fill its shape.
    """
    try:
        array = np.asarray(ir.from_proto(onnx.TensorProto.FromString(path.read_bytes())).numpy())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (DecodeError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} holds {path.stat().st_size} bytes that are no TensorProto: {error}\n"
            "  Write it with onnx.save_tensor(onnx.numpy_helper.from_array(array), path)."
        ) from error
    if array.dtype.kind in "OS":
        return np.char.decode(array.astype(np.bytes_), "utf-8").astype(object)
    return array
