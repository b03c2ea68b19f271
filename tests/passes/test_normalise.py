from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsqueeze.errors import ModelError, VerificationError
from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import edit, io, walk
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes import equivalence
from onnxsqueeze.passes import normalise as module
from onnxsqueeze.passes.normalise import normalise
from tests import models

FEEDS = {name: models.feed(**shapes) for name, (_, shapes) in models.ALL.items()}


@pytest.mark.parametrize("name", models.ALL)
def test_interface_and_results_stay_and_weights_are_initializers(
    tmp_path: Path, name: str
) -> None:
    path = models.saved(models.build(models.ALL[name][0]), tmp_path)

    result = normalise(path, [FEEDS[name]])

    verify(result.model)
    original = onnx.load(path)
    written = ir.to_proto(result.model)
    assert list(written.graph.input) == list(original.graph.input)
    assert list(written.graph.output) == list(original.graph.output)
    assert "Constant" not in models.operators(result.model)
    assert not result.model.functions
    assert result.model.opset_imports == {"": 21}
    assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(change.outcome != "undone" for change in result.changes)
    assert len(io.serialized(result.model)) <= path.stat().st_size + 64
    before, after = models.outputs(path, FEEDS[name]), models.outputs(result.model, FEEDS[name])
    for output, values in before.items():
        bound = 1e-5 * np.abs(values).max()
        np.testing.assert_allclose(after[output], values, rtol=0, atol=bound)


@pytest.mark.parametrize("name", models.ALL)
def test_a_cleaned_model_is_not_changed_again(tmp_path: Path, name: str) -> None:
    first = normalise(models.saved(models.build(models.ALL[name][0]), tmp_path), [FEEDS[name]])
    io.write(first.model, tmp_path / "clean.onnx")

    second = normalise(tmp_path / "clean.onnx", [FEEDS[name]])

    assert [change for change in second.changes if change.outcome == "done"] == []
    assert io.serialized(second.model) == (tmp_path / "clean.onnx").read_bytes()


OLD = """
g (float[N,3,8,8] x) => (float[N,2] y)
<float[4,3,3,3] w, float[4] gamma, float[4] beta, float[4] mean, float[4] var = {1, 2, 3, 4},
 float[2,4] v, float[2] b> {
  c = Conv (x, w)
  n = BatchNormalization (c, gamma, beta, mean, var)
  r = Relu (n)
  d = Dropout (r)
  p = GlobalAveragePool (d)
  f = SQUEEZE
  y = Gemm <transB = 1> (f, v, b)
}"""


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21])
def test_every_opset_ends_as_the_same_four_operators(tmp_path: Path, opset: int) -> None:
    squeeze = "Squeeze <axes = [2, 3]> (p)" if opset < 13 else "Squeeze (p, axes)"
    text = OLD.replace("SQUEEZE", squeeze)
    if opset >= 13:
        text = text.replace("float[2] b>", "float[2] b, int64[2] axes = {2, 3}>")
    ir_version = 3 if opset == 7 else 10
    proto = models.build(text, opset, ir_version)
    if ir_version == 3:
        proto.graph.input.extend(
            onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
            for t in proto.graph.initializer
        )
    path = models.saved(proto, tmp_path)
    given = models.feed(x=(2, 3, 8, 8))

    result = normalise(path, [given])

    assert models.operators(result.model) == [
        "Conv", "Relu", "GlobalAveragePool", "Squeeze", "Gemm"]  # fmt: skip
    assert [value.name for value in result.model.graph.inputs] == ["x"]
    assert result.model.opset_imports == {"": 21}
    before, after = models.outputs(path, given)["y"], models.outputs(result.model, given)["y"]
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())


def test_both_branches_of_an_if_stay_right(tmp_path: Path) -> None:
    path = models.saved(models.build(models.SUBGRAPH), tmp_path)
    x = models.feed(x=(3, 4))
    feeds = [{**x, "c": np.array(flag)} for flag in (True, False)]

    result = normalise(path, feeds)

    assert models.operators(result.model) == ["If", "MatMul", "Add"]
    for given in feeds:
        np.testing.assert_array_equal(
            models.outputs(result.model, given)["y"], models.outputs(path, given)["y"]
        )


def test_metadata_and_wrong_declarations_are_kept(tmp_path: Path) -> None:
    proto = models.build(models.SHARED_WEIGHT)
    proto.metadata_props.add(key="character", value="abc")
    proto.producer_name = "someone"
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 7  # it is 3
    path = models.saved(proto, tmp_path)

    result = normalise(path, [models.feed(x=(3, 4))])

    written = ir.to_proto(result.model)
    assert [(p.key, p.value) for p in written.metadata_props] == [("character", "abc")]
    assert written.producer_name == "someone"
    assert written.graph.output[0] == proto.graph.output[0]


