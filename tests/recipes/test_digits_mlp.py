"""The recipe runs from training to its table."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "tools" / "recipes" / "digits_mlp.py"
WAYS = ("float16", "pruned by taylor, quantized", "pruned by information, quantized")


def test_recipe_prunes_quantizes_and_compares(tmp_path: Path) -> None:
    for name in ("torch", "sklearn"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install 'onnxsqueeze[models]'")
    command = [sys.executable, RECIPE, "--epochs", "3", "--out", tmp_path / "mlp"]
    done = subprocess.run(
        [*command, "--ways", *WAYS], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = {line[:32].strip(): line[32:].split() for line in done.stdout.splitlines()[-4:]}
    assert list(lines) == ["float", *WAYS]
    sizes = {way: int(fields[0]) for way, fields in lines.items()}
    neurons = {way: int(fields[2]) for way, fields in lines.items()}
    # 784·128 + 128·10 weights and 138 biases, 4 or 2 bytes each, and the file's own words.
    assert sizes["float"] >= 4 * 101_770
    assert sizes["float16"] <= sizes["float"] - 2 * 101_632 + 4096
    assert neurons["float"] == neurons["float16"] == 128
    for way in WAYS[1:]:
        assert neurons[way] < 128
        assert sizes[way] < sizes["float16"]
        assert lines[way][-1] == "met"
