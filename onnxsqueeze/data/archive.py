"""Arrays in ``.npz`` and ``.npy`` files, found by their headers and read a slice at a time."""

from __future__ import annotations

import math
import shutil
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from onnxsqueeze.data.reader import Array
from onnxsqueeze.data.spool import Spool
from onnxsqueeze.errors import DataError

_LOCAL_HEADER_BYTES = 30  # of a zip member, before its name; APPNOTE.TXT 4.3.7
_NAME_LENGTHS_AT = 26

BOMB_BYTES = 1 << 30
BOMB_RATIO = 200
"""An archive that unpacks to more than both of these is refused: samples do not pack so well."""


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, not read yet.

    Attributes:
        path: The file.
        offset: Where the values begin, or None inside a compressed archive.
        is_fortran: Whether the first axis varies fastest.
        kept_by: What keeps a temporary file alive.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int | None
    is_fortran: bool
    kept_by: Spool | None = None

    def read(self, key: int | slice) -> Array:
        """Return ``array[key]`` in memory; only that part of the file is read."""
        return np.array(self._mapped()[key])

    def whole(self) -> Array:
        """Return the whole array in memory."""
        return np.array(self._mapped())

    def _mapped(self) -> Array:
        assert self.offset is not None, "compressed members are unpacked first"
        order: Literal["F", "C"] = "F" if self.is_fortran else "C"
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        shape = self.shape or (1,)
        mapped: Array = np.memmap(self.path, self.dtype, "r", self.offset, shape, order)
        return mapped if self.shape else mapped.reshape(())


def npy_array(path: Path, kept_by: Spool | None = None) -> StoredArray:
    """Return the array of an ``.npy`` file; raises DataError if the file is none."""
    try:
        with path.open("rb") as file:
            dtype, shape, is_fortran, start = _npy_header(file, str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    array = StoredArray(path, dtype, shape, start, is_fortran, kept_by)
    _check_complete(array, str(path))
    return array


def npz_arrays(path: Path, *, unpack: bool) -> dict[str, StoredArray]:
    """Return the arrays of an ``.npz`` by name; no values are read.

    Args:
        path: The archive.
        unpack: Write compressed members to a temporary folder, one at a time, so that slices of
            them can be read without holding the array in memory.

    Raises:
        DataError: If the file is no archive of arrays, is damaged, holds pickled objects, or
            would unpack to more than its size or the free space allows.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            _check_unpacked(archive, path)
            members = [member for member in archive.infolist() if not member.is_dir()]
            found = [_member(archive, member, path, file) for member in members]
            if unpack:
                found = [
                    _unpacked(archive, member, array)
                    for member, array in zip(members, found, strict=True)
                ]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise DataError(
            f"{path} is no .npz archive, or a damaged one: {error}\n"
            f"  It has {path.stat().st_size} bytes.\n"
            "  Write it with numpy.savez(path, **{input name: array})."
        ) from error
    return {_name(member): array for member, array in zip(members, found, strict=True)}


def load_npz(path: Path) -> dict[str, Array]:
    """Return all arrays of an ``.npz`` in memory; pickled objects are refused."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            _check_unpacked(archive.zip, path)
            return {name: np.asarray(archive[name]) for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
        raise DataError(f"{path} is no .npz archive, or a damaged one: {error}") from error


def _check_unpacked(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive that is small, and enormous when it is unpacked.

    What a member says of its size is a limit: ``zipfile`` reads no more of it than that.
    """
    packed = path.stat().st_size
    members = [one for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]
    needed = sum(member.file_size for member in members)
    if needed > max(BOMB_BYTES, BOMB_RATIO * packed):
        raise DataError(
            f"{path} has {packed} bytes and would unpack to {needed}, more than samples do\n"
            "  It may be made to fill the disk. If it is yours, save it with numpy.savez, which\n"
            "  does not compress."
        )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if needed > free:
        raise DataError(
            f"{path} unpacks to {needed} bytes, and {tempfile.gettempdir()} has {free} free\n"
            "  Save it with numpy.savez, which does not compress, or set TMPDIR to a larger disk."
        )


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, file: IO[bytes]
) -> StoredArray:
    place = f"{_name(member)!r} of {path}"
    with archive.open(member) as stream:
        dtype, shape, is_fortran, start = _npy_header(stream, place)
    if member.compress_type != zipfile.ZIP_STORED:
        return StoredArray(path, dtype, shape, None, is_fortran)
    file.seek(member.header_offset + _NAME_LENGTHS_AT)
    lengths = sum(struct.unpack("<HH", file.read(4)))
    offset = member.header_offset + _LOCAL_HEADER_BYTES + lengths + start
    array = StoredArray(path, dtype, shape, offset, is_fortran)
    _check_complete(array, place)
    return array


def _unpacked(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, array: StoredArray
) -> StoredArray:
    if array.offset is not None:
        return array
    spool = Spool()
    path = spool.path / "array.npy"
    with archive.open(member) as stream, path.open("wb") as file:
        shutil.copyfileobj(stream, file)
    return npy_array(path, spool)


def _npy_header(stream: IO[bytes], place: str) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    except ValueError as error:
        raise DataError(
            f"{place} is no NumPy array: {error}\n  Write it with numpy.save or numpy.savez."
        ) from error
    if min(shape, default=0) < 0:
        raise DataError(
            f"{place} has shape {list(shape)}, which means nothing\n"
            "  Write it with numpy.save or numpy.savez."
        )
    if dtype.hasobject:
        raise DataError(
            f"{place} holds pickled Python objects ({dtype}), and only plain arrays are read\n"
            "  Unpickling can run any code. Save numbers or fixed-width text: array.astype(str)."
        )
    return dtype, shape, is_fortran, stream.tell()


def _check_complete(array: StoredArray, place: str) -> None:
    assert array.offset is not None
    needed = array.offset + math.prod(array.shape) * array.dtype.itemsize
    found = array.path.stat().st_size
    if found < needed:
        raise DataError(
            f"{place} is cut off: the file has {found} bytes, and its shape "
            f"{list(array.shape)} of {array.dtype} needs {needed}\n  Write or copy the file again."
        )
