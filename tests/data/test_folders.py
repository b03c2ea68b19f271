from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxsqueeze.data import open_samples
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec

ONE = (InputSpec("x", np.dtype("float32"), ("N", 3)),)
TWO = (
    InputSpec("ids", np.dtype("int64"), (1, "T")),
    InputSpec("m", np.dtype("float32"), (1, "T")),
)


def refused(source: Path, specs: tuple[InputSpec, ...] = ONE) -> str:
    with pytest.raises(DataError) as caught:
        list(open_samples(source, specs))
    return str(caught.value)


def write_set(folder: Path, *arrays: np.ndarray) -> None:
    folder.mkdir()
    for index, array in enumerate(arrays):
        proto = onnx.numpy_helper.from_array(array)
        (folder / f"input_{index}.pb").write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["plain", "compressed"])
def test_one_npz_per_sample_of_its_own_shape(tmp_path: Path, save: object) -> None:
    for t in (4, 2, 3):
        arrays = {"ids": np.full((1, t), t), "m": np.ones((1, t), np.float32), "y": np.int64(t)}
        save(tmp_path / f"{t}.npz", **arrays)  # type: ignore[operator]

    samples = open_samples(tmp_path, TWO)

    assert [feed["ids"].shape for feed in samples] == [(1, 2), (1, 3), (1, 4)]
    assert samples.labels is not None
    assert samples.labels.tolist() == [2, 3, 4]
    assert samples.source == f"3 .npz files in {tmp_path}"


def test_one_npy_per_sample(tmp_path: Path) -> None:
    for k in (1, 0):
        np.save(tmp_path / f"{k}.npy", np.full((1, 3), k, np.float32))
    (tmp_path / ".hidden").write_text("not a sample")
    (tmp_path / "README").write_text("not a sample")

    samples = open_samples(tmp_path, ONE)

    assert [feed["x"].tolist() for feed in samples] == [[[0, 0, 0]], [[1, 1, 1]]]


def test_misfit_names_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((1, 4), np.float32))

    lines = refused(tmp_path).split("\n")

    assert lines[0] == "input 'x' has size 4 on axis 1, shape [1, 4], and the model needs 3"
    assert lines[1] == f"  Found in {tmp_path / 'b.npy'}."


def test_sample_of_another_rank_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3, np.float32))

    assert refused(tmp_path).startswith(
        "input 'x' has rank 1, shape [3], and the model needs rank 2\n"
    )


def test_unequal_labelling_is_refused(tmp_path: Path) -> None:
    x = np.zeros((1, 3), np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=1)
    np.savez(tmp_path / "b.npz", x=x)
    assert "are not labelled alike: 'y', no label" in refused(tmp_path)

    np.savez(tmp_path / "b.npz", x=x, y=np.arange(2))
    assert refused(tmp_path).startswith("'y' has 2 entries in a sample of ")


def test_npy_folder_needs_a_model_with_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3), np.float32))

    assert refused(tmp_path, TWO).startswith(
        f"{tmp_path} holds .npy files, which feed one input, and the model has 2\n"
    )


def test_folder_without_samples_and_mixed_folder_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path).startswith(
        f"{tmp_path} holds no samples, one kind of sample is needed"
    )
    np.save(tmp_path / "a.npy", np.zeros((1, 3), np.float32))
    np.savez(tmp_path / "b.npz", x=np.zeros((1, 3), np.float32))
    assert refused(tmp_path).startswith(
        f"{tmp_path} holds 1 .npz files and 1 .npy files, one kind"
    )


def test_onnx_test_data_sets_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for k in (10, 2):
        write_set(
            tmp_path / f"test_data_set_{k}",
            np.full((1, 2), k, np.int64),
            np.zeros((1, 2), np.float32),
        )

    samples = open_samples(tmp_path, TWO)

    assert [int(feed["ids"][0, 0]) for feed in samples] == [2, 10]
    assert len(open_samples(tmp_path / "test_data_set_2", TWO)) == 1


def test_test_data_set_with_another_number_of_inputs_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "test_data_set_0", np.zeros((1, 2), np.int64))

    message = refused(tmp_path, TWO)

    assert "holds 1 inputs (input_0.pb), and the model needs input_0.pb to input_1.pb" in message
    assert message.endswith("  The model needs: ids: int64 [1, T]; m: float32 [1, T].")


def test_file_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "input_0.pb").write_bytes(b"garbage!")

    assert refused(tmp_path).startswith(
        f"{tmp_path}/input_0.pb holds 8 bytes that are no TensorProto: "
    )


def test_text_tensors_are_decoded(tmp_path: Path) -> None:
    write_set(tmp_path / "test_data_set_0", np.array(["a", "\N{SNOWMAN}"], object))

    samples = open_samples(tmp_path, [InputSpec("s", np.dtype(object), ("N",))])

    assert samples[0]["s"].tolist() == ["a", "\N{SNOWMAN}"]
