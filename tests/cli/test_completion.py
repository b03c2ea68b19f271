"""Completion scripts, and what the program answers when a shell asks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.place import run

SHELLS = ("bash", "zsh", "fish")
CHECKS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


def asked(words: str, index: int) -> list[str]:
    """What bash gets for a half-written command line."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from onnxsqueeze.cli import main; sys.exit(main([]))"],
        env={
            "_ONNXSQUEEZE_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(index),
            "PATH": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", SHELLS)
def test_script_asks_the_program(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("completion", shell) == 0
    script = capsys.readouterr().out
    assert f"_ONNXSQUEEZE_COMPLETE={shell}_complete" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed, so its syntax is not checked")
    file = tmp_path / "script"
    file.write_text(script)
    subprocess.run([*CHECKS[shell], file], check=True)


def test_commands_are_completed() -> None:
    assert asked("onnxsqueeze com", 1) == ["completion", "compress"]


def test_options_and_their_values_are_completed() -> None:
    assert "--max-drop" in asked("onnxsqueeze compress m.onnx --max", 3)
    assert asked("onnxsqueeze compress m.onnx --objective la", 4) == ["latency"]


def test_an_unknown_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", "cmd") == 2
    assert "'cmd' is not one of" in capsys.readouterr().err
