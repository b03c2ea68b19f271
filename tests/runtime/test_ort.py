from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.errors import DependencyError, ModelError, ProviderError
from onnxsqueeze.graph import io
from onnxsqueeze.graph.mapped import DataFile
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.providers import full_name
from tests import models
from tests.runtime.made import made, random

TEXT = """
g (float[N,8] x, float[N,8] z) => (float[N,8] y, float[N,8] s) <float[8,8] w> {
  a = MatMul (x, w)
  y = Relu (a)
  s = Add (a, z)
}"""
FEED = {"x": random(2, 8), "z": random(2, 8, seed=1)}


def test_a_model_runs_from_memory_bytes_and_file_alike(tmp_path):
    model = made(TEXT)
    ir.save(model, tmp_path / "m.onnx")
    content = (tmp_path / "m.onnx").read_bytes()
    results = [
        ort.run(ort.session(source), FEED) for source in (model, tmp_path / "m.onnx", content)
    ]
    for result in results:
        assert list(result) == ["y", "s"]
        np.testing.assert_array_equal(result["y"], results[0]["y"])


@pytest.mark.parametrize("folders", [["a"], ["a", "b"]])
def test_weights_outside_of_the_file_are_found(tmp_path, folders):
    text = "g (float[N,8] x) => (float[] y) <float[8,8] w, float[8,8] v> {"
    model = made(text + " h = MatMul (x, w) y = MatMul (h, v) }")
    before = ort.run(ort.session(model), {"x": FEED["x"]})["y"]
    for folder, name in zip(folders, ["w", "v"], strict=False):
        (tmp_path / folder).mkdir()
        value = model.graph.initializers[name]
        raw = value.const_value.numpy()
        raw.tofile(tmp_path / folder / "data")
        value.const_value = ir.ExternalTensor(
            "data", 0, raw.nbytes, ir.DataType.FLOAT, shape=ir.Shape(raw.shape), name=name,
            base_dir=tmp_path / folder,
        )  # fmt: skip
    np.testing.assert_array_equal(ort.run(ort.session(model), {"x": FEED["x"]})["y"], before)


def test_only_the_named_outputs_are_returned():
    result = ort.run(ort.session(made(TEXT)), FEED, ["s"])
    assert list(result) == ["s"]
    assert len(ort.run_all(ort.session(made(TEXT)), [FEED, FEED, FEED])) == 3


def test_a_model_that_cannot_be_loaded():
    with pytest.raises(ModelError, match=r"ONNX Runtime \S+ does not load the model: "):
        ort.session(b"no model")


def test_a_feed_that_does_not_fit_is_named():
    with pytest.raises(ModelError) as caught:
        ort.run(ort.session(made(TEXT)), {**FEED, "z": random(2, 9)})
    message = str(caught.value)
    assert message.startswith("the model does not run: ")
    assert "\n  It was fed with x: float32[2, 8], z: float32[2, 9]." in message


def test_a_provider_that_is_not_there():
    with pytest.raises(ProviderError) as caught:
        ort.session(made(TEXT), provider="NoSuchProvider")
    assert str(caught.value).startswith(
        "execution provider NoSuchProvider was asked for and cannot be used: "
        "this build of ONNX Runtime does not have it\n  Offered by the installed build: "
    )


@pytest.mark.parametrize(
    ("name", "full"),
    [("cpu", "CPUExecutionProvider"), ("CUDA", "CUDAExecutionProvider"), ("Other", "Other")],
)
def test_short_names_of_providers(name, full):
    assert full_name(name) == full


def test_without_the_engine_both_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyError, match="ONNX Runtime is needed") as caught:
        ort.engine()
    assert "onnxsqueeze[cpu]" in str(caught.value)
    assert "onnxsqueeze[gpu]" in str(caught.value)


def test_exposed_values_replace_the_outputs_and_what_they_do_not_need_goes():
    model = made(TEXT)
    copy = ort.expose(model, ["a", "x"])
    assert models.operators(copy) == ["MatMul"]
    assert [value.name for value in copy.graph.outputs] == ["a", "x"]
    assert models.operators(model) == ["MatMul", "Relu", "Add"]
    found = ort.run(ort.session(copy), FEED)
    np.testing.assert_array_equal(found["x"], FEED["x"])
    np.testing.assert_allclose(found["a"], FEED["x"] @ models.constants(model)["w"], rtol=1e-5)


def test_the_optimized_graph_is_read_back_with_its_weights():
    text = "g (float[N,8] x) => (float[] y) <float[8,8] w> { v = Neg (w) y = MatMul (x, v) }"
    model = made(text)
    found = ort.optimized(model)
    assert models.operators(found) == ["MatMul"]
    (weight,) = models.constants(found).values()
    np.testing.assert_array_equal(weight, -models.constants(model)["w"])
    assert models.operators(ort.optimized(model, "off")) == ["Neg", "MatMul"]


def test_optimization_levels_and_low_memory():
    engine = ort.engine()
    levels = [ort.session_options(name).graph_optimization_level for name in
              ("default", "extended", "basic", "off")]  # fmt: skip
    assert len(set(levels)) == 4
    assert levels[0] == engine.GraphOptimizationLevel.ORT_ENABLE_ALL
    options = ort.session_options("off", threads=3, low_memory=True)
    assert (options.intra_op_num_threads, options.enable_mem_pattern) == (3, False)
    assert ort.session_options().enable_mem_pattern


def test_weights_in_two_folders_are_read_from_both(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    model = models.read(models.RESIDUAL, tmp_path)
    feed = models.feed(x=(2, 3, 8, 8))
    expected = models.outputs(model, feed)["y"]
    io.write(model, tmp_path / "one" / "m.onnx", external=True)
    model = io.read(tmp_path / "one" / "m.onnx")
    file = DataFile(tmp_path / "two" / "some.data")
    value = model.graph.initializers["w3"]
    assert value.const_value is not None
    value.const_value = moved = file.moved(value.const_value)

    np.testing.assert_array_equal(models.outputs(model, feed)["y"], expected)
    assert value.const_value is moved
