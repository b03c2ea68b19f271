"""Killed at any moment, the same command goes on, and ends with the same bytes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.place import Place, network, run

KILLED = Path(__file__).with_name("killed.py")
OPTIONS = ("--data", "data.npz", "--max-drop", "5%", "--objective", "size", "--quiet")
COMMAND = ("compress", "model.onnx", "-o", "out/small.onnx", *OPTIONS)
AT_THE_END = 6
"""Moves after the last record: the result, the plan, the output, report.json, .html and .md."""
OLD = b"an older result"

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def killed(place: Place, before: int, seed: str = "0") -> int:
    """Run the command, killed before the given move; the return code, negative for a signal."""
    return subprocess.run(
        [sys.executable, str(KILLED), str(before), *COMMAND],
        cwd=place.folder,
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=False,
    ).returncode


def records(place: Place) -> set[str]:
    facts = place.folder / "out" / "small.squeeze" / "facts"
    names = {path.parent.name for path in facts.glob("*/record.json")}
    return {name for name in names if not name.endswith(".part")}


def new_place(folder: Path) -> Place:
    folder.mkdir()
    return network(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The result of a run that nothing interrupted."""
    place = new_place(tmp_path_factory.mktemp("resume") / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.folder)
        assert run(*COMMAND) == 0
    return (place.folder / "out" / "small.onnx").read_bytes()


def test_killed_between_any_two_records_it_goes_on(tmp_path: Path, whole: bytes) -> None:
    place = new_place(tmp_path / "killed")
    output = place.folder / "out" / "small.onnx"
    output.write_bytes(OLD)
    seen: set[str] = set()
    # Over the moves at the end, a run that is killed before this move has made new records.
    while killed(place, AT_THE_END + 2) != 0:
        assert records(place) > seen
        assert output.read_bytes() in (OLD, whole)
        seen = records(place)
    assert output.read_bytes() == whole


def test_killed_around_the_installation_the_output_is_old_or_whole(
    tmp_path: Path, whole: bytes
) -> None:
    place = new_place(tmp_path / "killed")
    output = place.folder / "out" / "small.onnx"
    folder = place.folder / "out" / "small.squeeze"
    assert killed(place, 1000) == 0  # so that all records are there
    output.write_bytes(OLD)
    for name in ("plan.json", "report.json", "report.html", "report.md"):
        (folder / name).unlink()
    for before in (1, AT_THE_END - 3, AT_THE_END - 2):
        assert killed(place, before) == -signal.SIGKILL
        assert {path.name for path in output.parent.iterdir()} == {output.name, folder.name}
        installed = before > AT_THE_END - 3
        assert output.read_bytes() == (whole if installed else OLD), before
        if not installed:
            assert not (folder / "report.json").exists()
    assert killed(place, AT_THE_END + 1, seed="1") == 0
    assert output.read_bytes() == whole
    left = {path.name for path in folder.iterdir()}
    assert left == {"facts", "plan.json", "report.json", "report.html", "report.md"}


def test_output_is_never_half_written(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = new_place(tmp_path / "watched")
    output = place.folder / "out" / "small.onnx"
    output.write_bytes(OLD)
    seen: set[str] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            seen.add(hashlib.sha256(output.read_bytes()).hexdigest())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        monkeypatch.chdir(place.folder)
        assert run(*COMMAND) == 0
    finally:
        is_over.set()
        watcher.join()
    assert hashlib.sha256(OLD).hexdigest() in seen
    assert seen <= {hashlib.sha256(content).hexdigest() for content in (OLD, whole)}


def test_result_depends_on_neither_folder_nor_hash_seed(tmp_path: Path, whole: bytes) -> None:
    place = new_place(tmp_path / "another folder")
    assert killed(place, 1000, seed="12345") == 0
    assert (place.folder / "out" / "small.onnx").read_bytes() == whole


def test_record_that_was_cut_off_is_measured_again(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = new_place(tmp_path / "cut")
    monkeypatch.chdir(place.folder)
    assert run(*COMMAND) == 0
    facts = place.folder / "out" / "small.squeeze" / "facts"
    for path in [*facts.glob("*/record.json"), *facts.glob("*/arrays.npz")]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (place.folder / "out" / "small.onnx").unlink()
    assert run(*COMMAND) == 0
    assert (place.folder / "out" / "small.onnx").read_bytes() == whole
