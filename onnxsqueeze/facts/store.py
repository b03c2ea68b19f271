"""A folder of records by key: what was measured once for the same key is reused."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Key = Mapping[str, Any]


@dataclass(frozen=True)
class Fact:
    """One saved measurement: ``values`` is JSON data, ``arrays`` are read when asked for.

    ``name`` is the same for equal kinds and keys only.
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, Array]
    name: str


class Store:
    """Records in ``folder``, one sub-folder each; a record appears whole or not at all.

    Example:
        >>> import tempfile
        >>> store = Store(Path(tempfile.mkdtemp()))
        >>> key = {"model": "ab12", "samples": 4}
        >>> store.get("ranges", key) is None
        True
        >>> store.put("ranges", key, {"count": 3}, {"low": np.zeros(2)}).values["count"]
        3
        >>> store.get("ranges", key).arrays["low"].tolist()
        [0.0, 0.0]
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _place(self, kind: str, key: Key) -> Path:
        text = json.dumps(key, sort_keys=True)
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def get(self, kind: str, key: Key) -> Fact | None:
        """Return the record of this kind and key, or None if it is not there, or is cut off."""
        place = self._place(kind, key)
        if not (place / "record.json").is_file():
            return None
        arrays = place / "arrays.npz"
        # NumPy leaves a file open that it does not understand.
        if arrays.is_file() and not zipfile.is_zipfile(arrays):
            return None
        try:
            record = json.loads((place / "record.json").read_text(encoding="utf-8"))
            found = np.load(arrays) if arrays.is_file() else {}
            return Fact(record["values"], found, place.name)
        # A machine that lost power may leave a renamed folder with files that end early.
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def put(
        self,
        kind: str,
        key: Key,
        values: Mapping[str, Any],
        arrays: Mapping[str, Array] | None = None,
    ) -> Fact:
        """Save a record and return it; an older one of the same kind and key is replaced."""
        place = self._place(kind, key)
        part = place.with_name(place.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        if arrays:
            with (part / "arrays.npz").open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub means allow_pickle
        text = json.dumps({"key": dict(key), "values": dict(values)}, indent=1)
        (part / "record.json").write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        part.replace(place)
        saved = self.get(kind, key)
        assert saved is not None  # it was just moved into place
        return saved
