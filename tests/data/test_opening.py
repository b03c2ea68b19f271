from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.data import Samples, open_samples
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
RECURRENT = signature(
    ir.from_onnx_text(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        agent (float[N, T] x, float[2, N, 4] state, int64 rate) => (float[N, T] out) {
            out = Relu(x)
        }
        """
    )
)
RNG = np.random.default_rng(7)
X = RNG.standard_normal((5, 1, 3)).astype(np.float32)


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["plain", "compressed"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_of_stacked_samples(tmp_path: Path, save: object, order: str) -> None:
    path = tmp_path / "calib.npz"
    save(path, x=np.asarray(X, order=order), y=np.arange(5))  # type: ignore[operator]

    samples = open_samples(path, ONE)

    assert len(samples) == 5
    for sample, expected in zip(samples, X, strict=True):
        np.testing.assert_array_equal(sample["x"], expected)
    assert type(samples[0]["x"]) is np.ndarray
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2, 3, 4]
    assert samples.source == str(path)
    assert samples.notes == ()


def test_samples_iterate_again_and_take_negative_indices_and_slices(tmp_path: Path) -> None:
    samples = open_samples(str(saved(tmp_path / "a.npz", x=X)), ONE)

    assert [feed["x"].tolist() for feed in samples] == [feed["x"].tolist() for feed in samples]
    np.testing.assert_array_equal(samples[-1]["x"], X[4])
    assert isinstance(samples[1:3], Samples)
    np.testing.assert_array_equal(samples[1:3][1]["x"], X[2])
    with pytest.raises(IndexError):
        samples[5]


def test_one_batch_is_cut_and_noted() -> None:
    samples = open_samples({"x": X[:, 0]}, ONE)

    assert len(samples) == 5
    np.testing.assert_array_equal(samples[2]["x"], X[2])
    assert samples.notes == ("input 'x' is one batch of 5, read as samples of batch 1",)


def test_array_of_the_models_own_fixed_shape_is_one_sample() -> None:
    spec = InputSpec("x", np.dtype("float32"), (5, 1, 3))

    samples = open_samples({"x": X}, [spec])

    assert len(samples) == 1
    np.testing.assert_array_equal(samples[0]["x"], X)


@pytest.mark.parametrize("rate", [np.arange(5), np.int64(16000)], ids=["each", "repeated"])
def test_scalar_input_is_one_per_sample_or_one_for_all(rate: np.ndarray) -> None:
    arrays = {
        "x": np.ones((5, 1, 8), np.float32),
        "state": np.zeros((5, 2, 1, 4), np.float32),
        "rate": np.asarray(rate),
    }

    samples = open_samples(arrays, RECURRENT)

    assert [feed["rate"].shape for feed in samples] == [()] * 5
    assert [int(feed["rate"]) for feed in samples] == np.broadcast_to(rate, 5).tolist()


def test_scalar_inputs_are_read_from_files_too(tmp_path: Path) -> None:
    specs = [InputSpec("r", np.dtype("int64"), ())]

    assert open_samples(saved(tmp_path / "a.npz", r=np.int64(4)), specs)[0]["r"] == 4
    assert open_samples(saved(tmp_path / "b.npz", r=np.arange(3)), specs)[2]["r"] == 2


def test_npy_file_feeds_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)

    np.testing.assert_array_equal(open_samples(tmp_path / "x.npy", ONE)[4]["x"], X[4])


def test_casts_are_done_and_noted() -> None:
    wide = X.astype(np.float64) + 1e-9

    samples = open_samples({"x": wide}, ONE)

    assert samples[0]["x"].dtype == np.float32
    np.testing.assert_array_equal(samples[0]["x"], wide[0].astype(np.float32))
    assert samples.notes == ("input 'x' is float64 in the samples and is cast to float32",)
    narrow = np.arange(6, dtype=np.int32).reshape(2, 1, 3)
    assert open_samples({"ids": narrow, "mask": narrow}, TWO)[0]["ids"].dtype == np.int64


def test_text_is_fed_as_objects() -> None:
    specs = [InputSpec("words", np.dtype(object), ("N",))]

    samples = open_samples({"words": np.array([["a"], ["bc"]])}, specs)

    assert samples[1]["words"].dtype == object
    assert samples[1]["words"].tolist() == ["bc"]


def test_limit_takes_evenly_spaced_samples_with_their_labels() -> None:
    arrays = {"x": np.zeros((10, 1, 3), np.float32), "y": np.arange(10)}

    samples = open_samples(arrays, ONE, limit=4)

    assert samples.indices == (0, 2, 5, 7)
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 2, 5, 7]
    assert len(open_samples(arrays, ONE, limit=10)) == 10
    assert len(open_samples(arrays, ONE, limit=11)) == 10
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        open_samples(arrays, ONE, limit=0)


def test_given_labels_replace_those_of_the_source(tmp_path: Path) -> None:
    arrays = {"x": X, "y": np.arange(5)}
    saved(tmp_path / "named.npz", words=np.array(list("abcde")))
    saved(tmp_path / "both.npz", other=np.zeros(2), labels=np.arange(5) + 2)
    np.save(tmp_path / "one.npy", np.arange(5) + 1)
    (tmp_path / "ints.txt").write_text("4\n3\n2\n1\n0\n")
    (tmp_path / "words.txt").write_text("cat\ndog\ncat\ncat\n\n\n".replace("\n\n", "\nemu\n"))

    def labels(given: object) -> list[object]:
        found = open_samples(arrays, ONE, labels=given).labels  # type: ignore[arg-type]
        assert found is not None
        return list(found.tolist())

    assert labels(np.arange(5) * 2) == [0, 2, 4, 6, 8]
    assert labels(tmp_path / "named.npz") == list("abcde")
    assert labels(str(tmp_path / "both.npz")) == [2, 3, 4, 5, 6]
    assert labels(tmp_path / "one.npy") == [1, 2, 3, 4, 5]
    assert labels(tmp_path / "ints.txt") == [4, 3, 2, 1, 0]
    assert labels(tmp_path / "words.txt") == ["cat", "dog", "cat", "cat", "emu"]


def test_samples_can_be_opened_again_with_other_labels() -> None:
    first = open_samples({"x": X, "y": np.arange(5)}, ONE).subset([1, 3])

    again = open_samples(first, ONE)
    relabelled = open_samples(first, ONE, labels=np.array([8, 9]))

    assert again.fingerprint == first.fingerprint
    assert relabelled.labels is not None
    assert relabelled.labels.tolist() == [8, 9]
    assert relabelled.fingerprint != first.fingerprint


def test_large_arrays_are_read_a_sample_at_a_time(tmp_path: Path) -> None:
    stacked = RNG.standard_normal((256, 1, 3, 4096)).astype(np.float32)
    specs = [InputSpec("x", np.dtype("float32"), ("N", 3, 4096))]
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", x=stacked)
        tracemalloc.start()
        samples = open_samples(tmp_path / "a.npz", specs)
        for _ in samples:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # All samples are 12 MiB, one is 48 KiB; unpacking holds a few copying buffers.
        assert peak < 1 << 20, save.__name__
