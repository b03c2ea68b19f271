"""Outcomes: which file is taken, what is fallen back to, and what is never written to."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from onnxsqueeze import api, stages
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import OutputError
from onnxsqueeze.facts.records import Interval, Validation
from onnxsqueeze.graph import io
from onnxsqueeze.outcome import Clock, Workshop, check_output, clear, default_run, install
from onnxsqueeze.plan.types import Plan, UnitsChoice, WeightChoice
from onnxsqueeze.progress import Progress
from onnxsqueeze.search import GIVEN_BACK, Search, Trial
from tests.cli.place import Place, linear
from tests.report import fixture
from tests.test_search import fidelity

MILD, HARD, FAST = "mild", "hard", "fast"
"""Plans by what their note says, so that a validation can be made up for each."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return linear(tmp_path)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    place = linear(tmp_path_factory.mktemp("workshop"))
    run = place.folder / "run"
    data = DataSettings(source=str(place.data))
    target = Target(objective="size")
    measured = api.measure(place.model, data, run=run, target=target)
    budget = Budget(max_drop=0.01)
    known = stages.reference_of(measured.loaded, budget, target)
    search = stages.search_in(measured, known, budget, target, Limits())
    return Workshop(search, measured.loaded, run, Clock(), None)


def plan(sha256: str, note: str) -> Plan:
    choice = WeightChoice(form="float16", bits=16, reason="a test")
    return Plan(
        model_sha256=sha256,
        weights={"w1": choice, "w2": choice},
        notes=(note,),
    )


def trial(sha256: str, note: str, level: int) -> Trial:
    return Trial(plan(sha256, note), fidelity(0.0), level)


def validation(drop: float = 0.0, size: float = 0.2, speed: float = 1.0) -> Validation:
    """A result of a part of the original's bytes, with a drop and a speedup."""
    latency = fixture.validation().latency[0]
    speedup = Interval(value=speed, low=speed, high=speed)
    return fixture.validation(
        fidelity=(fidelity(drop), fidelity(drop)),
        latency=(latency.model_copy(update={"speedup": speedup}),),
        original_bytes=1000,
        result_bytes=round(1000 * size),
    )


