"""Scaled axes and learned rounding are kept where held-out samples are the better for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import pytest

from onnxsqueeze import api
from onnxsqueeze.config import Budget, Effort, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.learned import rounding
from onnxsqueeze.measure.fidelity import Reference
from onnxsqueeze.numerics.clipping import Ends
from onnxsqueeze.plan.grids import GridEnds
from onnxsqueeze.plan.types import ActivationChoice, Plan, ScalingChoice, WeightChoice
from onnxsqueeze.progress import Progress
from onnxsqueeze.search import Search, Trial, at_level
from onnxsqueeze.search import scalings as module
from onnxsqueeze.search.polished import MOST_WORK, learning, polished
from onnxsqueeze.search.scalings import Evening, evened, evening, helpful
from onnxsqueeze.stages import Measured
from tests.cli.place import network
from tests.test_search import fidelity

LEVEL = 12
SCALED = Evening({"x": ScalingChoice(steps=(8, 0), reason="tried")}, {"x": ("w",)}, {"x": {}})


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    place = network(tmp_path_factory.mktemp("scalings"))
    return api.measure(place.model, DataSettings(str(place.data)), run=place.folder / "run")


def searched(measured: Measured, effort: Effort = "standard") -> tuple[Search, Trial]:
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
    return search, Trial(at_level(search, LEVEL), fidelity(0.008), LEVEL)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[Plan]]:
    """Make a trial's drop depend on whether its plan is scaled, or its rounding learned."""

    def install(drop: float) -> list[Plan]:
        seen: list[Plan] = []

        def trial(_: Search, plan: Plan, level: int, __: Progress | None = None) -> Trial:
            seen.append(plan)
            learns = any(one.polish == "learned" for one in plan.weights.values())
            return Trial(plan, fidelity(drop if plan.scalings or learns else 0.008), level)

        monkeypatch.setattr(Search, "trial", trial)
        return seen

    return install


@pytest.fixture
def found_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "evening", lambda *_: SCALED)


@pytest.mark.usefixtures("found_scaling")
@pytest.mark.parametrize(("drop", "is_kept"), [(0.004, True), (0.008, False), (0.02, False)])
def test_scalings_are_kept_where_less_is_lost(
    measured: Measured,
    tried: Callable[[float], list[Plan]],
    drop: float,
    is_kept: bool,
) -> None:
    tried(drop)
    search, found = searched(measured)
    made = evened(search, found)
    assert (made is not found) == is_kept
    assert bool(made.plan.scalings) == is_kept
    assert (helpful(search, found.plan, LEVEL) == SCALED) == is_kept


@pytest.mark.usefixtures("found_scaling")
def test_what_is_scaled_already_is_not_tried_again(
    measured: Measured, tried: Callable[[float], list[Plan]]
) -> None:
    seen = tried(0.0)
    search, found = searched(measured)
    again = Trial(SCALED.on(found.plan), found.fidelity, LEVEL)
    assert evened(search, again) is again
    assert not seen


def test_quick_measures_nothing(measured: Measured) -> None:
    search, found = searched(measured, "quick")
    assert evening(search, found.plan) == Evening()
    assert helpful(search, found.plan, LEVEL) == Evening()


def plan_of(forms: Mapping[str, str], grids: Mapping[str, Ends] | None = None) -> Plan:
    return Plan(
        model_sha256="0" * 64,
        weights={
            name: WeightChoice.model_validate(
                {"form": form, "bits": 32 if form == "float" else 8, "axis": 0, "reason": "tried"}
            )
            for name, form in forms.items()
        },
        activations={
            name: ActivationChoice(low=low, high=high, reason="tried")
            for name, (low, high) in (grids or {}).items()
        },
    )


PUT_IN = Evening(
    {"x": ScalingChoice(steps=(8, 0), inserted=True, reason="tried")},
    {"x": ("a", "b")},
    {"x": {"x.scaled": GridEnds((-1.0, 1.0), "measured")}},
    {"x": "x.scaled"},
)


