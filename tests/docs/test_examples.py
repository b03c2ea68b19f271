"""Every example of the documentation runs as it is printed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.place import linear
from tests.docs.blocks import Block, all_blocks

RUN = [block for block in all_blocks() if block.language in ("bash", "python")]
SHOWN = {"yaml", "text"}
"""Languages of what is not run here."""


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block in a folder that has a model and samples."""
    program = ["bash", "-euo", "pipefail"] if block.language == "bash" else [sys.executable]
    here = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*program, "-c", block.text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.page}:{block.line}")
def test_example_runs(block: Block, tmp_path: Path) -> None:
    for name in block.needs:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}, which is not installed")
    place = linear(tmp_path)
    place.data.rename(tmp_path / "samples.npz")
    if "validate" in block.text:
        small = tmp_path / "small.onnx"
        small.write_bytes(place.model.read_bytes())
    done = run(block, tmp_path)
    assert done.returncode == 0, done.stderr
    if block.page == "frameworks.md":  # what a recipe leaves is what compress takes
        check = Block(
            block.page, 0, "bash", "onnxsqueeze inspect model.onnx --data samples.npz", ()
        )
        done = run(check, tmp_path)
        assert done.returncode == 0, done.stderr


def test_every_block_is_run_or_known_not_to_be() -> None:
    assert {block.language for block in all_blocks()} <= {"bash", "python", *SHOWN}
    assert len(RUN) > 8
