"""``--version``: the package, the engine, its providers."""

from __future__ import annotations

from importlib.metadata import version

import onnxruntime
import pytest

from onnxsqueeze import __version__
from onnxsqueeze.errors import DependencyError
from onnxsqueeze.runtime import ort
from tests.cli.place import run


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run("--version") == 0
    return capsys.readouterr().out.splitlines()


def test_versions_of_package_engine_and_readers(capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys)
    assert found[0] == f"onnxsqueeze {__version__}"
    assert found[1].split()[1] == onnxruntime.__version__
    assert f"onnx {version('onnx')}" in found


def test_providers_are_those_of_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = (one for one in lines(capsys) if one.startswith("providers compiled in: "))
    for name in onnxruntime.get_available_providers():
        assert name.removesuffix("ExecutionProvider") in line


def test_a_missing_engine_is_said_with_its_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise DependencyError("no engine")

    monkeypatch.setattr(ort, "engine", missing)
    assert "onnxruntime not installed: pip install 'onnxsqueeze[cpu]'" in lines(capsys)
