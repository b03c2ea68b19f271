"""A case: a folder with a float model, calibration and evaluation samples, labels and a metric.

``DIR/CASE/{model.onnx, calib.npz, eval.npz, labels.npz, info.json}``. ``calib`` and ``eval`` hold
one array per model input, samples stacked on a new leading axis: sample i of input x is ``x[i]``.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FILES = ("model.onnx", "calib.npz", "eval.npz", "labels.npz", "info.json")
LOCAL_HEADER_BYTES = 30
"""Of a ZIP member, before its name and extra field, whose lengths are its last two words."""


class CaseError(Exception):
    """A case cannot be built or read; the message is for the user."""


@dataclass(frozen=True)
class Stored:
    """An array inside an uncompressed .npz, read one sample at a time."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Array:
        if not 0 <= index < len(self):
            raise IndexError(index)
        count = int(np.prod(self.shape[1:], dtype=np.int64))
        start = self.offset + index * count * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, count, offset=start).reshape(self.shape[1:])


def _stored(path: Path, member: zipfile.ZipInfo) -> Stored | None:
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(LOCAL_HEADER_BYTES)
        name_bytes, extra_bytes = struct.unpack("<HH", header[-4:])
        file.seek(name_bytes + extra_bytes, 1)
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = read[version](file)
        if fortran or not shape or dtype.hasobject:
            return None
        return Stored(path, file.tell(), dtype, shape)


@dataclass(frozen=True)
class Samples:
    """Feeds of an .npz, by index; of uncompressed arrays only the sample asked for is read."""

    arrays: Mapping[str, Stored | Array]

    def __len__(self) -> int:
        return min(map(len, self.arrays.values()))

    def __getitem__(self, index: int) -> dict[str, Array]:
        return {name: np.asarray(array[index]) for name, array in self.arrays.items()}

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self[index] for index in range(len(self)))


def read_samples(path: Path) -> Samples:
    """Return the samples of ``path`` without reading more than headers where that is possible."""
    arrays: dict[str, Stored | Array] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        is_stored = member.compress_type == zipfile.ZIP_STORED
        found = _stored(path, member) if is_stored else None
        name = member.filename.removesuffix(".npy")
        if found is None:
            with np.load(path, allow_pickle=False) as whole:
                arrays[name] = whole[name]
        else:
            arrays[name] = found
    return Samples(arrays)


@dataclass(frozen=True)
class Case:
    """One case; ``kind`` names the metric (see metrics.py), ``metric`` says it in words."""

    folder: Path
    kind: str
    metric: str

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    def labels(self) -> dict[str, Array]:
        with np.load(self.folder / "labels.npz", allow_pickle=False) as archive:
            return dict(archive)


def read_case(folder: Path) -> Case:
    """Return the case in ``folder``.

    Raises:
        CaseError: If a file of it is missing.
    """
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing:
        raise CaseError(
            f"{folder} is no case: {', '.join(missing)} missing\n"
            "  Build the cases with `tools/bench fetch`, or name their folder with --cases-from."
        )
    info = json.loads((folder / "info.json").read_text("utf-8"))
    return Case(folder, info["kind"], info["metric"])


def cases_in(folder: Path, names: list[str]) -> list[Case]:
    """Return the cases named, or every case under ``folder``, sorted by name.

    Raises:
        CaseError: If there is none, or one that was named is not there.
    """
    if names:
        return [read_case(folder / name) for name in names]
    found = sorted(path.parent for path in folder.glob("*/info.json"))
    if not found:
        raise CaseError(f"no case in {folder}\n  Build some with `tools/bench fetch`.")
    return [read_case(path) for path in found]


def write_case(
    folder: Path,
    model: Path,
    calibration: Mapping[str, Array],
    evaluation: Mapping[str, Array],
    labels: Mapping[str, Array],
    info: Mapping[str, str],
) -> None:
    """Write a case into ``folder``, which then is complete or not there at all."""
    scratch = folder.with_name(f".{folder.name}.part")
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "model.onnx").write_bytes(model.read_bytes())
    for name, arrays in (("calib", calibration), ("eval", evaluation), ("labels", labels)):
        np.savez(scratch / f"{name}.npz", **dict(arrays))
    (scratch / "info.json").write_text(json.dumps(dict(info)), "utf-8")
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    scratch.rename(folder)
