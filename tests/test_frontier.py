"""Several budgets in one walk: what is written, shared, kept when interrupted, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnxsqueeze import api, frontier
from onnxsqueeze.config import Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import OutputError, SqueezeError
from onnxsqueeze.graph import io
from onnxsqueeze.report import frontier as record
from onnxsqueeze.report.files import load_json
from tests.cli.place import Place, linear

BUDGETS = (0.05, 0.002)
SIZE = Target(objective="size")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return linear(tmp_path)


def walked(place: Place, budgets: tuple[float, ...] = BUDGETS, target: Target = SIZE):
    return frontier.compress_for(
        place.model,
        place.folder / "out" / "small.onnx",
        DataSettings(source=str(place.data)),
        budgets=budgets,
        target=target,
    )


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The budgets that models were made for, as they were."""
    made: list[float] = []
    compress = api.compress

    def counted(*arguments, budget, **settings):
        made.append(budget.max_drop)
        return compress(*arguments, budget=budget, **settings)

    monkeypatch.setattr(api, "compress", counted)
    return made


def test_each_budget_has_a_model_within_it_and_a_report(place: Place) -> None:
    found = walked(place)
    out = place.folder / "out"
    assert [point.max_drop for point in found.points] == [0.002, 0.05]
    assert {path.name for path in out.glob("*.onnx")} == {"small-0.2%.onnx", "small-5%.onnx"}
    for point in found.points:
        path = Path(point.output)
        assert (point.size_bytes, point.sha256) == (path.stat().st_size, io.fingerprint(path))
        assert not point.is_met or point.drop.high <= point.max_drop
        report = load_json(Path(point.report) / "report.json")
        assert report.max_drop == point.max_drop
        assert {Path(file).is_file() for file in report.files.values()} == {True}
    sizes = [point.size_bytes for point in found.met]
    assert sizes == sorted(sizes, reverse=True)
    run = out / "small.squeeze"
    assert record.load(run / record.JSON) == found
    assert (run / record.PAGE).read_text("utf-8").startswith("<!DOCTYPE html>")


def test_walk_that_was_interrupted_keeps_what_it_has(
    place: Place, compressions: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = record.save

    def stopped(made: record.Frontier, folder: Path) -> None:
        save(made, folder)
        if made.points:
            raise KeyboardInterrupt

    monkeypatch.setattr(record, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        walked(place)
    monkeypatch.setattr(record, "save", save)
    run = place.folder / "out" / "small.squeeze"
    known = record.load(run / record.JSON)
    assert known is not None
    assert [point.max_drop for point in known.points] == [0.002]
    assert "1 of 2 budgets" in (run / record.PAGE).read_text("utf-8")
    found = walked(place)
    assert compressions == [0.002, 0.05]
    assert found.points[0] == known.points[0]


def test_same_call_makes_nothing_again_and_a_new_budget_only_itself(
    place: Place, compressions: list[float]
) -> None:
    first = walked(place)
    assert walked(place) == first
    more = walked(place, (*BUDGETS, 0.01))
    assert compressions == [0.002, 0.05, 0.01]
    assert [point.max_drop for point in more.points] == [0.002, 0.01, 0.05]


def test_spoiled_file_or_other_settings_are_made_again(
    place: Place, compressions: list[float]
) -> None:
    first = walked(place)
    Path(first.points[1].output).write_bytes(b"spoiled")
    walked(place)
    assert compressions == [0.002, 0.05, 0.05]
    walked(place, target=SIZE.model_copy(update={"portable": True}))
    assert compressions[3:] == [0.002, 0.05]


def test_output_that_cannot_be_written_is_refused_before_any_work(
    place: Place, compressions: list[float]
) -> None:
    (place.folder / "out" / "small-5%.onnx").mkdir()
    with pytest.raises(OutputError, match=r"small-5%\.onnx is a folder"):
        walked(place)
    assert compressions == []
    assert not (place.folder / "out" / "small.squeeze").exists()


def test_malformed_record_is_told(place: Place) -> None:
    run = place.folder / "out" / "small.squeeze"
    run.mkdir()
    (run / record.JSON).write_text(json.dumps({"points": 1}))
    with pytest.raises(SqueezeError, match="is not a valid frontier"):
        walked(place)


def test_budgets_that_share_a_name_are_refused(place: Place) -> None:
    with pytest.raises(ValueError, match="must differ"):
        walked(place, (0.01, 0.01 + 1e-9))


@pytest.mark.parametrize(
    ("count", "largest", "names"),
    [(2, 0.01, ["0.1%", "1%"]), (1, 0.01, ["1%"]), (3, 0.1, ["1%", "3.16%", "10%"])],
)
def test_budgets_by_their_number_end_at_the_largest(
    count: int, largest: float, names: list[str]
) -> None:
    assert [frontier.percent(one) for one in frontier.spread(count, largest)] == names