Found = Mapping[str, Validation]
Fake = Callable[[Found, list[tuple[str, int]], list[str]], list[str]]


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Fake search and validation; returns the notes of all plans in the order of measuring."""

    def install_fakes(
        found: Found, stored: list[tuple[str, int]], integer: list[str]
    ) -> list[str]:
        measured: list[str] = []
        rest = iter(stored)

        def trials(search: Search, _: Progress | None, *, mildness: int) -> Iterator[Trial]:
            name, level = next(rest, ("", 0))
            if name:
                assert level >= mildness
                for note in (*integer, name):
                    yield trial(search.facts.model_sha256, note, level)

        def validated(self: Workshop, path: Path, made: Plan) -> Validation:
            assert io.read(path).graph.outputs, self
            measured.append(made.notes[0])
            return found[made.notes[0]]

        monkeypatch.setattr("onnxsqueeze.outcome.trials", trials)
        monkeypatch.setattr(Workshop, "_validated", validated)
        return measured

    return install_fakes


UNCHANGED = "no form of any weight keeps to the budget"


def test_first_plan_within_the_budget_is_taken(workshop: Workshop, faked: Fake) -> None:
    measured = faked({HARD: validation(drop=0.01)}, [(HARD, 5)], [])
    made = workshop.outcome()
    assert (made.plan.notes, made.is_met, made.notes) == ((HARD,), True, ())
    assert measured == [HARD]
    assert io.size_bytes(made.path) < io.size_bytes(workshop.loaded.path)


def test_file_that_drops_too_much_gives_way_to_a_milder_plan(
    workshop: Workshop, faked: Fake
) -> None:
    found = {HARD: validation(drop=0.0101), MILD: validation()}
    measured = faked(found, [(HARD, 5), (MILD, 5 + GIVEN_BACK)], [])
    made = workshop.outcome()
    assert made.plan.notes == (MILD,)
    assert made.notes == ("a plan was given up: its file dropped up to 1.01% when measured",)
    assert measured == [HARD, MILD]


@pytest.mark.parametrize("size", [1.0, 1.001])
def test_file_that_is_no_smaller_is_refused(workshop: Workshop, faked: Fake, size: float) -> None:
    found = {HARD: validation(size=size), UNCHANGED: validation(size=0.99)}
    faked(found, [(HARD, 5)], [])
    made = workshop.outcome()
    assert (made.is_met, made.plan.notes) == (False, (UNCHANGED,))
    assert made.notes == (f"a plan was given up: its file has {round(1000 * size)} bytes",)


def test_without_any_plan_the_cleaned_original_is_taken(workshop: Workshop, faked: Fake) -> None:
    measured = faked({UNCHANGED: validation(size=0.99)}, [], [])
    made = workshop.outcome()
    assert (made.is_met, made.plan.weights, measured) == (False, {}, [UNCHANGED])
    assert made.applied is not None
    names = [
        [node.name for node in one.graph] for one in (made.applied.model, workshop.loaded.model)
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize("cleaned", [validation(size=1.001), validation(drop=0.011)])
def test_cleaned_original_that_is_larger_or_lossy_gives_way_to_the_original(
    workshop: Workshop, faked: Fake, cleaned: Validation
) -> None:
    measured = faked({UNCHANGED: cleaned}, [], [])
    made = workshop.outcome()
    assert (made.is_met, made.applied, len(measured)) == (False, None, 2)
    assert made.path.read_bytes() == workshop.loaded.path.read_bytes()


@pytest.mark.parametrize(
    ("objective", "speed", "size", "taken"),
    [
        ("balanced", 1.04, 0.3, FAST),
        ("balanced", 1.03, 0.3, HARD),  # too little to be told from noise
        ("balanced", 2.0, 0.301, HARD),  # too large for what balanced means
        ("latency", 2.0, 0.9, FAST),
        ("latency", 1.03, 0.1, HARD),
    ],
)
def test_integer_kernels_are_taken_where_they_are_clearly_faster(
    workshop: Workshop, faked: Fake, objective: str, speed: float, size: float, taken: str
) -> None:
    target = Target.model_validate({"objective": objective})
    workshop = replace(workshop, search=replace(workshop.search, target=target))
    found = {HARD: validation(), FAST: validation(speed=speed, size=size)}
    measured = faked(found, [(HARD, 5)], [FAST])
    assert workshop.outcome().plan.notes == (taken,)
    # Stored weights are not even searched for where they cannot be as fast.
    assert measured == ([FAST] if taken == FAST else [FAST, HARD])


def test_speed_is_compared_with_stored_weights_and_not_with_the_original(
    workshop: Workshop, faked: Fake
) -> None:
    target = Target(objective="latency")
    workshop = replace(workshop, search=replace(workshop.search, target=target))
    found = {HARD: validation(speed=0.5), FAST: validation(speed=0.6)}
    faked(found, [(HARD, 5)], [FAST])
    assert workshop.outcome().plan.notes == (FAST,)


def test_a_narrower_model_is_faster_by_itself(workshop: Workshop, faked: Fake) -> None:
    units = {"group": UnitsChoice(kept=(0,), count=2, reason="a test")}
    target = Target(objective="latency")
    workshop = replace(workshop, search=replace(workshop.search, target=target, units=units))
    found = {HARD: validation(speed=2.0), FAST: validation(speed=1.9)}
    measured = faked(found, [(HARD, 5)], [FAST])
    assert workshop.outcome().plan.notes == (HARD,)
    assert measured == [FAST, HARD]


@pytest.mark.parametrize("broken", [HARD, FAST])
def test_one_broken_file_of_two_leaves_the_other(
    workshop: Workshop, faked: Fake, broken: str
) -> None:
    found = {HARD: validation(), FAST: validation(), broken: validation(drop=0.5)}
    faked(found, [(HARD, 5)], [FAST])
    (kept,) = {HARD, FAST} - {broken}
    made = workshop.outcome()
    assert made.plan.notes == (kept,)
    assert made.is_met


# Files.


def test_install_moves_the_model_and_leaves_no_other_file(place: Place) -> None:
    output = place.folder / "out" / "small.onnx"
    output.write_bytes(b"an older result")
    content = place.model.read_bytes()
    install(place.model, output)
    assert [path.name for path in output.parent.iterdir()] == ["small.onnx"]
    assert output.read_bytes() == content


def test_install_copies_where_it_cannot_move(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_path, output = Path.replace, place.folder / "out" / "small.onnx"

    def other_device(self: Path, target: Path) -> Path:
        if self == place.model:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace_path(self, target)

    monkeypatch.setattr(Path, "replace", other_device)
    install(place.model, output)
    assert [path.name for path in output.parent.iterdir()] == ["small.onnx"]
    assert output.read_bytes() == place.model.read_bytes()


def test_install_replaces_a_link_and_not_what_it_leads_to(place: Place) -> None:
    output, elsewhere = place.folder / "out" / "small.onnx", place.folder / "other"
    elsewhere.write_bytes(b"precious")
    output.symlink_to(elsewhere)
    install(place.model, output)
    assert elsewhere.read_bytes() == b"precious"
    assert not output.is_symlink()


def test_install_into_a_missing_folder_is_an_error(place: Place) -> None:
    with pytest.raises(OutputError, match=r"small\.onnx cannot be written: No such file"):
        install(place.model, place.folder / "gone" / "small.onnx")


def test_original_with_external_weights_is_fallen_back_to_in_one_file(
    workshop: Workshop, faked: Fake
) -> None:
    path = workshop.loaded.path.with_name("external.onnx")
    io.write(io.read(workshop.loaded.path), path, external=True)
    workshop = replace(workshop, loaded=replace(workshop.loaded, path=path))
    faked({UNCHANGED: validation(size=1.001)}, [], [])
    made = workshop.outcome()
    assert made.applied is None
    weights = io.weight_bytes(io.read(path))
    assert io.weight_bytes(io.read(made.path)) == weights < made.path.stat().st_size


def test_install_keeps_external_weights_external(place: Place) -> None:
    made = place.folder / "made.onnx"
    io.write(io.read(place.model), made, external=True)
    output = place.folder / "out" / "small.onnx"
    install(made, output)
    assert {path.name for path in output.parent.iterdir()} == {"small.onnx", "small.onnx.data"}
    assert io.weight_bytes(io.read(output)) == io.weight_bytes(io.read(place.model))


def test_clear_removes_results_and_keeps_facts(tmp_path: Path) -> None:
    run = tmp_path / "a" / "run"
    clear(run)
    kept = [run / "facts" / "ranges", run / "plan.json", run / "report.json"]
    for path in [*kept, run / "result-0.onnx", run / "result-1.onnx.data"]:
        path.write_text("x")
    for half in (run / ".result-0.onnx.ab12", run / "facts" / ".clean-34.onnx.cd56"):
        half.mkdir()
        (half / "part").write_text("x")
    clear(run)
    assert {path for path in run.rglob("*") if path.is_file()} == set(kept)


def test_clear_of_what_cannot_be_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(OutputError, match=r"^the run folder .*run cannot be used: .*\n.*--run"):
        clear(tmp_path / "run")


def test_check_output_accepts_a_new_and_an_old_file(place: Place) -> None:
    output = place.folder / "out" / "small.onnx"
    data = DataSettings(source=str(place.data), labels=str(place.data))
    check_output(place.model, output, data)
    output.write_bytes(b"an older result")
    check_output(place.model, output, data)
    assert output.read_bytes() == b"an older result"


def link(place: Place) -> Path:
    path = place.folder / "link.onnx"
    if not path.exists():
        path.symlink_to(place.model)
    return path


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (lambda place: place.model, "is the model itself"),
        (link, "is the model itself"),
        (lambda place: place.folder / "out" / ".." / "model.onnx", "is the model itself"),
        (lambda place: place.data, "holds the samples or labels that are read"),
        (lambda place: place.folder / "out", "out is a folder\n  Name a file: -o .*small.onnx"),
        (lambda place: place.folder / "no" / "small.onnx", "no does not exist\n  Make it"),
    ],
)
def test_check_output_refuses(place: Place, named: Callable[[Place], Path], says: str) -> None:
    for role in ("source", "evaluation", "labels", "evaluation_labels"):
        data = replace(DataSettings(), **{role: str(place.data)})
        with pytest.raises(OutputError, match=says):
            check_output(place.model, named(place), data)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_check_output_refuses_a_locked_folder(place: Place) -> None:
    (place.folder / "out").chmod(0o555)
    with pytest.raises(OutputError, match="cannot be written to"):
        check_output(place.model, place.folder / "out" / "small.onnx")


def test_default_run_is_beside_the_output() -> None:
    assert default_run(Path("out/small.onnx")) == Path("out/small.squeeze")


def test_clock_sums_the_time_of_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 2.0, 10.0, 13.0, 20.0, 21.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    clock = Clock()
    with clock.stage("measure"):
        pass
    with pytest.raises(ValueError, match="broken"), clock.stage("search"):
        raise ValueError("broken")
    with clock.stage("measure"):
        pass
    assert clock.seconds == {"measure": 3.0, "search": 3.0}
