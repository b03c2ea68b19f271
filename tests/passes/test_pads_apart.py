"""Pads of convolutions over columns as nodes: the same outputs, and nothing that fuses again."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes.pads_apart import pads_apart
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.runtime.made import made, random, run


def column(attributes: str, x: str = "2,3,16,1", w: str = "4,3,5,1", opset: int = 21) -> ir.Model:
    text = f"""
    g (float[{x}] x) => (float[] y) <float[{w}] w, float[4] b> {{
      y = Conv <{attributes}> (x, w, b)
    }}"""
    return made(text, opset)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def spelled(model: ir.Model, *shape: int) -> tuple[ir.Model, int]:
    other = model.clone()
    return other, len(pads_apart(other, measured_shapes(model, {"x": random(*shape)})))


@pytest.mark.parametrize(
    "attributes",
    [
        "pads = [1, 0, 3, 0]",
        "pads = [0, 0, 2, 0]",
        'auto_pad = "SAME_UPPER"',
        "pads = [4, 0, 4, 0], dilations = [2, 1]",
    ],
)
@pytest.mark.parametrize("optimization", ["off", "default"])
def test_a_column_is_padded_by_a_node_with_the_same_outputs(
    attributes: str, optimization: str
) -> None:
    model = column(attributes)
    other, count = spelled(model, 2, 3, 16, 1)
    assert (count, operators(other)) == (1, ["Pad", "Conv"])
    verify(other)
    feed = {"x": random(2, 3, 16, 1, seed=5)}
    before, after = (run(one, feed, optimization)["y"] for one in (model, other))
    # 15 products a sum: kernels may add them in another order.
    bound = 15**2 * 2.0**-24 * float(np.abs(random(4, 3, 5, 1)).max()) * np.abs(feed["x"]).max()
    np.testing.assert_allclose(after, before, rtol=0, atol=4 * bound)


def test_onnx_runtime_leaves_them_apart() -> None:
    other, _ = spelled(column("pads = [2, 0, 2, 0]"), 2, 3, 16, 1)
    assert operators(ort.optimized(other)).count("Pad") == 1


@pytest.mark.parametrize(
    ("attributes", "x", "w"),
    [
        ("pads = [0, 0, 0, 0]", "2,3,16,1", "4,3,5,1"),
        ("pads = [2, 1, 2, 1]", "2,3,16,1", "4,3,5,3"),  # across, too
        ("pads = [2, 0, 2, 0]", "2,3,16,2", "4,3,5,1"),  # no column
        ("pads = [2, 0, 2, 0], strides = [2, 1]", "2,3,16,1", "4,3,5,1"),
        ("pads = [2, 0, 2, 0]", "2,3,3,1", "4,3,5,1"),  # more pads than column
        ("pads = [2, 2]", "2,3,16", "4,3,5"),
    ],
)
def test_others_stay_as_they_are(attributes: str, x: str, w: str) -> None:
    other, count = spelled(column(attributes, x, w), *map(int, x.split(",")))
    assert (count, operators(other)) == (0, ["Conv"])


def test_an_opset_whose_pads_would_be_fused_is_left_alone() -> None:
    _, count = spelled(column("pads = [2, 0, 2, 0]", opset=17), 2, 3, 16, 1)
    assert count == 0


def test_integer_kernels_pad_themselves() -> None:
    model = made(
        """
        g (float[2,3,16,1] x) => (float[] y)
        <float[4,3,5,1] w, float s = {0.1}, uint8 z = {128}> {
          q = QuantizeLinear (x, s, z)
          d = DequantizeLinear (q, s, z)
          y = Conv <pads = [2, 0, 2, 0]> (d, w)
        }"""
    )
    assert spelled(model, 2, 3, 16, 1)[1] == 0


def test_a_second_run_changes_nothing() -> None:
    other, _ = spelled(column("pads = [2, 0, 2, 0]"), 2, 3, 16, 1)
    assert spelled(other, 2, 3, 16, 1)[1] == 0
