"""What pruning takes is told beforehand, and where it is too long the words say how to ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from onnxsqueeze.search.pruning_time import SECONDS, pruning_seconds, screening_seconds, too_long
from tests.measure.pruning import deep
from tests.runtime.made import made
from tests.test_search_pruning import searched


def test_wider_layers_take_more_than_their_multiply_adds(tmp_path: Path) -> None:
    narrow, wide = (
        pruning_seconds(searched(made(deep(width)), tmp_path, 0.01), 2) for width in (1024, 2048)
    )
    # 1024² and 2048² are most of the multiply-adds; ranking takes the third power of the width.
    assert narrow * 4 < wide < narrow * 8


def test_more_samples_take_longer(tmp_path: Path) -> None:
    search = searched(made(deep(32)), tmp_path, 0.01)
    fewer = replace(search, samples=search.samples.subset(range(10)))
    assert pruning_seconds(fewer, 2) < pruning_seconds(search, 2)


def test_telling_whether_it_pays_takes_less_than_doing_it(tmp_path: Path) -> None:
    search = searched(made(deep(32)), tmp_path, 0.01)
    assert 0 < screening_seconds(search) < pruning_seconds(search, 2)


def test_what_takes_long_is_said_with_how_to_ask_for_it() -> None:
    assert too_long(SECONDS) == ""
    words = too_long(2 * SECONDS)
    assert words.startswith("no channels, neurons or heads removed")
    assert "12 minutes" in words
    assert "--prune on" in words
