from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.errors import ProviderError
from onnxsqueeze.measure.placement import placement
from tests.measure.pairs import LINEAR, saved

CONV = """
<ir_version: 10, opset_import: ["" : 21]>
agraph (float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y)
{ c = Conv(x, w) y = Relu(c) }
"""
BRANCH = """
<ir_version: 10, opset_import: ["" : 21]>
agraph (bool c, float[2] x) => (float[2] y)
{
    y = If(c) <
        then_branch = g1 () => (float[2] a) { a = Sin(x) },
        else_branch = g2 () => (float[2] b) { d = Sin(x) b = Cos(d) }
    >
}
"""


def conv():
    model = ir.from_onnx_text(CONV)
    weight = np.random.default_rng(0).standard_normal((16, 16, 1, 1)).astype(np.float32)
    value = ir.Value(name="w", const_value=ir.tensor(weight, name="w"))
    value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape(weight.shape)
    node = next(iter(model.graph))
    node.replace_input_with(1, value)
    model.graph.initializers["w"] = value
    return model


def test_fusions_are_seen():
    found = placement(conv())

    # A Conv with its Relu is one node of one of ONNX Runtime's own domains, here blocked or not.
    assert sum(found.optimized_operators.values()) <= 3
    assert any(name.startswith("com.microsoft") for name in found.optimized_operators)
    assert "Relu" not in found.optimized_operators
    assert list(found.providers) == ["CPUExecutionProvider"]
    assert found.providers["CPUExecutionProvider"]["Conv"] == 1


def test_subgraphs_are_counted(tmp_path):
    found = placement(saved(tmp_path, "branch", BRANCH))

    assert found.optimized_operators == {"Cos": 1, "If": 1, "Sin": 2}
    assert found.providers == {"CPUExecutionProvider": {"Cos": 1, "If": 1, "Sin": 2}}


def test_a_build_that_does_not_tell_gives_the_session_s_provider(monkeypatch):
    class Silent:
        def get_providers(self):
            return ["CPUExecutionProvider"]

    monkeypatch.setattr("onnxsqueeze.runtime.ort.session", lambda *_, **__: Silent())
    monkeypatch.setattr("onnxsqueeze.runtime.ort.optimized", lambda _: ir.from_onnx_text(LINEAR))

    found = placement(ir.from_onnx_text(LINEAR))

    assert found.providers == {"CPUExecutionProvider": {"MatMul": 1}}


def test_a_provider_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ProviderError, match="NoSuchExecutionProvider was asked for"):
        placement(saved(tmp_path, "a", LINEAR), "NoSuchExecutionProvider")


def test_time_is_told_by_provider_and_kernel():
    x = np.zeros((1, 16, 8, 8), np.float32)
    found = placement(conv(), feed={"x": x})

    (provider,) = found.milliseconds
    assert provider == "CPUExecutionProvider"
    # A fused kernel keeps its operator's name, without the domain.
    assert "Conv" in found.milliseconds[provider]
    assert min(found.milliseconds[provider].values()) >= 0
    assert found.time_shares == {"CPUExecutionProvider": 1.0}


def test_a_node_with_subgraphs_is_not_counted_with_what_is_inside(tmp_path):
    feeds = {"x": np.ones(2, np.float32), "c": np.array(True)}
    path = saved(tmp_path, "branch", BRANCH)
    needed = {one.name for one in ir.load(path).graph.inputs}

    found = placement(path, feed={name: feeds[name] for name in needed})

    times = found.milliseconds["CPUExecutionProvider"]
    assert "If" not in times
    assert list(times) == ["Sin"]  # the branch that was taken


def test_without_a_feed_no_time_is_told(tmp_path):
    found = placement(saved(tmp_path, "a", LINEAR))
    assert (found.milliseconds, found.time_shares) == ({}, {})
