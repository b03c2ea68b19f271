from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxsqueeze.measure.grams import memory_plan
from onnxsqueeze.measure.memory import Needed, needed
from tests import models


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(0, 1500))
def test_a_plan_keeps_order_and_limit_and_could_not_have_gone_on(
    sizes: list[int], limit: int
) -> None:
    groups = memory_plan(sizes, limit)

    assert [index for group in groups for index in group] == list(range(len(sizes)))
    for group in groups:
        assert len(group) == 1 or sum(sizes[index] for index in group) <= limit
    for group, after in itertools.pairwise(groups):
        assert sum(sizes[index] for index in group) + sizes[after[0]] > limit


def test_sessions_and_rounding_take_turns() -> None:
    assert Needed(session=5, result=2, work=3, own=1).peak_bytes == 8
    assert Needed(session=5, result=2, work=9, own=1).peak_bytes == 10


def test_the_line_names_the_parts_and_what_is_free() -> None:
    one = Needed(session=3_200_000_000, result=600_000_000, work=10**9, own=300_000_000)

    expected = "needs about 4.1 GB of memory: model 3.2, result beside it 0.6"
    assert one.words() == expected
    assert one.words(20_000_000_000) == expected + "; there are 20.0 free"
    rounding = Needed(session=1, result=1, work=2_000_000_000, own=0)
    assert rounding.words() == "needs about 2.0 GB of memory: rounding 2.0"


@pytest.mark.parametrize("has_data", [False, True])
def test_what_is_needed_grows_with_the_model(tmp_path: Path, has_data: bool) -> None:
    small = needed(models.read(models.SHARED_WEIGHT, tmp_path), has_data=has_data)
    larger = needed(models.read(models.RESIDUAL, tmp_path), has_data=has_data)

    assert small.session == 4 * 4 * 4
    assert small.session < larger.session
    assert small.work < larger.work
