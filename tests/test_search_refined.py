"""Rounding in the order of the graph is kept where held-out samples are the better for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from onnxsqueeze import api
from onnxsqueeze.config import Budget, Effort, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.measure.fidelity import Reference
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.search import Search, Trial, at_level, better, smaller
from onnxsqueeze.search.refined import REACH, TRIALS
from onnxsqueeze.search.trial import LEVELS_PER_DECADE
from tests.cli.place import network
from tests.test_search import fidelity

FOUND = 30


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> api.Measured:
    place = network(tmp_path_factory.mktemp("refined"))
    return api.measure(place.model, DataSettings(str(place.data)), run=place.folder / "run")


Drop = Callable[[int, bool], float]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[[Drop], list[tuple[int, bool]]]:
    """Make a trial's drop a function of its level and of whether it is sequential."""

    def install(drop: Drop) -> list[tuple[int, bool]]:
        seen: list[tuple[int, bool]] = []

        def trial(_: Search, plan: Plan, level: int, __: Progress | None = None) -> Trial:
            is_sequential = plan.order == "sequential"
            seen.append((level, is_sequential))
            return Trial(plan, fidelity(drop(level, is_sequential)), level)

        monkeypatch.setattr(Search, "trial", trial)
        return seen

    return install


def searched(measured: api.Measured, effort: Effort = "standard") -> tuple[Search, Trial]:
    search = Search(
        measured.loaded.model,
        measured.facts,
        cast("Reference", None),
        Budget(max_drop=0.01),
        Target(),
        Limits(effort=effort),
        measured.store,
        measured.loaded.calibration,
    )
    return search, Trial(at_level(search, FOUND), fidelity(0.008), FOUND)


def test_no_gain_keeps_what_was_found(
    measured: api.Measured, tried: Callable[[Drop], list[tuple[int, bool]]]
) -> None:
    seen = tried(lambda *_: 0.008)
    search, found = searched(measured)
    assert smaller(search, found) is found
    assert better(search, found) is found
    assert seen == [(FOUND, True)] * 2


def test_quick_tries_nothing(
    measured: api.Measured, tried: Callable[[Drop], list[tuple[int, bool]]]
) -> None:
    seen = tried(lambda *_: 0.0)
    search, found = searched(measured, "quick")
    assert smaller(search, found) is found
    assert better(search, found) is found
    assert not seen


@pytest.mark.parametrize("last_within", [FOUND, FOUND - 1, FOUND - 3, FOUND - 7])
def test_gain_is_spent_on_smaller_levels_until_the_budget_is_used_up(
    measured: api.Measured,
    tried: Callable[[Drop], list[tuple[int, bool]]],
    last_within: int,
) -> None:
    # The drop is in proportion to the damage, and just within the budget at one level.
    seen = tried(lambda level, _: 0.00999 * 10 ** ((last_within - level) / LEVELS_PER_DECADE))
    search, found = searched(measured)
    made = smaller(search, replace(found, fidelity=fidelity(0.03)))
    assert made.level == last_within
    assert made.plan.order == "sequential"
    assert seen[:2] == [(FOUND, True), (min(last_within, FOUND - 1), True)]


@pytest.mark.parametrize("last_within", range(FOUND - 5, FOUND + 1))
def test_levels_between_one_within_and_one_that_is_not_are_halved(
    measured: api.Measured,
    tried: Callable[[Drop], list[tuple[int, bool]]],
    last_within: int,
) -> None:
    # No drop before the level that is the last: what is foretold is far beyond it.
    seen = tried(lambda level, _: 0.0 if level >= last_within else 0.02)
    search, found = searched(measured, "thorough")
    assert smaller(search, found).level == last_within
    assert len({level for level, _ in seen}) == len(seen)


@pytest.mark.parametrize("effort", ["standard", "thorough"])
def test_trials_are_bounded_by_the_effort(
    measured: api.Measured, tried: Callable[[Drop], list[tuple[int, bool]]], effort: Effort
) -> None:
    # Each trial leaves little: one level down, again and again.
    seen = tried(lambda level, _: 0.0075 - 1e-5 * (FOUND - level))
    search, found = searched(measured, effort)
    smaller(search, found)
    assert len(seen) == min(1 + TRIALS[effort], 1 + REACH)


def test_search_reaches_no_further_than_ten_decibels(
    measured: api.Measured, tried: Callable[[Drop], list[tuple[int, bool]]]
) -> None:
    seen = tried(lambda *_: 0.0)
    search, found = searched(measured)
    assert smaller(search, found).level == FOUND - REACH
    assert len(seen) == 2


def test_sequential_plan_is_carried_out_with_biases_that_keep_the_means(
    measured: api.Measured,
) -> None:
    search, found = searched(measured)
    plan = found.plan.model_copy(update={"order": "sequential"})
    before = {n: v.const_value for n, v in search.model.graph.initializers.items()}
    made = search.applied(plan)
    assert made.model is not search.model
    for name, tensor in before.items():  # the model itself stays as it is
        assert search.model.graph.initializers[name].const_value is tensor
    again = search.applied(plan)  # found in the store
    for name, value in made.model.graph.initializers.items():
        other = again.model.graph.initializers[name].const_value
        assert value.const_value is not None
        assert other is not None
        np.testing.assert_array_equal(value.const_value.numpy(), other.numpy())