def test_external_weights_stay_mapped(tmp_path: Path) -> None:
    text = """
    g (float[N,16] x) => (float[N,16] y) <float[16,16] w> {
      i = Identity (x)
      a = MatMul (i, w)
      k = Identity (a)
      y = Relu (k)
    }"""
    io.write(models.read(text, tmp_path), tmp_path / "m.onnx", external=True)
    given = models.feed(x=(3, 16))

    result = normalise(tmp_path / "m.onnx", [given])

    assert models.operators(result.model) == ["MatMul", "Relu"]
    assert isinstance(result.model.graph.initializers["w"].const_value, ir.ExternalTensor)
    np.testing.assert_array_equal(
        models.outputs(result.model, given)["y"], models.outputs(tmp_path / "m.onnx", given)["y"]
    )


def test_a_bias_a_normalization_and_a_scale_in_a_row_all_fold(tmp_path: Path) -> None:
    text = """
    g (float[N,3,8,8] x) => (float[N,4,8,8] y)
    <float[3,4,3,3] v, float[1,4,1,1] b, float[4] gamma, float[4] beta, float[4] mean,
     float[4] var = {1, 2, 3, 4}, float[4,1,1] c> {
      k = ConvTranspose <pads = [1,1,1,1]> (x, v)
      a = Add (k, b)
      n = BatchNormalization (a, gamma, beta, mean, var)
      y = Mul (n, c)
    }"""
    path = models.saved(models.build(text), tmp_path)

    result = normalise(path, [models.feed(x=(2, 3, 8, 8))])

    assert models.operators(result.model) == ["ConvTranspose"]
    assert sorted(models.constants(result.model)) == ["v", "v.bias"]


STORED = {
    "cast and scale": (
        "<float s = {0.1}>", "f = Cast <to = 1> (q)  v = Mul (f, s)", ["Cast", "Mul", "MatMul"]),
    "dequantized": (
        "<float s = {0.1}>", "v = DequantizeLinear (q, s)", ["DequantizeLinear", "MatMul"]),
    "half": ("", "v = Cast <to = 1> (q)", ["Cast", "MatMul"]),
}  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_weights_stored_in_few_bits_are_not_unpacked(tmp_path: Path, name: str) -> None:
    scale, chain, operators = STORED[name]
    body = f"{scale} {{ {chain}  y = MatMul (x, v) }}"
    proto = models.build(f"g (float[N,64] x) => (float[N,64] y) {body}")
    stored = np.arange(4096).reshape(64, 64) % 15 - 7
    dtype = np.int8 if scale else np.float16
    proto.graph.initializer.append(onnx.numpy_helper.from_array(stored.astype(dtype), "q"))
    path = models.saved(proto, tmp_path)

    result = normalise(path, [models.feed(x=(3, 64))])

    assert models.operators(result.model) == operators
    assert models.constants(result.model)["q"].dtype == dtype
    assert len(io.serialized(result.model)) <= path.stat().st_size + 64


# --- steps that go wrong ---


def report(step: str) -> tuple[Change, ...]:
    return (Change(step=step, subject="w", outcome="done", before="a", after="b"),)


def negate(model: ir.Model) -> tuple[Change, ...]:
    for _, value in walk.initializers(model):
        edit.set_value(value, -value.const_value.numpy())
    return report("negate")


def fail(model: ir.Model) -> tuple[Change, ...]:
    negate(model)
    raise KeyError("no rule for this")


def grow(model: ir.Model) -> tuple[Change, ...]:
    edit.add_initializer(model.graph, "ballast", np.zeros(1024, np.float32))
    return report("grow")


def rename_output(model: ir.Model) -> tuple[Change, ...]:
    model.graph.outputs[0].name = "other"
    return report("rename output")


def reshape(model: ir.Model) -> tuple[Change, ...]:
    axes = edit.add_initializer(model.graph, "axes", np.int64([0]))
    node = ir.Node("", "Unsqueeze", [model.graph.outputs[0], axes], outputs=[ir.Value(name="u")])
    model.graph.append(node)
    node.outputs[0].type = model.graph.outputs[0].type
    model.graph.outputs[0].name, node.outputs[0].name = "inner", model.graph.outputs[0].name
    model.graph.outputs[0] = node.outputs[0]
    return report("reshape")


