"""Reports on the command line: Markdown, JUnit, schema, differences, frontiers, hostile names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import onnx
import pytest

from tests.cli.place import Place, linear, run
from tests.report.fixture import HOSTILE
from tests.report.test_html import Page

SIZE = ("--data", "data.npz", "--max-drop", "5%", "--objective", "size")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return linear(tmp_path)


def compressed(*options: str) -> int:
    return run("compress", "model.onnx", "-o", "out/small.onnx", *SIZE, *options)


def cases(path: str) -> dict[str | None, str | None]:
    root = ET.parse(path).getroot()
    return {case.get("name"): case.findtext("failure") for case in root.iter("testcase")}


@pytest.mark.usefixtures("place")
def test_every_command_writes_what_keeps_to_the_printed_schema(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("report", "--schema") == 0
    schema = json.loads(capsys.readouterr().out)
    checker = jsonschema.Draft202012Validator(schema)
    assert compressed("--json") == 0
    checker.validate(json.loads(capsys.readouterr().out))
    for command in (
        ("inspect", "model.onnx"),
        ("validate", "model.onnx", "out/small.onnx", *SIZE[:2]),
        ("report", "out/small.squeeze"),
    ):
        assert run(*command, "--json") == 0
        checker.validate(json.loads(capsys.readouterr().out))


@pytest.mark.usefixtures("place")
def test_junit_of_compress_and_validate_tells_each_promise() -> None:
    assert compressed("--quiet", "--junit", "compress.xml") == 0
    promised = cases("compress.xml")
    assert {name for name, broken in promised.items() if name and broken is None} >= {
        "size",
        "budget, cpu",
        "placement, stored",
        "placement on cpu",
    }
    options = (*SIZE[:2], "--max-drop", "0", "--quiet", "--junit", "validate.xml")
    assert run("validate", "model.onnx", "out/small.onnx", *options) == 9
    broken = cases("validate.xml")["budget, cpu"]
    assert broken is not None
    assert "lost, 0% allowed; the pessimistic end decides" in broken


@pytest.mark.usefixtures("place")
def test_markdown_is_beside_the_report_and_written_again_on_demand() -> None:
    assert compressed("--quiet") == 0
    text = Path("out/small.squeeze/report.md").read_text("utf-8")
    assert "**budget met**" in text
    assert run("report", "out/small.squeeze", "--markdown", "again.md", "--junit", "b.xml") == 0
    assert Path("again.md").read_text("utf-8") == text
    assert cases("b.xml")["size"] is None


@pytest.mark.parametrize("option", ["--junit", "--html", "--markdown"])
def test_report_file_in_place_of_a_model_is_refused(
    place: Place, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = place.digests()
    command = ("validate", "model.onnx", "model.onnx", *SIZE[:2], option, "model.onnx")
    assert run(*command) == 10
    assert "is a model that is read" in capsys.readouterr().err
    assert place.digests() == before


@pytest.mark.usefixtures("place")
def test_report_without_source_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report") == 2
    assert "--schema" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_diff_of_models_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert compressed("--quiet") == 0
    assert run("diff", "model.onnx", "out/small.onnx", "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    by_name = {tensor["name"]: tensor for tensor in found["tensors"]}
    assert by_name["w1"]["after"]["parts"]
    assert by_name["w1"]["after"]["size_bytes"] < by_name["w1"]["before"]["size_bytes"]
    assert by_name["w1"]["sqnr_db"] > 0
    assert run("diff", "model.onnx", "out/small.onnx") == 0
    assert "FLOAT 64×6" in capsys.readouterr().out
    assert run("diff", "out/small.onnx", "out/small.onnx") == 0
    assert capsys.readouterr().out == "nothing differs\n"
    assert run("inspect", "model.onnx", "--quiet") == 0
    assert run("diff", "out/small.squeeze", "out/small.squeeze/report.json") == 0
    assert capsys.readouterr().out == "nothing differs\n"


@pytest.mark.usefixtures("place")
def test_diff_of_a_model_and_a_report_is_a_wrong_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("diff", "model.onnx", "report.json") == 2
    assert "two models or two reports" in capsys.readouterr().err
    assert run("diff", "model.onnx", "absent.onnx") == 3


def test_frontier_writes_a_model_per_budget_and_a_chart(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed("--frontier", "1%,5%", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["max_drop"] for point in found["points"]] == [0.01, 0.05]
    assert {path.name for path in (place.folder / "out").glob("*.onnx")} == {
        "small-1%.onnx",
        "small-5%.onnx",
    }
    assert compressed("--frontier", "1%,5%") == 0  # nothing is made again
    out = capsys.readouterr().out
    assert "2 budgets" in out
    assert "chart: out/small.squeeze/frontier.html" in out


@pytest.mark.usefixtures("place")
def test_frontier_by_number_goes_up_to_the_largest_drop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compressed("--frontier", "2", "--json") == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [point["max_drop"] for point in points] == [0.005, 0.05]


def test_frontier_without_a_budget_that_is_met_is_exit_9(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed("--frontier", "0%", "--json") == 9
    out, err = capsys.readouterr()
    assert [point["is_met"] for point in json.loads(out)["points"]] == [False]
    assert err.startswith("error: none of 1 budget is met\n")
    assert (place.folder / "out" / "small-0%.onnx").is_file()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("1", "1 points are not from 2 to 20"),
        ("1%,x", "is no number"),
        ("1%,200%", "not between"),
        ("0%,1e-9", "must differ"),
    ],
)
def test_frontier_that_cannot_be_is_a_wrong_command_line(
    value: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compressed("--frontier", value) == 2
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("place")
def test_frontier_and_junit_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert compressed("--frontier", "1%,2%", "--junit", "a.xml") == 2
    assert "--junit" in capsys.readouterr().err


BAD = f"{HOSTILE}[red]|`x`\x1b[2J"
SHOWN = BAD.replace("\x1b", "?")


def spoil(place: Place) -> None:
    """Give the model's weight, node and output names that are markup somewhere."""
    model = onnx.load(place.model)
    names = {name: name + BAD for name in ("w1", "w2", "y")}
    for named in (*model.graph.initializer, *model.graph.output, *model.graph.value_info):
        named.name = names.get(named.name, named.name)
    for k, node in enumerate(model.graph.node):
        node.name = f"{k}{BAD}"
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    onnx.save(model, place.model)


def test_hostile_names_stay_text_through_the_whole_command(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(place)
    assert compressed("--junit", "a.xml") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]" in out
    run_folder = Path("out/small.squeeze")
    page = Page((run_folder / "report.html").read_text("utf-8"))
    assert page.open == []
    assert "img" not in {tag for tag, _ in page.elements}
    assert "w1" + SHOWN in page.text
    markdown = (run_folder / "report.md").read_text("utf-8")
    assert "<img" not in markdown.replace("\\<img", "")
    assert "\x1b" not in markdown + Path("a.xml").read_text("utf-8")
    assert "img" not in {tag.tag for tag in ET.parse("a.xml").getroot().iter()}
    assert run("diff", "model.onnx", "out/small.onnx") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]" in out or "…" in out
    assert run("report", "out/small.squeeze", "--html", "b.html") == 0
    assert "\x1b" not in capsys.readouterr().out
