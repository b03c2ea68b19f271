"""Pruning as part of ``compress``: where it is asked for, replayed from the run folder, kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxsqueeze import api
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import PlanError
from onnxsqueeze.graph import io
from onnxsqueeze.plan.types import Plan
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


def compressed(place: Path, limits: Limits, name: str) -> api.Compressed:
    return api.compress(
        place / "model.onnx",
        place / f"{name}.onnx",
        DataSettings(str(place / "x.npz")),
        budget=BUDGET,
        target=Target(objective="size"),
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


def test_a_plan_that_prunes_is_not_carried_out_alone(place: Path) -> None:
    done = compressed(place, Limits(prune="on"), "on")
    with pytest.raises(PlanError, match=r"removes channels.*\n  Run compress"):
        api.carry_out(
            done.plan,
            place / "model.onnx",
            place / "other.onnx",
            DataSettings(str(place / "x.npz")),
            run=place / "on.squeeze",
        )
    assert not (place / "other.onnx").exists()
