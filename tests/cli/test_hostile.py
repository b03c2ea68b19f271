"""Hostile input: one clear error, its exit code, nothing run, nothing written, nothing read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import onnx
import pytest

from tests.cli import hostile_models, hostile_samples, test_bad_input
from tests.cli.case import Case
from tests.cli.place import linear, run

CASES = [*hostile_models.CASES, *hostile_samples.CASES]
MOST_BYTES = 64 << 20
"""Of Python's and NumPy's memory: far over what the tiny model takes, far under any bomb."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_input(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tracemalloc.start()
    try:
        test_bad_input.test_bad_input(case, tmp_path, monkeypatch, capfd)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES
    assert not (tmp_path / "ran").exists()


def test_names_do_not_reach_the_terminal_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = linear(tmp_path)
    monkeypatch.chdir(tmp_path)
    model = onnx.load(place.model)
    hostile_models.renamed(model, hostile_models.ANSI)
    onnx.save(model, place.model)
    assert run("inspect", "model.onnx") == 0
    model.graph.node[1].op_type = hostile_models.ANSI  # the engine's message names it
    onnx.save(model, place.model)
    assert run("inspect", "model.onnx") == 3
    shown = "".join(capfd.readouterr())
    assert "owned" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b"}


def test_code_runs_without_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What --safe protects from: the same command without it imports the module."""
    linear(tmp_path)
    (tmp_path / "evil.py").write_text(hostile_samples.WRITES)
    monkeypatch.chdir(tmp_path)
    assert run("measure", "model.onnx", "--data", "evil:feeds") == 5  # it has no such function
    assert (tmp_path / "ran").exists()


def test_a_file_that_is_named_like_code_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = linear(tmp_path)
    monkeypatch.chdir(tmp_path)
    place.data.rename(tmp_path / "evil:feeds")
    code = run("measure", "model.onnx", "--data", "evil:feeds", "--safe", "--quiet")
    assert code in (0, 5)  # it may be told by its suffix that it is no archive
    assert not (tmp_path / "ran").exists()


def test_every_kind_is_named_once() -> None:
    names = [case.name for case in [*CASES, *test_bad_input.CASES]]
    assert len(set(names)) == len(names)
