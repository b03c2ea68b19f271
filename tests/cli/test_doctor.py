from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from onnxsqueeze.cli import options
from onnxsqueeze.config import Target
from onnxsqueeze.errors import DataError
from onnxsqueeze.facts.kernels import Kernels
from onnxsqueeze.measure import kernels as measured
from onnxsqueeze.measure import machine as machines
from onnxsqueeze.measure.kernel_cases import EXACT_CASES, SPEED_CASES
from onnxsqueeze.measure.machine import machine
from tests.cli.place import run


@pytest.fixture
def probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """A short probe of this machine, in a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = machine()
    made = measured.probe(here, cases=EXACT_CASES[3:5], timed=SPEED_CASES[-2:], pairs=3)
    place = measured.cache_file(here)
    place.parent.mkdir()
    made.save(place)
    return made


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return found


def test_json_holds_what_is_there(probed: Kernels, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == 0
    found = printed(capsys)
    assert found["engine"] == onnxruntime.__version__
    assert Kernels.model_validate(found["kernels"]) == probed
    assert found["machine"] == machine().model_dump(mode="json")
    assert [one["name"] for one in found["providers"]] == list(machine().providers)
    states = {one["name"]: one["state"] for one in found["providers"]}
    assert states["CPUExecutionProvider"] == "works"
    assert states.get("AzureExecutionProvider", "idle") == "idle"  # it has no kernels
    packages = {one["name"]: one for one in found["packages"]}
    assert set(packages) == {"onnxruntime", "onnxruntime-gpu", "torch", "pillow"}
    assert packages["onnxruntime"]["install"] == "pip install 'onnxsqueeze[cpu]'"
    assert set(found["versions"]) >= {"onnxsqueeze", "onnx", "onnx-ir", "numpy", "python"}


@pytest.mark.usefixtures("probed")
def test_tables_show_every_product(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert f"ONNX Runtime {onnxruntime.__version__}" in out
    for words in ("Optional packages", "Execution providers", "Integer kernels", "ran a MatMul"):
        assert words in out
    (depthwise,) = (line for line in out.splitlines() if line.startswith("Conv 3x3 depthwise"))
    assert depthwise.split()[-3:] == ["exact"] * 3
    (sized,) = (line for line in out.splitlines() if "rows 128, k 768, n 3072" in line)
    assert sized.count("×") == 3


def test_facts_are_written_for_another_place(probed: Kernels) -> None:
    assert run("doctor", "--json", "-o", "facts.json") == 0
    assert Kernels.load(Path("facts.json")) == probed


@pytest.mark.usefixtures("probed")
def test_facts_that_cannot_be_written_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json", "-o", "gone/facts.json") == 10
    assert "cannot be written: No such file" in capsys.readouterr().err


def test_without_a_probe_kernels_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run("doctor", "--probe", "never") == 0
    assert "not known yet" in capsys.readouterr().out
    assert run("doctor", "--probe", "never", "--json", "-o", tmp_path / "f.json") == 10
    assert "there are no facts to write" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_works_without_an_engine_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert out.startswith("ONNX Runtime is needed to run models and is not installed")
    assert "pip install 'onnxsqueeze[cpu]'" in out
    assert run("doctor", "--json") == 0
    found = printed(capsys)
    assert (found["engine"], found["machine"], found["kernels"]) == (None, None, None)
    assert found["processor"]
    assert found["problems"][0].startswith("ONNX Runtime is needed")


@pytest.mark.usefixtures("probed")
def test_a_provider_that_is_only_claimed_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "CUDAExecutionProvider" in machine().providers:
        pytest.skip("this build may have it")
    claimed = (*machine().providers, "CUDAExecutionProvider")
    told = machine().model_copy(update={"providers": claimed})
    monkeypatch.setattr(machines, "machine", lambda: told)
    assert run("doctor", "--json") == 0
    found = printed(capsys)
    last = found["providers"][-1]
    reason = "this build of ONNX Runtime does not have it"
    assert last == {"name": claimed[-1], "state": "fails", "reason": reason}
    assert found["problems"] == [f"{claimed[-1]} is claimed and does not work: {reason}"]


@pytest.mark.usefixtures("probed")
def test_two_engines_at_once_are_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("doctor", "--json") == 0
    assert printed(capsys)["problems"] == []
    monkeypatch.setattr("onnxsqueeze.cli.doctor.version", lambda _: "1.0")
    assert run("doctor") == 0
    told = "onnxruntime and onnxruntime-gpu are both installed and share one import name"
    assert capsys.readouterr().out.splitlines()[0].strip() == told


def test_target_facts_become_part_of_the_target(probed: Kernels) -> None:
    probed.save(Path("facts.json"))
    found = options.target({"kernels_file": Path("facts.json"), "portable": True})
    assert found == Target(portable=True, kernels_file="facts.json")
    assert options.target({"kernels_file": None}) == Target()
    with pytest.raises(DataError, match=r"gone\.json cannot be read as facts of a target"):
        options.target({"kernels_file": Path("gone.json")})


@pytest.mark.usefixtures("probed")
def test_a_wrong_file_of_facts_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    Path("facts.json").write_text("{}")
    assert run("measure", "m.onnx", "--target-facts", "facts.json") == 5
    assert "holds no facts of a target" in capsys.readouterr().err
