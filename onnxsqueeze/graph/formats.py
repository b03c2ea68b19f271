"""Files of other formats that models come in, told by how they begin."""

from __future__ import annotations

LONGEST_HEADER = 100_000_000
"""Bytes; a safetensors file begins with the length of its header."""

_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_BEGINNINGS = (
    (b"version https://git-lfs", 0, "a Git LFS pointer", "Fetch the file itself: git lfs pull"),
    (b"PK\x03\x04", 0, "a zip archive", "Export to ONNX first, from PyTorch: torch.onnx.export"),
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file", "Export to ONNX first, from Keras: model.export"),
    (b"TFL3", 4, "a TensorFlow Lite model", "Convert the original to ONNX: tf2onnx --tflite"),
    (_PICKLES, 0, "a Python pickle", "Export to ONNX first; a pickle is never opened here"),
    (b"\x93NUMPY", 0, "a NumPy array", "Give it as --data; the model comes first"),
)


def other_format(content: bytes) -> tuple[str, str] | None:
    """Return what a file is and what to do, where it begins as one of another format does.

    Source:
        The first bytes that PKZIP, HDF5, FlatBuffers (TensorFlow Lite), pickle (protocols 2 to 5),
        NumPy and Git LFS prescribe; safetensors: eight bytes of a length, and JSON.

    Example:
        >>> other_format(b"TFL3") is None, other_format(b"....TFL3")[0]
        (True, 'a TensorFlow Lite model')
    """
    for beginning, place, name, advice in _BEGINNINGS:
        if content.startswith(beginning, place):
            return name, advice
    header = int.from_bytes(content[:8], "little")
    if content[8:9] == b"{" and 2 <= header <= LONGEST_HEADER:
        return "a safetensors file: weights without a graph", "Export the whole model to ONNX"
    return None
