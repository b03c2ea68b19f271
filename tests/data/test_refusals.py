from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.data import open_samples
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec, signature

ONE = signature(
    ir.from_onnx_text(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        one (float[N, 3] x) => (float[N, 3] out) { out = Relu(x) }
        """
    )
)
TWO = signature(
    ir.from_onnx_text(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        two (int64[N, T] ids, int64[N, T] mask) => (int64[N, T] out) { out = Mul(ids, mask) }
        """
    )
)
X = np.random.default_rng(7).standard_normal((5, 1, 3)).astype(np.float32)


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def refused(source: object, specs: tuple[InputSpec, ...] = ONE, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        list(open_samples(source, specs, **options))  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "specs", "first_line"),
    [
        ({"x": X, "z": X}, ONE, "'z' is no input of the model"),
        (
            {"id": X, "mask": X},
            TWO,
            "'id' is no input of the model; did you mean 'ids'?",
        ),
        ({"ids": X}, TWO, "input 'mask' is missing, found only 'ids'"),
        ({}, ONE, "input 'x' is missing, found only nothing"),
        (
            {"x": X.astype(np.float16)},
            ONE,
            "input 'x' is float16, and the model needs float32",
        ),
        (
            {"x": X.astype(np.int64)},
            ONE,
            "input 'x' is int64, and the model needs float32",
        ),
        (
            {"x": np.full((2, 1, 3), 1e300)},
            ONE,
            "input 'x' is float64, and 3 of 3 values do not fit into float32",
        ),
        (
            {"x": X[0, 0]},
            ONE,
            "input 'x' has rank 1, shape [3], neither stacked samples of rank 2 nor one batch",
        ),
        (
            {"x": X[..., :2]},
            ONE,
            "input 'x' has size 2 on axis 1, shape [1, 2], and the model needs 3",
        ),
        (
            {"ids": np.ones((2, 1, 4), np.int64), "mask": np.ones((2, 1, 5), np.int64)},
            TWO,
            "'T' is 4 in input 'ids' and 5 in input 'mask'",
        ),
        (
            {"ids": np.ones((2, 1, 4), np.int64), "mask": np.ones((3, 1, 4), np.int64)},
            TWO,
            "the inputs have unequal numbers of samples: 'ids' has 2, 'mask' has 3",
        ),
        ({"x": X[:0]}, ONE, "the given arrays holds 0 samples, at least 1 is needed"),
        (
            {"x": X, "y": np.arange(5), "labels": np.arange(5)},
            ONE,
            "'y' and 'labels' both look like labels, one array is needed",
        ),
        (
            {"x": X, "y": np.arange(4)},
            ONE,
            "there are 4 labels and 5 samples, one label per sample is needed",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    arrays: dict[str, np.ndarray], specs: tuple[InputSpec, ...], first_line: str
) -> None:
    message = refused(arrays, specs)

    first, *rest = message.split("\n")
    assert first == first_line
    assert rest
    assert all(line.startswith("  ") for line in rest)


def test_message_lists_what_the_model_needs() -> None:
    message = refused({"ids": X}, TWO)

    assert message.split("\n")[1:] == [
        "  Found in the given arrays.",
        "  The model needs: ids: int64 [N, T]; mask: int64 [N, T].",
        "  Add: 'mask'.",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_when_read(value: float) -> None:
    bad = X.copy()
    bad[3, 0, 1:] = value

    samples = open_samples({"x": bad}, ONE)

    np.testing.assert_array_equal(samples[2]["x"], X[2])
    with pytest.raises(DataError) as caught:
        samples[3]
    lines = str(caught.value).split("\n")
    assert lines[0] == "input 'x' holds NaN or infinity in 2 of 3 values"
    assert lines[1] == "  Found in sample 3 of the given arrays."


def test_source_that_is_missing_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.npz").startswith(f"there are no samples at {tmp_path}/no.npz\n")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 but no more"])
def test_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)

    assert refused(path).startswith(f"{path} is no .npz archive, or a damaged one: ")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["plain", "compressed"])
def test_damaged_npz_is_refused(tmp_path: Path, save: object) -> None:
    path = tmp_path / "a.npz"
    save(path, x=np.zeros((4, 1, 3), np.float32))  # type: ignore[operator]
    content = bytearray(path.read_bytes())
    content[30:60] = bytes(30)  # over the name and the head of the first member
    path.write_bytes(content)

    assert str(path) in refused(path)


def test_npy_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, X)
    path.write_bytes(path.read_bytes()[:-8])

    assert refused(path).startswith(f"{path} is cut off: the file has 180 bytes, and its shape ")


def test_pickled_objects_are_refused_unread(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "ran",))

    path = saved(tmp_path / "a.npz", x=np.array([Bomb(), Bomb()], dtype=object))

    assert refused(path).startswith(f"'x' of {path} holds pickled Python objects (object)")
    assert not (tmp_path / "ran").exists()


def test_labels_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    arrays = {"x": X}
    saved(tmp_path / "two.npz", a=np.zeros(5), b=np.zeros(5))
    (tmp_path / "a.csv").write_text("1\n")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")

    def message(given: object) -> str:
        return refused(arrays, labels=given)

    assert message(tmp_path / "no.npy").startswith("there are no labels at ")
    assert re.search(r"holds 2 arrays \('a', 'b'\), labels are one", message(tmp_path / "two.npz"))
    assert "has the suffix '.csv', and labels are .npy, .npz or .txt" in message(
        tmp_path / "a.csv"
    )
    assert "is no UTF-8 text" in message(tmp_path / "a.txt")
    assert message(np.float32(1).reshape(())).startswith("the given labels hold one number")
    assert message(np.arange(6)).startswith("there are 6 labels and 5 samples")


def test_model_without_inputs_is_refused() -> None:
    assert refused({"x": X}, ()).startswith("the model has no inputs, so there is nothing to feed")