def relu_to_abs(model: ir.Model) -> tuple[Change, ...]:
    for node in model.graph:
        node.op_type = {"Relu": "Abs"}.get(node.op_type, node.op_type)
    return report("relu to abs")


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (negate, r"output 'y' is off by [\d.]+, and [\d.e-]+ is allowed \(optimization off\)"),
        (fail, "it failed: 'no rule for this'"),
        (grow, r"the file would grow from \d+ to \d+ bytes"),
        (rename_output, r"it failed: outputs are \['other'\], and were \['y'\]"),
        (reshape, r"output 'y' is float32\[1, 3, 4\] instead of float32\[3, 4\]"),
    ],
)
def test_a_step_that_goes_wrong_is_undone_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: module.Step, reason: str
) -> None:
    path = models.saved(models.build(models.NO_SHAPE), tmp_path)
    monkeypatch.setattr(module, "STEPS", (step,))

    result = normalise(path, [models.feed(x=(3, 4))])

    (change,) = result.changes
    assert change.outcome == "undone"
    assert change.step == step.__name__.replace("_", " ")
    assert ir.to_proto(result.model).graph.node == ir.to_proto(io.read(path)).graph.node
    np.testing.assert_array_equal(
        models.constants(result.model)["w"], models.constants(io.read(path))["w"]
    )
    assert re.search(reason, change.after)


def test_a_fault_that_only_a_later_feed_shows_is_found_and_its_step_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { a = Identity (x) y = Relu (a) }"
    path = models.saved(models.build(text), tmp_path)
    positive = {"x": np.ones((2, 4), np.float32)}
    negative = {"x": -np.ones((2, 4), np.float32)}
    monkeypatch.setattr(module, "STEPS", (relu_to_abs, *module.STEPS))

    fooled = normalise(path, [positive])
    result = normalise(path, [positive, negative])

    assert models.operators(fooled.model) == ["Abs"]
    assert models.operators(result.model) == ["Relu"]
    assert [change.step for change in result.changes if change.outcome == "undone"] == [
        "relu to abs"
    ]


def test_no_feeds_is_an_error_of_the_caller(tmp_path: Path) -> None:
    path = models.saved(models.build(models.RESIDUAL), tmp_path)
    with pytest.raises(ValueError, match="at least one feed is needed"):
        normalise(path, [])


def test_a_feed_that_does_not_fit_is_said(tmp_path: Path) -> None:
    path = models.saved(models.build(models.RESIDUAL), tmp_path)
    with pytest.raises(ModelError, match="the model does not run"):
        normalise(path, [models.feed(x=(2, 5, 8, 8))])


def test_the_checker_binds_the_result_only_if_it_passed_the_original(tmp_path: Path) -> None:
    good, bad = (models.read(models.RESIDUAL, tmp_path) for _ in range(2))
    bad.graph[0].attributes.add(ir.AttrString("nonsense", "x"))

    module._verify(bad, bad)
    with pytest.raises(VerificationError, match="Unrecognized attribute: nonsense"):
        module._verify(good, bad)


# --- the comparison ---


@pytest.mark.parametrize(
    ("expected", "given", "reason"),
    [
        (np.float32([1, 2]), np.float32([1, 2.05]), ""),
        (np.float32([1, 2]), np.float32([1, 2.5]), "is off by 0.5, and 0.1 is allowed"),
        (np.float32([1, np.nan]), np.float32([1, np.nan]), ""),
        (np.float32([1, 2]), np.float32([1, np.nan]), "is off by inf, and 0.1 is allowed"),
        (np.float32([np.inf]), np.float32([np.inf]), ""),
        (np.float32([np.inf]), np.float32([-np.inf]), "is off by inf, and 0.1 is allowed"),
        (np.float32([1]), np.float64([1]), "is float64[1] instead of float32[1]"),
        (np.float32([1]), np.float32([[1]]), "is float32[1, 1] instead of float32[1]"),
        (np.int64([1, 2]), np.int64([1, 2]), ""),
        (np.int64([1, 2, 3]), np.int64([1, 5, 6]), "differs in 2 of 3 values"),
        (np.array([True]), np.array([False]), "differs in 1 of 1 values"),
    ],
)
def test_mismatch(expected: np.ndarray, given: np.ndarray, reason: str) -> None:
    assert equivalence._mismatch(expected, given, 0.1) == reason


def test_the_tolerance_is_four_times_the_noise_or_the_floor() -> None:
    off, default = np.float32([100, 0]), np.float32([100, 0.01])
    pair = {"off": [{"y": off}], "default": [{"y": default}]}
    assert equivalence._tolerance("y", pair) == pytest.approx(0.04)
    same = {"off": [{"y": off}], "default": [{"y": off}]}
    assert equivalence._tolerance("y", same) == pytest.approx(1e-3)
    whole = {"off": [{"y": np.int64([5])}], "default": [{"y": np.int64([6])}]}
    assert equivalence._tolerance("y", whole) == 0
