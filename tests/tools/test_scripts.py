"""The shell tools, with a stand-in for .venv that notes how it is called: no pip, no network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """#!/usr/bin/env bash
here=$(cd "$(dirname "$0")" && pwd)
echo "${@: -1}" >>"$here/calls"
exit "$(cat "$here/exit_code" 2>/dev/null || echo 0)"
"""
COMPRESS = """#!/usr/bin/env bash
mkdir -p out/digits_cnn.squeeze
[ "${@: -1}" = --no-report ] || echo report >out/digits_cnn.squeeze/report.html
[ "${@: -1}" != --fail ] || exit 9
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose .venv has a python that only notes its last argument."""
    root = tmp_path / "check out"
    bin_folder = root / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    shutil.copytree(ROOT / "tools", root / "tools")
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, text in (("python", PYTHON), ("onnxsqueeze", COMPRESS)):
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    return root


def installs(checkout: Path) -> list[str]:
    calls = checkout / ".venv" / "bin" / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [line.removeprefix(str(checkout)) for line in lines]


def ensure(checkout: Path, *extras: str) -> int:
    script = f"source tools/venv.sh && ensure_venv {' '.join(extras)}"
    return subprocess.run(["bash", "-c", script], cwd=checkout, check=False).returncode


def demo(checkout: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    command = [checkout / "tools" / "demo", *extra]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


def test_installs_once_and_for_each_new_extra(checkout: Path) -> None:
    for _ in range(2):
        assert ensure(checkout, "cpu", "test") == 0
    assert ensure(checkout, "cpu") == 0
    assert installs(checkout) == ["[cpu,test]"]
    assert ensure(checkout, "cpu", "models") == 0
    assert installs(checkout) == ["[cpu,test]", "[cpu,models]"]


def test_installs_again_when_pyproject_changed(checkout: Path) -> None:
    ensure(checkout, "cpu", "test")
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    ensure(checkout, "cpu")
    assert installs(checkout) == ["[cpu,test]", "[cpu]"]
    ensure(checkout, "cpu", "test")
    assert installs(checkout) == ["[cpu,test]", "[cpu]", "[cpu,test]"]


def test_failed_installation_is_tried_again(checkout: Path) -> None:
    exit_code = checkout / ".venv" / "bin" / "exit_code"
    exit_code.write_text("1")
    assert ensure(checkout, "cpu") == 1
    exit_code.unlink()
    assert ensure(checkout, "cpu") == 0
    assert installs(checkout) == ["[cpu]", "[cpu]"]


def test_demo_says_where_the_report_is(checkout: Path) -> None:
    done = demo(checkout)
    assert done.returncode == 0
    page = checkout / "out" / "digits_cnn.squeeze" / "report.html"
    assert f"report: {page}" in done.stderr
    assert page.exists()


def test_demo_without_a_report_of_its_own_fails(checkout: Path) -> None:
    page = checkout / "out" / "digits_cnn.squeeze" / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("of an earlier run")
    subprocess.run(["touch", "-d", "1 minute ago", page], check=True)
    done = demo(checkout, "--no-report")
    assert done.returncode == 1
    assert "wrote no report.html" in done.stderr


def test_demo_ends_with_the_exit_code_of_compress(checkout: Path) -> None:
    assert demo(checkout, "--fail").returncode == 9


@pytest.mark.parametrize("script", ["tools/test", "tools/check", "tools/demo", ".ci/run"])
def test_script_is_executable_and_parses(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
