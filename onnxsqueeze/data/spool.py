"""A temporary folder for samples that would not fit into memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxsqueeze.data.reader import Array


class Spool:
    """A new temporary folder; it is removed with this object, or at exit."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="onnxsqueeze-"))
        self._removal = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def write_feed(path: Path, feed: Mapping[str, Array]) -> None:
    """Write arrays as an uncompressed ``.npz``; unlike with ``np.savez``, any name will do."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in feed.items():
            stored = array.astype(np.str_) if array.dtype == object else array
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, stored, allow_pickle=False)
