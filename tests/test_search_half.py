"""A search for a provider that computes in float16, with its trials run on this machine's CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxsqueeze import api, search, stages
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.search import Search
from onnxsqueeze.search.half import in_half
from tests.cli.place import network

CUDA = Target(provider="cuda", objective="latency")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Planned for CUDA; only its reference, and so every trial, is run on the CPU."""
    folder: Path = tmp_path_factory.mktemp("half")
    place = network(folder)
    data = DataSettings(str(place.data))
    measured = api.measure(place.model, data, run=folder / "run", target=CUDA)
    budget = Budget(max_drop=0.05)
    known = stages.reference_of(measured.loaded, budget, Target())
    return stages.search_in(measured, known, budget, CUDA, Limits(effort="quick", prune="off"))


def test_nothing_is_measured_for_qdq_and_none_is_planned(searched: Search) -> None:
    assert searched.facts.ranges == searched.facts.latencies == {}

    found = list(search.trials(searched))

    assert [one.plan.compute for one in found] == ["float16"]
    plan = found[0].plan
    assert not any(one.form in ("qdq", "dynamic") for one in plan.weights.values())
    assert plan.activations == {}
    notes = " ".join(plan.notes)
    assert "computes in float16" in notes
    assert "no integer kernels for cuda" in notes
    assert found[0].is_within(searched.budget)


def test_float16_that_costs_too_much_is_told(searched: Search) -> None:
    stored = search.smallest(searched)
    assert stored is not None
    strict = Search(**{**vars(searched), "budget": Budget(max_drop=0.0)})

    found = in_half(strict, stored)

    assert found.plan.compute == "float32"
    assert found.fidelity == stored.fidelity
    assert "float16 was tried, and drops up to " in found.plan.notes[-1]


@pytest.mark.parametrize(
    "target", [Target(objective="latency"), Target(provider="cuda", objective="size")]
)
def test_it_is_not_tried_where_it_gains_nothing(searched: Search, target: Target) -> None:
    stored = search.smallest(searched)
    assert stored is not None
    assert in_half(Search(**{**vars(searched), "target": target}), stored) is stored