def test_a_product_is_put_in_only_where_all_its_readers_are_kernels() -> None:
    some = plan_of({"a": "dynamic", "b": "float"})
    assert PUT_IN.on(some) is some
    every = PUT_IN.on(plan_of({"a": "dynamic", "b": "dynamic"}))
    assert every.scalings == PUT_IN.scalings
    assert every.activations == {}


def test_the_grid_before_a_product_goes_to_what_is_behind_it() -> None:
    made = PUT_IN.on(plan_of({"a": "qdq", "b": "qdq"}, {"x": (-9.0, 9.0), "y": (0.0, 1.0)}))
    ends = {name: (one.low, one.high) for name, one in made.activations.items()}
    assert ends == {"x.scaled": (-1.0, 1.0), "y": (0.0, 1.0)}


def test_tensors_that_share_a_grid_share_the_wider_one() -> None:
    seen = {
        "r": GridEnds((0.0, 2.0), "measured"),
        "p": GridEnds((0.0, 3.0), "measured"),
        "t": GridEnds((-1.0, 1.0), "measured"),
    }
    even = Evening(SCALED.scalings, SCALED.readers, {"x": seen})
    made = even.on(plan_of({"w": "qdq"}, {"r": (0.0, 8.0), "p": (0.0, 8.0), "t": (-4.0, 4.0)}))
    ends = {name: (one.low, one.high) for name, one in made.activations.items()}
    assert ends == {"r": (0.0, 3.0), "p": (0.0, 3.0), "t": (-1.0, 1.0)}


@pytest.mark.skipif(not rounding.is_available(), reason="torch is not installed")
@pytest.mark.parametrize(("drop", "is_kept"), [(0.004, True), (0.008, False)])
def test_learned_rounding_is_kept_where_less_is_lost(
    measured: Measured,
    tried: Callable[[float], list[Plan]],
    drop: float,
    is_kept: bool,
) -> None:
    seen = tried(drop)
    search, found = searched(measured, "thorough")
    made = polished(search, found)
    assert len(seen) == 1
    assert (made is not found) == is_kept


def test_only_thorough_learns(measured: Measured, tried: Callable[[float], list[Plan]]) -> None:
    seen = tried(0.0)
    search, found = searched(measured)
    assert polished(search, found) is found
    assert not seen


def test_only_small_weights_of_few_bits_learn() -> None:
    def facts(name: str, features: int) -> WeightFacts:
        return WeightFacts(
            name=name, node="n", operator="Gemm", role="linear", shape=(10, features), axis=0,
            item_bytes=4, largest=1.0, not_finite=0, damage=0.1, rows=9,
        )  # fmt: skip

    plan = plan_of({"few": "stored", "large": "stored", "many": "stored", "near": "stored"})
    few: dict[str, object] = {"bits": 4, "rounding": "compensated"}
    updates: dict[str, dict[str, object]] = {
        "few": few,
        "large": few,
        "many": {"rounding": "compensated"},
        "near": {"bits": 4},
    }
    weights = {n: plan.weights[n].model_copy(update=one) for n, one in updates.items()}
    plan = plan.model_copy(update={"weights": weights})
    wide = int((MOST_WORK / 10) ** 0.5) + 1
    made = learning(plan, [facts(n, wide if n == "large" else 8) for n in weights])
    assert [n for n, one in made.weights.items() if one.polish == "learned"] == ["few"]
    assert learning(plan_of({"a": "float"}), []).weights == plan_of({"a": "float"}).weights


@pytest.mark.skipif(not rounding.is_available(), reason="torch is not installed")
def test_a_plan_with_learned_rounding_is_carried_out(measured: Measured) -> None:
    search, _ = searched(measured)
    plan = learning(at_level(search, 3), search.facts.weights)
    assert any(one.polish == "learned" for one in plan.weights.values())
    made = search.applied(plan)
    assert made.sqnr_db.keys() >= {n for n, one in plan.weights.items() if one.polish == "learned"}
