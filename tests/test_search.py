"""The search: bisections end at the best plan within the budget, or at the best so far."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze import api, search, stages
from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings, Samples
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.op_latency import IntegerLatency, OpKey, OpLatency
from onnxsqueeze.facts.records import Fidelity, Interval, Machine
from onnxsqueeze.facts.store import Store
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.measure.fidelity import Reference
from onnxsqueeze.plan.types import INTEGER_FORMS, IntegerForm, Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.search import GIVEN_BACK, LEVELS, MILDER, Search, Trial, smallest, with_integers
from tests.cli.place import Place, network
from tests.report.fixture import MACHINE

SMALL_DAMAGE = 1e-12  # under every limit but the last, which is 0
Tried = list[tuple[int, int]]
"""Level and number of integer kernels of each trial."""


def fidelity(drop: float) -> Fidelity:
    return Fidelity(
        metric="fake",
        provider="cpu",
        optimization="default",
        samples=1,
        original=1.0,
        result=1.0 - drop,
        drop=Interval(value=drop / 2, low=0.0, high=drop),
        sqnr_db={},
        scores_original=(),
        scores_result=(),
    )


def searched(damage: float = SMALL_DAMAGE, limits: Limits | None = None) -> Search:
    """A search over one weight; its trials are to be replaced."""
    weight = WeightFacts(
        name="w",
        node="n",
        operator="MatMul",
        role="linear",
        shape=(64, 64),
        axis=1,
        item_bytes=4,
        largest=1.0,
        not_finite=0,
        damage=damage,
        rows=0,
    )
    facts = Facts(
        model_sha256="0", data_sha256="1", shapes={}, weights=(weight,), left_alone={}, grams={}
    )
    nothing = cast("ir.Model", None), cast("Reference", None), cast("Store", None)
    model, reference, store = nothing
    samples = cast("Samples", None)
    return Search(model, facts, reference, Budget(), Target(), limits or Limits(), store, samples)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, int], bool]], Tried]:
    """Make trials keep to the budget where a function of level and integer kernels says so."""

    def install(is_within: Callable[[int, int], bool]) -> Tried:
        seen: Tried = []

        def trial(self: Search, plan: Plan, level: int, _: Progress | None = None) -> Trial:
            count = sum(choice.form in INTEGER_FORMS for choice in plan.weights.values())
            seen.append((level, count))
            drop = self.budget.max_drop * (1.0 if is_within(level, count) else 1.001)
            return Trial(plan, fidelity(drop), level)

        monkeypatch.setattr(Search, "trial", trial)
        return seen

    return install


@pytest.mark.parametrize("mildest_failing", [-1, 0, 1, 17, 47, 48, 49, 93, 94, 95])
def test_smallest_gives_levels_back_from_the_first_within_the_budget(
    tried: Callable[[Callable[[int, int], bool]], Tried], mildest_failing: int
) -> None:
    seen = tried(lambda level, _: level > mildest_failing)
    found = smallest(searched())
    assert found is not None
    last = mildest_failing + 1
    milder = last + GIVEN_BACK  # but for the last level, which damages nothing
    assert found.level == (milder if milder < LEVELS - 1 else last)
    assert len(seen) <= math.ceil(math.log2(LEVELS + 1)) + 1


def test_no_level_within_the_budget_is_none(
    tried: Callable[[Callable[[int, int], bool]], Tried],
) -> None:
    seen = tried(lambda *_: False)
    assert smallest(searched()) is None
    assert seen[-1][0] == LEVELS - 1


def test_levels_under_the_mildness_are_not_tried(
    tried: Callable[[Callable[[int, int], bool]], Tried],
) -> None:
    seen = tried(lambda *_: True)
    found = smallest(searched(), mildness=30)
    assert found is not None
    assert found.level == 30 + GIVEN_BACK
    assert min(level for level, _ in seen) == 30
    assert smallest(searched(), mildness=LEVELS) is None


def test_plan_that_changes_nothing_is_none(
    tried: Callable[[Callable[[int, int], bool]], Tried],
) -> None:
    tried(lambda level, _: level == LEVELS - 1)
    assert smallest(searched()) is None  # float16 cannot be had at no damage at all


def test_levels_get_milder_to_the_last_which_damages_nothing() -> None:
    made = searched(damage=1.0, limits=Limits(bits=(4, 8, 16)))
    forms = [search.at_level(made, level).weights["w"] for level in range(LEVELS)]
    bits = [choice.bits for choice in forms]
    assert bits == sorted(bits)
    assert set(bits) == {4, 8, 16, 32}
    little = searched(damage=SMALL_DAMAGE)
    assert search.at_level(little, LEVELS - 2).weights["w"].form == "stored"
    assert search.at_level(little, LEVELS - 1).weights["w"].form == "float"


def test_time_limit_ends_with_the_first_that_keeps_to_the_budget(
    tried: Callable[[Callable[[int, int], bool]], Tried],
) -> None:
    limits = Limits(time_limit_s=1e-9)
    seen = tried(lambda level, _: level > 10)
    found = smallest(searched(limits=limits))
    assert (found and found.level, len(seen)) == ((LEVELS - 1) // 2, 1)
    seen.clear()
    tried(lambda level, _: level > 80)  # nothing is good enough before the third trial
    found = smallest(searched(limits=limits))
    assert found is not None
    assert found.level == 85


def test_progress_ends_at_its_total(
    tried: Callable[[Callable[[int, int], bool]], Tried],
) -> None:
    tried(lambda *_: True)
    told: list[tuple[str, int, int]] = []
    smallest(searched(), lambda *step: told.append(step))
    assert all(done <= total for _, done, total in told)
    assert told[-1][1] == told[-1][2]


def noisy(value: float, high: float, low: float, **sqnr_db: float) -> Fidelity:
    drop = Interval(value=value, low=low, high=high)
    return fidelity(0.0).model_copy(update={"drop": drop, "sqnr_db": sqnr_db})


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (noisy(0.01, 0.02, 0.0, a=10.0), noisy(0.04, 0.06, 0.03, a=90.0), True),  # apart
        (noisy(0.04, 0.06, 0.03, a=90.0), noisy(0.01, 0.02, 0.0, a=10.0), False),
        # One decision in 60 samples is luck; the noise is not.
        (noisy(0.012, 0.04, 0.0, a=40.0), noisy(0.010, 0.03, 0.0, a=38.0), True),
        (noisy(0.010, 0.03, 0.0, a=38.0), noisy(0.012, 0.04, 0.0, a=40.0), False),
        (noisy(0.01, 0.03, 0.0, a=50.0, b=20.0), noisy(0.01, 0.03, 0.0, a=30.0, b=21.0), False),
        (noisy(0.01, 0.03, 0.0), noisy(0.02, 0.04, 0.0), True),  # nothing else is known
        (noisy(0.01, 0.03, 0.0, a=30.0), noisy(0.01, 0.03, 0.0, a=30.0), False),
    ],
)
def test_what_loses_less(one: Fidelity, other: Fidelity, expected: bool) -> None:
    assert search.trial.loses_less(one, other) is expected


# With integer kernels.


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> api.Measured:
    place = network(tmp_path_factory.mktemp("measured"))
    data = DataSettings(source=str(place.data))
    return api.measure(place.model, data, run=place.folder / "run", target=Target())


def latency(
    y: str, saved_ms: float, form: IntegerForm = "qdq", machine: Machine = MACHINE
) -> OpLatency:
    key = OpKey(op_type=y, attributes={}, shapes={}, provider="cpu", threads=1)
    return OpLatency(
        key=key,
        machine=machine,
        float_ms=(1.0 + saved_ms,),
        integers={
            form: IntegerLatency(
                ms=(1.0,),
                speedup=Interval(value=1.0 + saved_ms, low=1.0 + saved_ms, high=1.0 + saved_ms),
                fused=True,
            )
        },
    )


def integer_search(
    measured: api.Measured,
    limits: Limits | None = None,
    form: IntegerForm = "qdq",
    portable: bool = False,
) -> tuple[Search, Trial, list[str]]:
    """A search where every node pays in integers, later ones more; weights, best first."""
    candidates = integer_candidates(measured.loaded.model)
    ranked = [one.weight for one in reversed(candidates)]
    facts = measured.facts
    latencies = {one.y: latency(one.y, 0.1 + k, form) for k, one in enumerate(candidates)}
    changed = Facts(**{**vars(facts), "latencies": latencies})
    made = Search(
        measured.loaded.model,
        changed,
        cast("Reference", None),
        Budget(),
        Target(objective="latency", portable=portable),
        limits or Limits(),
        measured.store,
        measured.loaded.calibration,
    )
    stored = Trial(search.at_level(made, 24), fidelity(0.0), 24)
    return made, stored, ranked


def integers(trial: Trial) -> set[str]:
    return {name for name, choice in trial.plan.weights.items() if choice.form in INTEGER_FORMS}


@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_most_integer_kernels_within_the_budget(
    measured: api.Measured,
    tried: Callable[[Callable[[int, int], bool]], Tried],
    most: int,
) -> None:
    seen = tried(lambda _, count: count <= most)
    made, stored, ranked = integer_search(measured)
    assert len(ranked) == 3
    found = with_integers(made, stored, integer_candidates(measured.loaded.model))
    assert integers(found) == set(ranked[:most])
    assert (found is stored) == (most == 0)
    mild = [count for level, count in seen if level == stored.level + MILDER]
    assert mild[0] == 3  # all of them first, then by halves, and once in the graph's order
    assert len(mild) <= 4
    lower = [count for level, count in seen if level < stored.level]
    assert set(lower) <= {most}  # what is left is spent on fewer bytes of the same kernels


def test_what_kernels_leave_of_the_budget_is_spent_on_fewer_bytes(
    measured: api.Measured, tried: Callable[[Callable[[int, int], bool]], Tried]
) -> None:
    seen = tried(lambda level, _: level >= 27)
    made, stored, ranked = integer_search(measured)
    found = with_integers(made, stored, integer_candidates(measured.loaded.model))
    assert integers(found) == set(ranked)
    assert 27 <= found.level < stored.level + MILDER
    assert found.level == min(level for level, count in seen if level >= 27 and count == 3)
    same = search.at_level(made, found.level, ranked).weights
    assert {n: one.bits for n, one in found.plan.weights.items()} == {
        n: one.bits for n, one in same.items()
    }
    assert all(3 <= found.plan.weights[name].bits <= 8 for name in ranked)
    assert any(found.plan.weights[name].bits < 8 for name in ranked)


def test_codes_of_a_portable_plan_have_eight_bits(
    measured: api.Measured, tried: Callable[[Callable[[int, int], bool]], Tried]
) -> None:
    tried(lambda *_: True)
    made, stored, ranked = integer_search(measured, portable=True)
    found = with_integers(made, stored, integer_candidates(measured.loaded.model))
    assert {found.plan.weights[name].bits for name in ranked} == {8}


def test_the_mildest_level_is_not_passed(
    measured: api.Measured, tried: Callable[[Callable[[int, int], bool]], Tried]
) -> None:
    seen = tried(lambda *_: False)
    made, stored, _ = integer_search(measured)
    last = replace(stored, level=LEVELS - 2)
    assert with_integers(made, last, integer_candidates(measured.loaded.model)) is last
    assert {level for level, _ in seen} == {LEVELS - 2, LEVELS - 1}


def test_integer_weights_keep_pruning_and_rounding_of_the_plan(
    measured: api.Measured, tried: Callable[[Callable[[int, int], bool]], Tried]
) -> None:
    tried(lambda *_: True)
    made, stored, _ = integer_search(measured, Limits(prune_below=0.01))
    found = with_integers(made, stored, integer_candidates(measured.loaded.model))
    chosen = found.plan.weights
    assert {choice.prune_below for choice in chosen.values()} == {0.01}
    assert {choice.rounding for choice in chosen.values()} == {"compensated"}
    read = {one.x for one in integer_candidates(measured.loaded.model)}
    assert read <= set(found.plan.activations)


def test_kernels_over_grids_of_each_run_need_no_ranges(
    measured: api.Measured, tried: Callable[[Callable[[int, int], bool]], Tried]
) -> None:
    tried(lambda _, count: count <= 2)
    made, stored, ranked = integer_search(measured, form="dynamic")
    found = with_integers(made, stored, integer_candidates(measured.loaded.model))
    chosen = {name: found.plan.weights[name] for name in integers(found)}
    assert set(chosen) == set(ranked[:2])
    assert {choice.form for choice in chosen.values()} == {"dynamic"}
    assert {choice.rounding for choice in chosen.values()} == {"compensated"}
    assert found.plan.activations == {}


def test_a_portable_plan_has_no_grids_of_each_run(
    measured: api.Measured, tried: Callable[[Callable[[int, int], bool]], Tried]
) -> None:
    seen = tried(lambda *_: True)
    made, stored, _ = integer_search(measured, form="dynamic", portable=True)
    assert with_integers(made, stored, integer_candidates(measured.loaded.model)) is stored
    assert seen == []


def test_time_limit_ends_the_search_for_integer_kernels(
    measured: api.Measured, tried: Callable[[Callable[[int, int], bool]], Tried]
) -> None:
    seen = tried(lambda *_: True)
    made, stored, _ = integer_search(measured, Limits(time_limit_s=1e-9))
    assert with_integers(made, stored, integer_candidates(measured.loaded.model)) is stored
    assert seen == []


# Trials themselves.


def test_trial_is_measured_once_per_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place: Place = network(tmp_path)
    data = DataSettings(source=str(place.data))
    target = Target(objective="size")
    found = api.measure(place.model, data, run=tmp_path / "run", target=target)
    known = stages.reference_of(found.loaded, Budget(), target)
    made = stages.search_in(found, known, Budget(), target, Limits())
    plan = search.at_level(made, 12)
    first = made.trial(plan, 12)
    assert np.isfinite(first.fidelity.drop.high)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(search.trial, "fidelity_against", never)
    other_words = plan.model_copy(update={"notes": ("in other words",)})
    assert made.trial(other_words, 13).fidelity == first.fidelity
    with pytest.raises(AssertionError, match="measured again"):
        made.trial(search.at_level(made, 48), 48)
