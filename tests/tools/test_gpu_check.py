"""tools/gpu_check: its verdicts without a GPU, and its probes on the CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from gpu.cli import EXPECTED, Checked, checked, main, recorded, verdicts
from gpu.verdicts import NOT_MEASURED, Verdict, exit_code, of_compress, of_probe

from onnxsqueeze.plan.providers import recipe
from onnxsqueeze.runtime import ort

CUDA = "CUDAExecutionProvider"
FOUND = {"runs_on": CUDA, "kernels": ["Conv"], "error": 0.001, "most": 0.002}
MADE: dict[str, Any] = {
    "is_met": True,
    "max_drop": 0.02,
    "drop_high": 0.01,
    "share": 0.3,
    "compute": "float16",
    "forms": ["stored"],
}
RULE: dict[str, Any] = {"compute": ["float16"], "forms_never": ["qdq"], "share_most": 0.5}
ENTRY = {"runs_on": CUDA, "error": NOT_MEASURED}


@pytest.mark.parametrize(
    ("found", "expected", "outcome", "words"),
    [
        (FOUND, ENTRY, "as expected", NOT_MEASURED),
        (FOUND, {**ENTRY, "error": 0.001}, "as expected", f"on {CUDA} as Conv"),
        (FOUND, {**ENTRY, "runs_on": "CPUExecutionProvider"}, "differs", "expected on CPUEx"),
        ({**FOUND, "error": 0.003}, ENTRY, "differs", "over the bound"),
        ({**FOUND, "error": float("nan")}, ENTRY, "differs", "over the bound"),
        (FOUND, None, "differs", "there is no expected result"),
        ("no kernel", ENTRY, "could not be checked", "no kernel"),
    ],
)
def test_probes_are_judged(found: Any, expected: Any, outcome: str, words: str) -> None:
    verdict = of_probe("cuda: Conv", found, expected)
    assert verdict.outcome == outcome
    assert words in verdict.words


@pytest.mark.parametrize(
    ("changed", "outcome", "words"),
    [
        ({}, "as expected", "30.0% of the bytes"),
        ({"is_met": False}, "differs", "nothing kept to the budget"),
        ({"drop_high": 0.03}, "differs", "drop over the budget of 2.00%"),
        ({"compute": "float32"}, "differs", "expected to compute in float16"),
        ({"forms": ["qdq", "stored"]}, "differs", "planned qdq, which this provider has no"),
        ({"share": 0.6}, "differs", "expected at most 50.0% of the bytes"),
    ],
)
def test_compressed_models_are_judged(changed: Any, outcome: str, words: str) -> None:
    verdict = of_compress("cuda: compress a", {**MADE, **changed}, RULE)
    assert verdict.outcome == outcome
    assert words in verdict.words


@pytest.mark.parametrize(
    ("outcomes", "refused", "code"),
    [
        (["as expected"], 0, 0),
        (["as expected", "could not be checked"], 0, 7),
        (["as expected"], 1, 7),
        (["differs", "could not be checked"], 1, 1),
        ([], 2, 7),
    ],
)
def test_exit_codes(outcomes: list[Any], refused: int, code: int) -> None:
    assert exit_code([Verdict("a", one, "") for one in outcomes], refused) == code


def test_expected_results_agree_with_the_recipes() -> None:
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))["providers"]
    assert set(expected) == {"cpu", "cuda", "tensorrt"}
    for provider, entries in expected.items():
        found = recipe(provider)
        for name, entry in entries.items():
            if name.startswith("compress"):
                assert found.compute in entry["compute"]
                never = {"qdq", "dynamic", "blockwise"} - set(found.integer_forms)
                assert never <= set(entry["forms_never"])


def test_probes_hold_on_the_cpu_and_can_be_recorded() -> None:
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))["providers"]
    result = checked(["cpu"], with_models=False)

    judged = list(verdicts(result, expected))
    assert [one.words for one in judged if one.outcome != "as expected"] == []
    assert len(judged) == 7
    kept = recorded(result, expected)
    assert all(one["error"] != NOT_MEASURED for one in kept["cpu"].values() if "error" in one)
    assert kept["cuda"] == expected["cuda"]


def test_a_provider_that_is_not_there_leaves_its_checks_open() -> None:
    result = Checked(refused={"cuda": "no driver\n  Install one."})
    judged = list(verdicts(result, {"cuda": {"Conv": ENTRY}, "cpu": {"Conv": ENTRY}}))
    assert judged == [Verdict("cuda: Conv", "could not be checked", "cuda is missing")]


@pytest.mark.skipif(
    CUDA in ort.engine().get_available_providers(), reason="this build may have CUDA"
)
def test_without_a_gpu_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--no-models"]) == 7
    said = capsys.readouterr().out
    assert "cuda is missing: execution provider CUDAExecutionProvider was asked for" in said
    assert "pip install 'onnxsqueeze[gpu]'" in said
    assert "tensorrt is missing: " in said
    assert "0 as expected, 0 differs, 18 could not be checked" in said
