"""Every command on a small model: what it writes, what it prints, and its exit code."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsqueeze import __version__
from onnxsqueeze.cli.commands import group
from onnxsqueeze.plan.types import Plan
from tests.cli.place import SAMPLES, Place, network, run
from tests.models import outputs

SIZE = ("--data", "data.npz", "--max-drop", "5%", "--objective", "size")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return network(tmp_path)


@dataclass(frozen=True)
class Finished:
    """A folder where ``compressed()`` ended well, and what it printed; only to be copied."""

    folder: Path
    shown: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder, shown = tmp_path_factory.mktemp("finished"), io.StringIO()
    network(folder)
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(shown):
        patched.chdir(folder)
        assert compressed() == 0
    return Finished(folder, shown.getvalue())


@pytest.fixture
def done(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place where ``compressed()`` has ended well."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def compressed(*options: str, output: str = "out/small.onnx") -> int:
    return run("compress", "model.onnx", "-o", output, *SIZE, *options)


def printed_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_compress_writes_model_plan_and_reports(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    before = place.digests()
    assert compressed("--json") == 0
    report = printed_json(capsys)
    written = {name for name in place.digests() if name.startswith("out/")}
    apart = {name for name in written if not name.startswith("out/small.squeeze/facts/")}
    folder = "out/small.squeeze"
    assert apart == {
        "out/small.onnx",
        f"{folder}/plan.json",
        f"{folder}/report.json",
        f"{folder}/report.html",
        f"{folder}/report.md",
    }
    assert {name: place.digests()[name] for name in before} == before
    assert report == json.loads((place.folder / folder / "report.json").read_text("utf-8"))
    size = (place.folder / "out" / "small.onnx").stat().st_size
    assert (report["verdict"], report["result"]["size_bytes"]) == ("met", size)
    assert report["validation"]["fidelity"][0]["drop"]["high"] <= report["max_drop"] == 0.05
    assert report["calibration_samples"] + report["evaluation_samples"] == SAMPLES
    command = "onnxsqueeze compress model.onnx -o out/small.onnx"
    assert report["command"] == " ".join((command, *SIZE, "--json"))
    assert {Path(file).is_file() for file in report["files"].values()} == {True}


@pytest.mark.usefixtures("place")
def test_quiet_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert compressed("--quiet") == 0
    same = ("--run", "out/small.squeeze", "--quiet")
    assert run("measure", "model.onnx", *SIZE[:2], "--objective", "size", *same) == 0
    assert run("plan", "model.onnx", *SIZE, *same) == 0
    plan = "out/small.squeeze/plan.json"
    assert run("apply", "model.onnx", plan, "-o", "out/b.onnx", *SIZE[:2], *same) == 0
    assert run("validate", "model.onnx", "out/b.onnx", *SIZE[:4], "--quiet") == 0
    assert run("inspect", "model.onnx", "--quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_stages_one_by_one_give_the_bytes_of_compress(
    done: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = ("--run", "stages")
    measured = ("measure", "model.onnx", *SIZE[:2], "--objective", "size", "--json")
    assert run(*measured, *run_folder) == 0
    summary = printed_json(capsys)
    assert summary["weights"] == summary["gram_matrices"] == 3
    assert (summary["run"], summary["activation_ranges"], summary["timed_nodes"]) == (
        "stages",
        0,
        0,
    )
    assert run("plan", "model.onnx", *SIZE, *run_folder, "--json") == 0
    assert printed_json(capsys)["plan"] == "stages/plan.json"
    applied = ("apply", "model.onnx", "stages/plan.json", "-o", "out/staged.onnx", *SIZE[:2])
    assert run(*applied, *run_folder, "--json") == 0
    report = printed_json(capsys)
    assert report["verdict"] == "none"
    assert report["files"] == {"model": "out/staged.onnx"}
    digests = done.digests()
    assert digests["out/staged.onnx"] == digests["out/small.onnx"]
    assert digests["stages/plan.json"] == digests["out/small.squeeze/plan.json"]


def test_plan_goes_where_it_is_asked_for(place: Place) -> None:
    assert run("plan", "model.onnx", *SIZE, "-o", "mine.json", "--quiet") == 0
    assert set(Plan.load(place.folder / "mine.json").weights) == {"w1", "w2", "w3"}
    assert not (place.folder / "model.squeeze" / "plan.json").exists()


def test_plan_without_a_way_to_keep_the_budget_is_exit_9(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("plan", "model.onnx", *SIZE[:2], "--objective", "size", "--max-drop", "0")
    assert run(*arguments) == 9
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no plan keeps to the budget of 0.00%\n")
    assert not list(place.folder.rglob("plan.json"))


def test_apply_without_samples_names_what_needs_them(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plan", "model.onnx", *SIZE, "--quiet") == 0
    assert run("apply", "model.onnx", "model.squeeze/plan.json", "-o", "out/small.onnx") == 4
    assert "that needs the samples it was made with" in capsys.readouterr().err
    assert not list((place.folder / "out").iterdir())


@pytest.mark.usefixtures("place")
def test_validate_of_a_model_against_itself_finds_no_difference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("validate", "model.onnx", "model.onnx", *SIZE[:2], "--max-drop", "0", "--json") == 0
    report = printed_json(capsys)
    assert report["verdict"] == "met"
    assert report["evaluation_samples"] == SAMPLES
    drops = [one["drop"] for one in report["validation"]["fidelity"]]
    assert drops == [{"value": 0.0, "low": 0.0, "high": 0.0}] * 2
    assert report["original"] == report["result"]
    assert "same size, drop 0% (budget 0%)" in report["headline"]
    run("validate", "model.onnx", "model.onnx", *SIZE[:2])
    assert "budget       met" in capsys.readouterr().out


def test_validate_with_a_result_over_the_budget_is_exit_9(
    done: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    page = done.folder / "page.html"
    options = (*SIZE[:2], "--max-drop", "0", "--html", "page.html")
    assert run("validate", "model.onnx", "out/small.onnx", *options, "--json") == 9
    assert printed_json(capsys)["verdict"] == "not met"
    assert page.read_text("utf-8").startswith("<!")


def test_inspect_tells_what_the_model_is(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "model.onnx", "--json", "--html", "page.html") == 0
    report = printed_json(capsys)
    assert report["original"]["operators"] == {
        "Conv": 2,
        "Relu": 2,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }
    # 32·3·3·3 weights at 12·12 places, 64·32·3·3 at 5·5, 6·64, and 64 means of 5·5.
    assert report["original"]["multiply_adds"] == 864 * 144 + 18432 * 25 + 384 + 64 * 25
    shapes = {row["name"]: row["shape"] for row in report["weights"]}
    assert shapes == {"w1": [32, 3, 3, 3], "w2": [64, 32, 3, 3], "w3": [6, 64]}
    assert (report["result"], report["verdict"]) == (None, "none")
    assert (place.folder / "page.html").stat().st_size > 1000
    assert {path.name for path in place.folder.iterdir()} == {
        "model.onnx",
        "data.npz",
        "out",
        "page.html",
    }


def test_report_shows_again_what_was_written(
    done: Place, finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("report", "out/small.squeeze", "--html", "again.html") == 0
    assert capsys.readouterr().out == finished.shown
    assert "drop" in finished.shown
    folder = done.folder / "out" / "small.squeeze"
    assert (done.folder / "again.html").read_bytes() == (folder / "report.html").read_bytes()
    assert run("report", "out/small.squeeze/report.json", "--json") == 0
    assert printed_json(capsys) == json.loads((folder / "report.json").read_text("utf-8"))


def test_config_sets_defaults_and_the_command_line_wins(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "settings.toml").write_text(
        'data = "data.npz"\nmax-drop = "4%"\n\n'
        '[compress]\nobjective = "size"\nportable = true\nkeep = ["w1"]\njson = true\n\n'
        "[validate]\nthreads = 2\n"
    )
    arguments = ("compress", "model.onnx", "-o", "out/small.onnx", "--config", "settings.toml")
    assert run(*arguments) == 0
    report = printed_json(capsys)
    assert report["max_drop"] == 0.04
    assert Path(report["data"]).name == "data.npz"
    forms = {row["name"]: row["form"] for row in report["weights"]}
    assert forms["w1"] == "float" != forms["w2"]
    plan = Plan.load(place.folder / "out" / "small.squeeze" / "plan.json")
    assert plan.portable
    assert run(*arguments, "--max-drop", "5%", "--keep", "w2") == 0
    report = printed_json(capsys)
    forms = {row["name"]: row["form"] for row in report["weights"]}
    assert report["max_drop"] == 0.05
    assert forms["w2"] == "float" != forms["w1"]


def test_inner_names_of_options_are_no_keys_of_a_config(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "settings.toml").write_text('source = "data.npz"\n')
    assert compressed("--config", "settings.toml") == 2
    err = capsys.readouterr().err
    assert "sets source, and 'compress' has no such option" in err
    assert {"data,", "eval,", "json,"} <= set(err.split())


@pytest.mark.usefixtures("place")
def test_traceback_is_shown_on_request() -> None:
    with pytest.raises(Exception, match="no file") as caught:
        run("--traceback", "inspect", "gone.onnx")
    assert type(caught.value).__name__ == "ModelError"


@pytest.mark.usefixtures("place")
def test_mistake_of_our_own_is_told_as_such(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("onnxsqueeze.api.inspect", broken)
    assert run("inspect", "model.onnx") == 70
    err = capsys.readouterr().err
    assert err.startswith("internal error: ZeroDivisionError: by zero\n")
    assert "--traceback" in err


def test_interrupt_says_that_the_same_command_goes_on(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxsqueeze.search.Search.trial", interrupted)
    assert compressed() == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(place.folder)
    assert compressed("--quiet") == 0


def test_nan_weights_are_left_alone_with_the_reason(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(place.model)
    tensor = next(one for one in model.graph.initializer if one.name == "w3")
    values = numpy_helper.to_array(tensor).copy()
    values[5, 0] = np.nan  # the sixth class is never a number; all others are as before
    tensor.CopyFrom(numpy_helper.from_array(values, "w3"))
    onnx.save(model, place.model)
    assert compressed("--json") == 0
    report = printed_json(capsys)
    reasons = {entry["subject"]: entry["reason"] for entry in report["left_alone"]}
    assert reasons["w3"] == "holds 1 NaN or infinite values, so it stays as it is"
    forms = {row["name"]: row["form"] for row in report["weights"]}
    assert forms["w3"] == "float" != forms["w2"]
    feed = {"x": np.load(place.data)["x"][0]}
    small = outputs(place.folder / "out" / "small.onnx", feed)["y"]
    assert np.isnan(small).tolist() == [[False] * 5 + [True]]


@pytest.mark.parametrize("name", [*sorted(group.commands), ""])
def test_help_is_exit_0(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*([name] if name else []), "--help") == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: onnxsqueeze")
    assert err == ""


def test_the_help_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert "\\b" not in out
    assert "\n    measure   run samples, keep what was seen in a run folder\n" in out


def test_every_command_is_in_the_help() -> None:
    assert sorted(group.commands) == [
        "apply",
        "completion",
        "compress",
        "diff",
        "doctor",
        "inspect",
        "measure",
        "plan",
        "report",
        "validate",
    ]


def test_module_runs_as_a_program(tmp_path: Path) -> None:
    def program(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "onnxsqueeze", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    code, text = program("--version")
    assert (code, text.splitlines()[0]) == (0, f"onnxsqueeze {__version__}")
    code, text = program("inspect", "gone.onnx")
    assert (code, text.splitlines()[0]) == (3, f"error: there is no file {tmp_path / 'gone.onnx'}")
