"""The shipped models are what models/README.md says: sizes, operators, accuracy, data apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

MODELS = Path(__file__).resolve().parents[1] / "models"
Array = npt.NDArray[Any]


class Expected(NamedTuple):
    """What one model must be; ``correct`` of 797 evaluation rows."""

    sample_shape: tuple[int, ...]
    correct: int
    operators: dict[str, int]


EXPECTED = {
    "digits_cnn": Expected(
        (1, 28, 28),
        794,
        {
            "Add": 3,
            "BatchNormalization": 9,
            "Conv": 9,
            "Flatten": 1,
            "Gemm": 1,
            "GlobalAveragePool": 1,
            "Identity": 2,
            "Relu": 7,
        },
    ),
    "digits_mlp": Expected((784,), 773, {"Gemm": 2, "Relu": 1}),
}
FOLDER_BYTES = 3_000_000


@pytest.fixture(params=EXPECTED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def arrays(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def rows(path: Path) -> set[bytes]:
    return {row.tobytes() for row in arrays(path)["image"]}


def test_folder_is_small_and_complete(name: str) -> None:
    files = {path.name: path.stat().st_size for path in (MODELS / name).iterdir()}
    assert set(files) == {"model.onnx", "calib.npz", "eval.npz"}
    assert sum(files.values()) < FOLDER_BYTES


def test_model_passes_the_checker_and_has_its_operators(name: str) -> None:
    model = onnx.load(MODELS / name / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    operators = [node.op_type for node in model.graph.node]
    assert {op: operators.count(op) for op in set(operators)} == EXPECTED[name].operators
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]


@pytest.mark.parametrize(("file", "count"), [("calib.npz", 512), ("eval.npz", 797)])
def test_data_are_stacked_samples_in_steps_of_one_byte(name: str, file: str, count: int) -> None:
    image = arrays(MODELS / name / file)["image"]
    assert image.shape == (count, 1, *EXPECTED[name].sample_shape)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(np.rint(image * 255).astype(np.uint8) / np.float32(255), image)
    assert (image.min(), image.max()) == (0, 1)


def test_calibration_and_evaluation_share_no_row(name: str) -> None:
    assert rows(MODELS / name / "calib.npz").isdisjoint(rows(MODELS / name / "eval.npz"))


def test_accuracy_is_the_one_that_the_readme_gives(name: str) -> None:
    evaluation = arrays(MODELS / name / "eval.npz")
    session = ort.InferenceSession(
        MODELS / name / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {"image": evaluation["image"][:, 0]})
    correct = int((np.asarray(logits).argmax(1) == evaluation["labels"]).sum())
    assert correct == EXPECTED[name].correct
    readme = (MODELS / "README.md").read_text("utf-8")
    row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
    assert f"{correct / 797:.4f} ({correct} of 797)" in row
    size = (MODELS / name / "model.onnx").stat().st_size
    assert re.search(rf"\b{size:,}\b", row)
