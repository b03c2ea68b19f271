"""Labels given beside the samples: an array, ``.npy``, ``.npz``, or a text file of lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxsqueeze.data.archive import npy_array, npz_arrays
from onnxsqueeze.data.reader import LABEL_NAMES, Array
from onnxsqueeze.errors import DataError


def read_labels(labels: str | Path | Array) -> Array:
    """Return the labels, one entry per sample on the first axis.

    An ``.npz`` holds one array of any name, or one named like a label. A text file's lines become
    integers where all of them are.

    Raises:
        DataError: If the file is missing, of another kind, or holds no labels.
    """
    if not isinstance(labels, str | Path):
        return _with_axis(np.asarray(labels), "the given labels")
    path = Path(labels)
    if not path.is_file():
        raise DataError(
            f"there are no labels at {path}\n  Give an .npy, .npz or .txt file, or an array."
        )
    if path.suffix == ".npy":
        found = npy_array(path).whole()
    elif path.suffix == ".npz":
        found = _from_npz(path)
    elif path.suffix == ".txt":
        found = _from_text(path)
    else:
        raise DataError(
            f"{path} has the suffix {path.suffix!r}, and labels are .npy, .npz or .txt\n"
            "  A .txt file has one label per line."
        )
    return _with_axis(found, str(path))


def _from_npz(path: Path) -> Array:
    arrays = npz_arrays(path, unpack=True)
    named = [name for name in arrays if name in LABEL_NAMES] if len(arrays) > 1 else list(arrays)
    if len(named) != 1:
        raise DataError(
            f"{path} holds {len(arrays)} arrays ({', '.join(map(repr, arrays))}), labels are one\n"
            f"  Keep one array, or name one of them {LABEL_NAMES[0]!r}."
        )
    return arrays[named[0]].whole()


def _from_text(path: Path) -> Array:
    try:
        lines = np.asarray(path.read_text(encoding="utf-8").split("\n"), np.str_)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error}") from error
    lines = np.char.strip(lines)
    filled = lines[: int(np.flatnonzero(lines != "").max(initial=-1)) + 1]
    try:
        return filled.astype(np.int64)
    except ValueError:
        return filled


def _with_axis(labels: Array, source: str) -> Array:
    if labels.ndim == 0:
        raise DataError(
            f"{source} hold one number, and one entry per sample is needed\n"
            "  Give an array whose first axis counts the samples."
        )
    return labels
