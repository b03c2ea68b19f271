from __future__ import annotations

import json
import math

import pytest

from onnxsqueeze.errors import OutputError, SqueezeError
from onnxsqueeze.report.files import (
    load_json,
    save_all,
    save_html,
    save_json,
    save_junit,
    save_markdown,
)
from tests.report import fixture


@pytest.mark.parametrize("make", [fixture.compress, fixture.inspect, fixture.bare])
def test_report_survives_json(make, tmp_path):
    save_json(make(), tmp_path / "report.json")

    assert load_json(tmp_path / "report.json") == make()


def test_infinite_numbers_survive_json(tmp_path):
    rows = tuple(row.model_copy(update={"damage": math.inf}) for row in fixture.weights(1))
    save_json(fixture.compress(weights=rows), tmp_path / "report.json")

    assert load_json(tmp_path / "report.json").weights[0].damage == math.inf


@pytest.mark.parametrize("save", [save_json, save_html, save_markdown, save_junit])
def test_only_the_finished_file_is_there_and_an_older_one_is_replaced(save, tmp_path):
    path = tmp_path / "report"
    path.write_text("old")

    save(fixture.bare(), path)

    assert "old" not in path.read_text(encoding="utf-8")
    assert [found.name for found in tmp_path.iterdir()] == ["report"]
    path.with_name("fresh").touch()
    assert path.stat().st_mode == path.with_name("fresh").stat().st_mode


@pytest.mark.parametrize("save", [save_json, save_html, save_markdown, save_junit])
def test_missing_folder_is_an_output_error(save, tmp_path):
    with pytest.raises(OutputError, match=r"cannot be written to .*absent") as caught:
        save(fixture.bare(), tmp_path / "absent" / "report")

    assert "a folder that exists" in str(caught.value).splitlines()[1]


def test_folder_in_the_way_is_an_output_error_and_leaves_nothing(tmp_path):
    (tmp_path / "report").mkdir()

    with pytest.raises(OutputError, match="cannot be written to"):
        save_json(fixture.bare(), tmp_path / "report")

    assert [found.name for found in tmp_path.iterdir()] == ["report"]


def test_missing_report_says_how_to_make_one(tmp_path):
    with pytest.raises(SqueezeError, match=r"there is no report at .*absent\.json") as caught:
        load_json(tmp_path / "absent.json")

    assert "onnxsqueeze compress" in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"schema_number": 2}'], ids=repr
)
def test_what_is_no_report_is_refused(content, tmp_path):
    path = tmp_path / "report.json"
    path.write_bytes(content)

    with pytest.raises(SqueezeError, match="is not a valid report: "):
        load_json(path)


def test_mistake_is_named_with_its_place(tmp_path):
    path = tmp_path / "report.json"
    data = json.loads(fixture.compress().model_dump_json())
    data["weights"][3]["bits"] = "many"
    path.write_text(json.dumps(data))

    with pytest.raises(SqueezeError, match=r"weights\.3\.bits: ") as caught:
        load_json(path)

    assert "1 mistake(s) in all" in str(caught.value)


def test_folder_is_no_report(tmp_path):
    with pytest.raises(SqueezeError, match="cannot be read"):
        load_json(tmp_path)


def test_all_files_are_written_and_named_in_the_report(tmp_path):
    report = save_all(fixture.compress(), tmp_path)

    names = {"report.json", "report.html", "report.md"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert load_json(tmp_path / "report.json") == report
    assert report.files["model"] == "small.onnx"
    written = {report.files[kind] for kind in ("report", "numbers", "summary")}
    assert written == {str(tmp_path / name) for name in names}
