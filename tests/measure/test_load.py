from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import DataError, ModelError
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph import io
from onnxsqueeze.measure import load as module
from onnxsqueeze.measure.load import load, samples_for
from tests import models
from tests.runtime.made import random

TEXT = """
g (float[N,16] x) => (float[N,8] y) <float[16,8] w> {
  i = Identity (x)
  h = MatMul (i, w)
  y = Relu (h)
}"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return models.saved(models.build(TEXT), tmp_path)


def arrays(count, seed=0):
    return {"x": random(count, 1, 16, seed=seed)}


def keys(samples):
    return {feed["x"].tobytes() for feed in samples}


def test_a_model_is_cleaned_and_its_samples_are_split(path):
    given = arrays(10)
    loaded = load(path, DataSettings(given, labels=np.arange(10)))
    assert (loaded.path, loaded.sha256) == (path, io.fingerprint(path))
    assert models.operators(loaded.model) == ["MatMul", "Relu"]
    assert any(change.outcome == "done" for change in loaded.changes)
    assert (len(loaded.calibration), len(loaded.held_out)) == (7, 3)
    a, b = keys(loaded.calibration), keys(loaded.held_out)
    assert not a & b
    assert a | b == {one.tobytes() for one in given["x"]}
    labelled = [*loaded.calibration.labels, *loaded.held_out.labels]
    assert sorted(labelled) == list(range(10))
    for feed, label in zip(loaded.held_out, loaded.held_out.labels, strict=True):
        np.testing.assert_array_equal(feed["x"], given["x"][label])
    assert not loaded.is_synthetic
    assert loaded.notes[0] == "3 of 10 samples are held out to measure on"


def test_the_split_follows_the_seed(path):
    a, b, c = (
        load(path, DataSettings(arrays(20), seed=seed)).held_out.fingerprint for seed in (0, 0, 1)
    )
    assert a == b != c


def test_samples_to_measure_on_may_be_given(path, tmp_path):
    np.savez(tmp_path / "eval.npz", **arrays(4, seed=5))
    settings = DataSettings(
        arrays(6), evaluation=tmp_path / "eval.npz", evaluation_labels=np.arange(4)
    )
    loaded = load(path, settings)
    assert (len(loaded.calibration), len(loaded.held_out)) == (6, 4)
    np.testing.assert_array_equal(loaded.held_out.labels, np.arange(4))
    assert loaded.notes[0].startswith("measured on 4 samples from ")
    samples, _ = samples_for(path, settings)
    assert samples.fingerprint == loaded.held_out.fingerprint
    everything, _ = samples_for(path, DataSettings(arrays(6)))
    assert len(everything) == 6


def test_the_same_samples_for_both_are_refused(path, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays(4))
    with pytest.raises(DataError) as caught:
        load(path, DataSettings(tmp_path / "a.npz", evaluation=arrays(4)))
    assert str(caught.value).splitlines() == [
        "the same samples are given to calibrate on and to measure on",
        f"  All 4 of the given arrays are among those of {tmp_path / 'a.npz'}.",
        "  Leave the evaluation samples out: a part of the others is then held out.",
    ]


def test_one_sample_cannot_be_split(path):
    with pytest.raises(DataError, match=r"1 sample\(s\) cannot be split"):
        load(path, DataSettings([{"x": random(1, 16)}]))


@pytest.mark.parametrize("given", [{"evaluation": arrays(2)}, {"labels": np.arange(3)}])
def test_samples_to_measure_on_alone_are_refused(path, given):
    with pytest.raises(DataError, match="were given without calibration samples\n  Give calibr"):
        load(path, DataSettings(**given))


def test_samples_that_do_not_fit_are_refused(path):
    with pytest.raises(DataError):
        load(path, DataSettings({"x": random(4, 1, 15)}))


def test_without_samples_there_are_random_ones(path):
    loaded = load(path, DataSettings())
    assert loaded.is_synthetic
    assert loaded.held_out is loaded.calibration
    assert len(loaded.calibration) == module.SYNTHETIC_SAMPLES
    assert loaded.calibration[0]["x"].shape == (1, 16)
    assert any("random" in note for note in loaded.notes)


@pytest.mark.parametrize("size", [16, 224])
def test_sizes_of_free_axes_are_tried_until_the_model_runs(tmp_path, size):
    text = f"""
    g (float[N,T] x) => (float[] y) <float[{size},4] w> {{ y = MatMul (x, w) }}"""
    loaded = load(models.saved(models.build(text), tmp_path), DataSettings())
    assert loaded.calibration[0]["x"].shape == (1, size)


def test_a_model_that_runs_on_no_size_needs_samples(tmp_path):
    text = "g (float[N,T] x) => (float[] y) <float[17,4] w> { y = MatMul (x, w) }"
    with pytest.raises(DataError) as caught:
        load(models.saved(models.build(text), tmp_path), DataSettings())
    lines = str(caught.value).splitlines()
    assert lines[0] == "no samples were given, and the model does not run on random ones"
    assert lines[1].startswith("  the model does not run: ")
    assert lines[2] == "  Give samples (--data)."


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        load(tmp_path / "m.onnx", DataSettings())


def forbidden(*_args, **_keywords):
    raise AssertionError("cleaned again")


def test_the_cleaned_model_is_found_again(path, tmp_path, monkeypatch):
    store, settings = Store(tmp_path / "facts"), DataSettings(arrays(10))
    first = load(path, settings, store)
    monkeypatch.setattr(module, "normalise", forbidden)
    again = load(path, settings, store)
    assert again.changes == first.changes
    assert again.sha256 == first.sha256 == io.fingerprint(path)
    io.write(first.model, tmp_path / "a.onnx")
    io.write(again.model, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    with pytest.raises(AssertionError, match="cleaned again"):
        load(path, DataSettings(arrays(10, seed=1)), store)


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_cleaned_model_that_was_touched_is_made_again(path, tmp_path, damage):
    store, settings = Store(tmp_path / "facts"), DataSettings(arrays(10))
    first = load(path, settings, store)
    (kept,) = store.folder.glob("clean-*.onnx")
    content = kept.read_bytes()
    if damage == "removed":
        kept.unlink()
    else:
        kept.write_bytes(content[:-1])
    again = load(path, settings, store)
    assert kept.read_bytes() == content
    assert models.operators(again.model) == models.operators(first.model)


def test_another_model_is_not_taken_for_this_one(path, tmp_path):
    store, settings = Store(tmp_path / "facts"), DataSettings(arrays(10))
    load(path, settings, store)
    other = onnx.load(path)
    other.graph.node[-1].op_type = "Neg"
    onnx.save(other, path)
    assert models.operators(load(path, settings, store).model) == ["MatMul", "Neg"]
    records = [json.loads(p.read_text()) for p in store.folder.glob("clean-*/record.json")]
    assert len({record["key"]["model"] for record in records}) == 2


def test_a_large_model_is_cleaned_without_a_copy_of_its_weights(tmp_path: Path) -> None:
    io.write(models.read(models.RESIDUAL, tmp_path), tmp_path / "big.onnx", external=True)
    store = Store(tmp_path / "facts")
    data = DataSettings()

    loaded = load(tmp_path / "big.onnx", data, store, large_bytes=0)
    again = load(tmp_path / "big.onnx", data, store, large_bytes=0)

    assert loaded.is_large
    assert again.is_large
    assert not load(tmp_path / "big.onnx", data, store).is_large
    for model in (loaded.model, again.model):
        tensor = model.graph.initializers["w2"].const_value
        assert isinstance(tensor, ir.ExternalTensor)
        assert Path(tensor.path) == (tmp_path / "big.onnx.data").resolve()
    assert not list(store.folder.rglob("*.data"))
    said = [c for c in loaded.changes if "stay on disk" in c.after]
    assert {change.step for change in said} == {
        "clean by runtime",
        "fold scale",
        "fold batch norm",
    }
    feed = models.feed(x=(2, 3, 8, 8))
    expected = models.outputs(tmp_path / "big.onnx", feed)["y"]
    np.testing.assert_array_equal(models.outputs(loaded.model, feed)["y"], expected)


def test_a_large_model_with_its_weights_inside_gets_them_outside_once(tmp_path: Path) -> None:
    io.write(models.read(models.RESIDUAL, tmp_path), tmp_path / "big.onnx")
    store = Store(tmp_path / "facts")

    loaded = load(tmp_path / "big.onnx", DataSettings(), store, large_bytes=0)
    stamps = {path: path.stat().st_mtime_ns for path in store.folder.glob("weights-*")}
    load(tmp_path / "big.onnx", DataSettings(), store, large_bytes=0)

    assert len(stamps) == 2
    assert {path: path.stat().st_mtime_ns for path in store.folder.glob("weights-*")} == stamps
    assert isinstance(loaded.model.graph.initializers["w2"].const_value, ir.ExternalTensor)


def test_without_a_store_no_model_is_large(tmp_path: Path) -> None:
    io.write(models.read(models.RESIDUAL, tmp_path), tmp_path / "big.onnx", external=True)

    assert not load(tmp_path / "big.onnx", DataSettings(), large_bytes=0).is_large
