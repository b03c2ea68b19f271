"""Pruning as part of ``compress``: where it is asked for, replayed from the run folder, kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from onnxsqueeze import api
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import PlanError
from onnxsqueeze.graph import io
from onnxsqueeze.plan.types import Plan, UnitsChoice
from onnxsqueeze.search import pruning_time
from tests.measure.pruning import deep
from tests.runtime.made import made, random

BUDGET = Budget(max_drop=0.05)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in which half the units of each layer are 0 on every input, with samples."""
    folder = tmp_path_factory.mktemp("prune")
    w, v, b, c = random(6, 32), random(32, 32, seed=1), random(32, seed=2), random(32, seed=3)
    for weight, constant in ((w, b), (v, c)):
        weight[:, ::2], constant[::2] = 0, 0
    u, d = random(32, 4, seed=4), random(4, seed=5)
    io.write(made(deep(32), w=w, b=b, v=v, c=c, u=u, d=d), folder / "model.onnx")
    np.savez(folder / "x.npz", x=random(200, 50, 6, seed=6))
    return folder


def compressed(place: Path, limits: Limits, name: str, objective: str = "size") -> api.Compressed:
    return api.compress(
        place / "model.onnx",
        place / f"{name}.onnx",
        DataSettings(str(place / "x.npz")),
        budget=BUDGET,
        target=Target.model_validate({"objective": objective}),
        limits=limits,
        run=place / f"{name}.squeeze",
    )


def test_units_that_give_nothing_leave_the_file(place: Path) -> None:
    done = compressed(place, Limits(prune="on"), "on")
    assert done.is_met
    assert done.plan.units
    for choice in done.plan.units.values():
        assert 0 < len(choice.kept) < choice.count == 32
        assert choice.reason
    assert any(note.startswith("pruned: ") for note in done.report.notes)
    again = Plan.load(place / "on.squeeze" / "plan.json")
    assert again == done.plan


def test_the_same_call_finds_what_it_pruned(place: Path) -> None:
    first = compressed(place, Limits(prune="on"), "on")
    written = (place / "on.onnx").read_bytes()
    second = compressed(place, Limits(prune="on"), "on")
    assert second.plan.units == first.plan.units
    assert (place / "on.onnx").read_bytes() == written


@pytest.mark.parametrize("limits", [Limits(), Limits(prune="on", keep=(".*",))])
def test_nothing_goes_that_must_stay(place: Path, limits: Limits) -> None:
    done = compressed(place, limits, "kept")
    assert not done.plan.units


def test_balanced_prunes_where_it_is_quick_and_saves_enough(place: Path) -> None:
    assert compressed(place, Limits(), "balanced", "balanced").plan.units
    # A tenth of the multiply-adds at most goes with less than a fifth of the weights here.
    little = compressed(place, Limits(max_prune=0.1), "little", "balanced")
    assert not little.plan.units
    assert any("could go with them" in note for note in little.report.notes)
    assert compressed(place, Limits(max_prune=0.1), "asked", "latency").plan.units


def test_pruning_that_would_take_long_is_left_out_and_said(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning_time, "SECONDS", 0.0)
    done = compressed(place, Limits(), "long", "balanced")
    assert not done.plan.units
    assert any("--prune on" in note for note in done.report.notes)
    assert not any(
        "--prune on" in note for note in compressed(place, Limits(), "size").report.notes
    )


def carried_out(place: Path, plan: Plan, name: str, run: str) -> bytes:
    output = place / f"{name}.onnx"
    data = DataSettings(str(place / "x.npz"))
    api.carry_out(plan, place / "model.onnx", output, data, run=place / run)
    return output.read_bytes()


def test_a_plan_that_prunes_makes_the_same_file_again(place: Path) -> None:
    done = compressed(place, Limits(prune="on"), "on")
    expected = (place / "on.onnx").read_bytes()
    assert carried_out(place, done.plan, "same_folder", "on.squeeze") == expected
    assert carried_out(place, done.plan, "own_folder", "own.squeeze") == expected
    measured = api.measure(
        place / "model.onnx", DataSettings(str(place / "x.npz")), run=place / "own.squeeze"
    )
    made_here = api.apply(done.plan, measured).model
    names = {
        name: value.shape for name, value in io.read(place / "on.onnx").graph.initializers.items()
    }
    assert {name: value.shape for name, value in made_here.graph.initializers.items()} == names


def test_planning_prunes_as_compressing_does(place: Path) -> None:
    done = compressed(place, Limits(prune="on"), "on")
    data = DataSettings(str(place / "x.npz"))
    target, limits = Target(objective="size"), Limits(prune="on")
    measured = api.measure(place / "model.onnx", data, run=place / "plan.squeeze", target=target)
    trial = api.plan(measured, budget=BUDGET, target=target, limits=limits)
    assert trial is not None
    assert trial.plan == done.plan


def test_units_edited_by_hand_are_what_stays(place: Path) -> None:
    plan = compressed(place, Limits(prune="on"), "on").plan
    name, choice = next(iter(plan.units.items()))
    fewer = choice.model_copy(update={"kept": choice.kept[:-1]})
    edited = plan.model_copy(update={"units": {**plan.units, name: fewer}, "weights": {}})
    carried_out(place, edited, "edited", "on.squeeze")
    shapes = [v.shape for v in io.read(place / "edited.onnx").graph.initializers.values()]
    assert any(shape is not None and len(choice.kept) - 1 in shape.numpy() for shape in shapes)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [("other", 32, r"narrows the group 'other'.*no such group\n  It has: "), ("", 31, "31 units")],
)
def test_units_that_the_model_has_not_are_refused(
    place: Path, name: str, count: int, message: str
) -> None:
    plan = compressed(place, Limits(prune="on"), "on").plan
    unit = UnitsChoice(kept=(0,), count=count, reason="by hand")
    wrong = plan.model_copy(update={"units": {name or next(iter(plan.units)): unit}})
    with pytest.raises(PlanError, match=message):
        carried_out(place, wrong, "wrong", "on.squeeze")
    assert not (place / "wrong.onnx").exists()


@pytest.mark.parametrize("kept", [(), (1, 0), (0, 0), (0, 4)])
def test_kept_units_ascend_and_are_there(kept: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        UnitsChoice(kept=kept, count=4, reason="")


def test_a_plan_that_prunes_needs_its_samples(place: Path) -> None:
    plan = compressed(place, Limits(prune="on"), "on").plan
    with pytest.raises(PlanError, match=r"needs the samples.*\n  Give them"):
        api.carry_out(plan, place / "model.onnx", place / "other.onnx", run=place / "none.squeeze")
