"""Which integer kernels a search begins with, and in which order it gives them up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnxsqueeze import api, stages
from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.passes.apply import carried_out, rounded
from onnxsqueeze.passes.coverage import fallen_back
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import silent
from onnxsqueeze.search import Search, kernels
from onnxsqueeze.search.kernels import Base, base
from tests.analysis.test_saturation import EXACT, FASTER, SATURATING
from tests.cli.place import network
from tests.facts.test_kernels import kernels as facts_of


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> api.Measured:
    place = network(tmp_path_factory.mktemp("measured"))
    data = DataSettings(source=str(place.data))
    return api.measure(place.model, data, run=place.folder / "run", target=Target())


@pytest.fixture
def as_fast(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Say of every whole model how fast it is, instead of timing it."""

    def say(speedup: float) -> None:
        real = kernels.latency

        def latency(*arguments: Any, **keywords: Any) -> Any:
            found = real(*arguments, **{**keywords, "pairs": 3})
            interval = found.speedup.model_copy(update={"value": speedup})
            return found.model_copy(update={"speedup": interval})

        monkeypatch.setattr(kernels, "latency", latency)

    return say


def search(measured: api.Measured, *, paying: bool = True, **changes: Any) -> Search:
    """A search where every node's kernel is ten times as fast in integers, or as slow."""
    target = Target(objective="latency", **changes)
    latencies = {}
    for y, one in measured.facts.latencies.items():
        assert one.inside is not None
        integer_ms = one.inside.float_ms * (0.1 if paying else 10.0)
        times = dict.fromkeys(one.inside.integer_ms, integer_ms)
        inside = one.inside.model_copy(
            update={"integer_ms": times, "enter_ms": 0.0, "leave_ms": 0.0}
        )
        alone = {
            form: times.model_copy(
                update={"speedup": times.speedup.model_copy(update={"value": 0.5})}
            )
            for form, times in one.integers.items()
        }
        latencies[y] = one.model_copy(update={"inside": inside, "integers": alone})
    facts = replace(measured.facts, latencies=latencies)
    known = stages.reference_of(measured.loaded, Budget(), target)
    made = stages.search_in(measured, known, Budget(), target, Limits())
    return replace(made, facts=facts)


def found(made: Search) -> Base:
    return base(made, integer_candidates(made.model), silent)


def plan_of(one: Base, count: int) -> Plan:
    chosen = one.first(count)
    return Plan(
        model_sha256="",
        weights=chosen.weights,
        activations=chosen.activations,
        joined=chosen.joined,
    )


def test_every_leading_part_can_be_carried_out(
    measured: api.Measured, as_fast: Callable[[float], None]
) -> None:
    as_fast(2.0)
    made = search(measured)
    one = found(made)
    weights = {each.weight for each in integer_candidates(made.model) if not each.reason}
    assert set(one.ranked) == set(one.choices.weights) == weights
    assert one.choices.joined  # the pool between the last convolution and the product
    for count in range(len(one.ranked) + 1):
        plan = plan_of(one, count)
        assert plan.weights.keys() <= set(one.ranked[:count])
        result = carried_out(plan, made.model, rounded(plan, made.model, {}))
        assert fallen_back(plan, result) == {}
    assert "2.00 times as fast" in one.notes[-1]


def test_nothing_is_chosen_where_the_whole_is_no_faster(
    measured: api.Measured, as_fast: Callable[[float], None]
) -> None:
    as_fast(0.99)
    one = found(search(measured))
    assert (one.ranked, one.choices.weights) == ((), {})
    assert one.notes == ("no choice of integer kernels was faster as a whole",)


def test_nothing_is_tried_where_no_node_pays(measured: api.Measured) -> None:
    one = found(search(measured, paying=False))
    assert (one.ranked, one.choices.weights, one.notes) == ((), {}, ())


def test_what_damages_least_for_its_time_is_kept_longest(
    measured: api.Measured, as_fast: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_fast(2.0)
    made = search(measured)
    saved = kernels._saved(found(made).region, found(made).choices)
    order = sorted(saved)
    prices = {name: 10.0**k for k, name in enumerate(order)}

    def damage(*_: object, **__: object) -> dict[str, float]:
        return {name: prices[name] * max(saved[name], kernels.LEAST_SAVED_MS) for name in prices}

    monkeypatch.setattr(kernels, "integer_damage", damage)
    assert list(found(made).ranked) == order


def test_what_falls_back_is_left_float_and_named(
    measured: api.Measured, as_fast: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_fast(2.0)
    made = search(measured)
    lost = found(made).ranked[0]
    monkeypatch.setattr(kernels, "fallen_back", lambda *_: {lost: "it did not fuse"})
    one = found(made)
    assert lost not in one.ranked
    assert f"{lost}: it did not fuse" in one.notes


@pytest.mark.parametrize(
    ("rows", "codes", "portable"),
    [
        (EXACT, {("int8", False)}, False),
        (SATURATING, {("int8", True)}, False),
        (EXACT[:1], {("uint8", False)}, False),
        (EXACT, {("uint8", False)}, True),
    ],
)
def test_the_codes_are_those_of_the_target(
    measured: api.Measured,
    as_fast: Callable[[float], None],
    tmp_path: Path,
    rows: Any,
    codes: set[tuple[str, bool]],
    portable: bool,
) -> None:
    as_fast(2.0)
    file = tmp_path / "kernels.json"
    facts_of(*rows, speeds=FASTER).save(file)
    made = search(measured, kernels_file=str(file), portable=portable)
    latencies = {
        y: one.model_copy(
            update={
                "inside": one.inside.model_copy(
                    update={"integer_ms": {"uint8": one.inside.float_ms * 0.2,
                                           "int8": one.inside.float_ms * 0.1}}
                )
            }
        )
        for y, one in made.facts.latencies.items()
        if one.inside is not None
    }  # fmt: skip
    made = replace(made, facts=replace(made.facts, latencies=latencies))
    chosen = found(made).choices.weights
    assert {(one.codes, one.paired) for one in chosen.values()} == codes
