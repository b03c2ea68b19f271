"""The study of importance, on a shipped model with few samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from study.compare import ranks, spearman  # noqa: E402  (the path is set above)


def test_ranks_are_shared_by_equal_values() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]


def test_spearman_is_of_order_alone() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert spearman(a, -(a**3)) == pytest.approx(-1)
    assert spearman(a, np.ones(4)) == 0


def test_the_study_prints_one_table() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "tools" / "importance_study.py")),
            str(ROOT / "models" / "digits_mlp"),
            *("--samples", "12", "--held-out", "4", "--units", "2", "--looks", "2"),
            *("--parts", "0.5"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("**digits_mlp**")
    table = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {7}
    names = [line.split("|")[1].strip() for line in table[2:]]
    assert names[0] == "chance"
    assert {"obs", "taylor", "fisher", "information, neighbours"} <= set(names)
    assert names[-1] == "obs, one after another"
