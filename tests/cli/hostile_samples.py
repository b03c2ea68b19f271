"""Samples made to do harm, and code that a file or an option names, under ``--safe``."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import numpy as np

from tests.cli.case import COMPRESS, Case
from tests.cli.place import Place

WRITES = "from pathlib import Path\nPath('ran').touch()\n"
"""Leaves a file behind when it is imported, which the test would find."""


def _header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    made = io.BytesIO()
    fields = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(made, fields)
    return made.getvalue()


def _member(shape: tuple[int, ...], content: bytes = b"\0" * 1000) -> Callable[[Place], None]:
    def arrange(place: Place) -> None:
        with zipfile.ZipFile(place.data, "w") as archive:
            archive.writestr("x.npy", _header(shape) + content)

    return arrange


def _bomb(place: Place) -> None:
    """1.25 GB of zeros in 1.2 MB: it is what its header says, only that nobody samples so."""
    megabytes = 1200
    with (
        zipfile.ZipFile(place.data, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(_header((megabytes << 15, 1, 8)))
        for _ in range(megabytes):
            member.write(bytes(1 << 20))


def _bombs(place: Place) -> None:
    _bomb(place)
    folder = place.folder / "samples"
    folder.mkdir()
    place.data.rename(folder / "0.npz")


def _pickle(place: Place) -> None:
    """A pickle beside an array, that would write a file when it is read."""

    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (WRITES,)

    held = np.empty(1, object)
    held[0] = Runs()
    x = np.zeros((40, 1, 8), np.float32)
    np.savez(place.data, allow_pickle=True, x=x, labels=held)


def _code(place: Place) -> None:
    (place.folder / "evil.py").write_text(WRITES)


def _configured(place: Place) -> None:
    _code(place)
    (place.folder / "settings.toml").write_text('data = "evil:feeds"\n')


def _safe(name: str, *options: str) -> Case:
    return Case(name, 2, "--safe refuses", _code, (*COMPRESS, "--safe", *options))


SAFE_CONFIG = ("compress", "model.onnx", "-o", "out/small.onnx", "--safe", "--config")

CASES = [
    Case("2^40 samples declared", 5, r"cut off: .* needs 35184372088\d+", _member((2**40, 1, 8))),
    Case("shape that multiplies to 2^67", 5, "cut off", _member((2**32, 2**32, 8))),
    Case("shape below zero", 5, r"shape \[-1, 1, 8\], which means nothing", _member((-1, 1, 8))),
    Case("zip bomb", 5, r"would unpack to 1258\d+, more than samples do", _bomb),
    Case(
        "zip bomb in a folder",
        5,
        "would unpack to",
        _bombs,
        (*COMPRESS[:3], "samples", *COMPRESS[4:]),
    ),
    Case("pickle that runs", 5, "pickled Python objects", _pickle),
    Case(
        "samples are a device",
        5,
        "no samples at",
        arguments=(*COMPRESS[:3], "/dev/zero", *COMPRESS[4:]),
    ),
    _safe("samples by code", "--data", "evil:feeds"),
    _safe("evaluation by code", "--eval", "evil:feeds"),
    _safe("metric by code", "--metric", "evil:score"),
    _safe("option of a provider", "--provider-options", "cpu:plugin=evil.so"),
    Case(
        "samples by code in a file",
        2,
        "--safe refuses",
        _configured,
        (*SAFE_CONFIG, "settings.toml"),
    ),
    Case(
        "safe measure",
        2,
        "--safe refuses",
        _code,
        ("measure", "model.onnx", "--data", "evil:feeds", "--safe"),
    ),
    Case(
        "safe validate",
        2,
        "--safe refuses",
        _code,
        ("validate", "model.onnx", "model.onnx", "--metric", "evil:score", "--safe"),
    ),
]
