"""As much of the sparsity asked for as keeps to the budget: with trials that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from onnxsqueeze.config import Limits
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.search import LEVELS, Search, Trial, at_level
from onnxsqueeze.search.sparse import STEPS, affordable
from tests.test_search import fidelity, searched

Seen = list[tuple[float, str]]
"""Sparsity of the weight, and order, of each trial."""


def asked(rows: int = 100, **limits: object) -> Search:
    search = searched(limits=Limits.model_validate({"sparsity": 0.5, **limits}))
    weights = tuple(one.model_copy(update={"rows": rows}) for one in search.facts.weights)
    return replace(search, facts=replace(search.facts, weights=weights))


@pytest.fixture
def trying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float, str], bool]], Seen]:
    """Make trials keep to the budget where a function of sparsity and order says so."""

    def install(is_within: Callable[[float, str], bool]) -> Seen:
        seen: Seen = []

        def trial(self: Search, plan: Plan, level: int, _: Progress | None = None) -> Trial:
            assert level == LEVELS - 1
            seen.append((plan.weights["w"].sparsity or 0.0, plan.order))
            drop = self.budget.max_drop * (1.0 if is_within(*seen[-1]) else 1.001)
            return Trial(plan, fidelity(drop), level)

        monkeypatch.setattr(Search, "trial", trial)
        return seen

    return install


def test_all_of_it_where_the_budget_allows_it(
    trying: Callable[[Callable[[float, str], bool]], Seen],
) -> None:
    seen = trying(lambda *_: True)
    found = affordable(asked())
    assert (found.share, found.order) == (1.0, "each")
    assert seen == [(0.5, "each")]


def test_in_the_order_of_the_graph_where_only_that_is_within(
    trying: Callable[[Callable[[float, str], bool]], Seen],
) -> None:
    seen = trying(lambda _, order: order == "sequential")
    found = affordable(asked())
    assert (found.share, found.order) == (1.0, "sequential")
    assert seen == [(0.5, "each"), (0.5, "sequential")]
    plan = at_level(found, 0)
    assert plan.order == "sequential"
    assert any("in the order of the graph" in note for note in plan.notes)


@pytest.mark.parametrize("most", [0.05, 0.2, 0.35, 0.45])
def test_less_where_all_of_it_is_too_much(
    trying: Callable[[Callable[[float, str], bool]], Seen], most: float
) -> None:
    seen = trying(lambda sparsity, _: sparsity <= most)
    found = affordable(asked())
    assert 0.5 * found.share == pytest.approx(most)
    assert len(seen) <= 2 + STEPS.bit_length()
    (note,) = [note for note in at_level(found, 0).notes if "was asked for" in note]
    assert f"{most:.1%} of the weights of products become zero" in note
    assert note.endswith("; more does not keep to the budget")


def test_none_where_nothing_is_within(
    trying: Callable[[Callable[[float, str], bool]], Seen],
) -> None:
    trying(lambda sparsity, _: sparsity == 0)
    found = affordable(asked())
    assert found.share == 0
    assert at_level(found, 0).weights["w"].sparsity is None


@pytest.mark.parametrize(("rows", "effort"), [(0, "standard"), (100, "quick")])
def test_quickly_or_without_inputs_each_weight_stays_by_itself(
    trying: Callable[[Callable[[float, str], bool]], Seen], rows: int, effort: str
) -> None:
    seen = trying(lambda *_: False)
    affordable(asked(rows, effort=effort))
    assert {order for _, order in seen} == {"each"}


def test_without_a_wish_nothing_is_tried(
    trying: Callable[[Callable[[float, str], bool]], Seen],
) -> None:
    seen = trying(lambda *_: False)
    search = searched()
    assert affordable(search) is search
    assert not seen
