"""What pruning takes is told beforehand, and where it is too long the words say how to ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from onnxsqueeze.config import Limits, Target
from onnxsqueeze.search import left_out, pruning_time
from onnxsqueeze.search.pruning_time import pruning_seconds
from tests.measure.pruning import deep
from tests.runtime.made import made
from tests.test_search_pruning import searched

BALANCED, LATENCY = Target(objective="balanced"), Target(objective="latency")


def test_wider_layers_take_more_than_their_multiply_adds(tmp_path: Path) -> None:
    narrow, wide = (
        pruning_seconds(searched(made(deep(width)), tmp_path, 0.01)) for width in (1024, 2048)
    )
    # 1024² and 2048² are most of the multiply-adds; ranking takes the third power of the width.
    assert narrow * 4 < wide < narrow * 8


def test_more_samples_take_longer(tmp_path: Path) -> None:
    search = searched(made(deep(32)), tmp_path, 0.01)
    fewer = replace(search, samples=search.samples.subset(range(10)))
    assert pruning_seconds(fewer) < pruning_seconds(search)


def test_what_is_quick_is_not_left_out(tmp_path: Path) -> None:
    search = replace(searched(made(deep(32)), tmp_path, 0.01), target=BALANCED)
    assert left_out(search) == ""


def test_what_takes_long_is_left_out_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = replace(searched(made(deep(32)), tmp_path, 0.01), target=BALANCED)
    monkeypatch.setattr(pruning_time, "SECONDS", pruning_seconds(search) / 2)
    words = left_out(search)
    assert words.startswith("no channels, neurons or heads removed")
    assert "--prune on" in words
    assert left_out(replace(search, target=LATENCY)) == ""
    assert left_out(replace(search, limits=Limits(prune="on"))) == ""
