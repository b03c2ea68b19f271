"""``--provider``, its options, and what is allowed to fall back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from onnxsqueeze.cli import main, options
from onnxsqueeze.cli.option_types import ProviderOptionType
from onnxsqueeze.config import Target
from onnxsqueeze.runtime import ort
from tests.cli.place import Place, network

IDLE = "AzureExecutionProvider"


@click.command()
@options.output_options
@options.engine_options
def command(**values: Any) -> Target:
    return options.target(values)


def target(*arguments: str) -> Target:
    found: Target = command.main([*arguments], standalone_mode=False)
    return found


def test_the_first_decides_and_the_others_are_measured_on() -> None:
    assert (target().provider, target().also) == ("cpu", ())
    found = target("--provider", "cuda", "--provider", "cpu")
    assert (found.provider, found.also, found.allow_fallback) == ("cuda", ("cpu",), "some")
    assert target("--allow-fallback", "none").allow_fallback == "none"


def test_options_go_to_the_provider_that_they_name_or_the_first() -> None:
    found = target(
        *("--provider", "cuda", "--provider", "tensorrt"),
        *("--provider-options", "device_id=1"),
        *("--provider-options", "tensorrt:trt_fp16_enable=1"),
        *("--provider-options", "tensorrt:trt_engine_cache_path=C:/e=f"),
    )
    assert found.provider_options == {
        "cuda": {"device_id": "1"},
        "tensorrt": {"trt_fp16_enable": "1", "trt_engine_cache_path": "C:/e=f"},
    }


@pytest.mark.parametrize("text", ["fast", "=1", "cuda:=1", "cuda:"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not KEY=VALUE or PROVIDER:KEY=VALUE"):
        ProviderOptionType().convert(text, None, None)


def test_options_of_a_provider_that_is_not_asked_for_are_refused() -> None:
    with pytest.raises(click.UsageError, match="cuda:device_id is for a provider that is not"):
        target("--provider-options", "cuda:device_id=1")


@pytest.mark.parametrize(("text", "also"), [('"cuda"', ()), ('["cuda", "cpu"]', ("cpu",))])
def test_a_config_file_names_one_or_many(tmp_path: Path, text: str, also: tuple[str, ...]) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f"provider = {text}\n", encoding="utf-8")
    found = target("--config", str(file))
    assert (found.provider, found.also) == ("cuda", also)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return network(tmp_path_factory.mktemp("providers"))


@pytest.mark.parametrize("name", ["compress", "validate"])
@pytest.mark.parametrize("provider", ["cuda", "NoSuchExecutionProvider"])
def test_a_provider_that_is_not_there_is_exit_7_and_one_clear_sentence(
    place: Place, capfd: pytest.CaptureFixture[str], name: str, provider: str
) -> None:
    if provider == "cuda" and "CUDAExecutionProvider" in ort.engine().get_available_providers():
        pytest.skip("this build may have it")
    files = [str(place.model)] * (2 if name == "validate" else 1)
    output = place.folder / "out" / "small.onnx"
    arguments = [name, *files, "--data", str(place.data), "--provider", provider]
    if name == "compress":
        arguments += ["-o", str(output)]

    assert main(arguments) == 7

    said = capfd.readouterr().err.strip().splitlines()
    assert said[0].startswith("error: execution provider ")
    assert "was asked for and cannot be used: this build of ONNX Runtime does not" in said[0]
    assert any(line.strip().startswith("Install what has it: ") for line in said)
    assert not output.exists()


def test_another_provider_that_is_not_there_is_told_before_the_search(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    output = place.folder / "out" / "small.onnx"
    arguments = ["compress", str(place.model), "--data", str(place.data), "-o", str(output)]
    assert main([*arguments, "--provider", "cpu", "--provider", "NoSuchProvider"]) == 7
    assert "NoSuchProvider was asked for" in capfd.readouterr().err
    assert not list((place.folder / "out" / "small.squeeze" / "facts").glob("*trial*"))


@pytest.mark.skipif(
    IDLE not in ort.engine().get_available_providers(), reason=f"this build has no {IDLE}"
)
def test_every_provider_is_measured_and_reported(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    files = ["validate", str(place.model), str(place.model), "--data", str(place.data)]
    asked = ["--provider", "cpu", "--provider", IDLE]

    assert main([*files, *asked]) == 7
    assert "would run none of the" in capfd.readouterr().err
    assert main([*files, *asked, "--allow-fallback", "all"]) == 0

    said = capfd.readouterr().out
    for label in ("metric, ", "speed, ", "memory, ", "runs on "):
        assert f"{label}cpu" in said
        assert f"{label}{IDLE}" in said
