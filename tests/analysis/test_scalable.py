from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.scalable import NotScalable, Part, Scalable, scalable
from onnxsqueeze.runtime.shapes import measured_shapes
from tests import models


def groups(
    text: str, tmp_path: Path, **shapes: tuple[int, ...]
) -> tuple[tuple[Scalable, ...], tuple[NotScalable, ...]]:
    model = models.read(text, tmp_path)
    return scalable(model, measured_shapes(model, models.feed(1, **shapes)))


def by_name(found: tuple[Scalable, ...]) -> dict[str, Scalable]:
    return {group.name: group for group in found}


def test_a_residual_sum_is_scaled_with_all_that_makes_and_reads_it(tmp_path: Path) -> None:
    found, others = groups(models.RESIDUAL, tmp_path, x=(2, 3, 8, 8))
    assert not others
    group = by_name(found)["r"]
    assert not group.obstacle
    assert set(group.parts) == {
        Part("w1", 0, is_divided=True),
        Part("b1", 0, is_divided=True),
        Part("w2", 1, is_divided=False),
        Part("w2", 0, is_divided=True),
        Part("w3", 1, is_divided=False),
    }
    assert set(group.tensors) == {"a", "r", "c", "s", "p", "f"}
    assert set(group.readers) == {"w2", "w3"}


def test_a_depthwise_weight_takes_the_factor_back_on_its_channels(tmp_path: Path) -> None:
    found, _ = groups(
        """g (float[N,3,8,8] x) => (float[N,6,6,6] y)
        <float[4,3,1,1] a, float[4,1,3,3] d, float[6,4,1,1] p> {
          h = Conv (x, a)
          k = Conv <group = 4> (h, d)
          r = Relu (k)
          y = Conv (r, p)
        }""",
        tmp_path,
        x=(1, 3, 8, 8),
    )
    named = by_name(found)
    assert set(named["h"].parts) == {
        Part("a", 0, is_divided=True),
        Part("d", 0, is_divided=False),
    }
    assert set(named["r"].parts) == {
        Part("d", 0, is_divided=True),
        Part("p", 1, is_divided=False),
    }


def test_readers_of_one_normalization_share_its_gain(tmp_path: Path) -> None:
    found, _ = groups(
        """g (float[N,5,4] x) => (float[N,5,4] y, float[N,5,3] z)
        <float[4] g, float[4] b, float[4,4] q, float[4,3] k> {
          n = LayerNormalization (x, g, b)
          y = MatMul (n, q)
          z = MatMul (n, k)
        }""",
        tmp_path,
        x=(2, 5, 4),
    )
    (group,) = found
    assert not group.obstacle
    assert set(group.parts) == {
        Part("g", 0, is_divided=True),
        Part("b", 0, is_divided=True),
        Part("q", 0, is_divided=False),
        Part("k", 0, is_divided=False),
    }


def test_a_written_out_normalization_takes_it_in_its_last_two_nodes(tmp_path: Path) -> None:
    found, _ = groups(
        """g (float[N,4] x) => (float[N,3] y) <float[4] g, float[4] b, float[4,3] w> {
          t = Tanh (x)
          s = Mul (t, g)
          n = Add (s, b)
          y = MatMul (n, w)
        }""",
        tmp_path,
        x=(2, 4),
    )
    (group,) = found
    assert not group.obstacle
    assert {part.name for part in group.parts} == {"g", "b", "w"}


def test_the_larger_factor_of_a_product_is_scaled_and_the_gate_is_not(tmp_path: Path) -> None:
    found, _ = groups(
        """g (float[N,3,4,4] x) => (float[N,2,4,4] y)
        <float[4,3,1,1] a, float[4,3,1,1] e, float[2,4,1,1] w> {
          h = Conv (x, a)
          k = Conv (x, e)
          p = GlobalAveragePool (k)
          s = Sigmoid (p)
          m = Mul (s, h)
          y = Conv (m, w)
        }""",
        tmp_path,
        x=(2, 3, 4, 4),
    )
    group = by_name(found)["m"]
    assert {part.name for part in group.parts} == {"a", "w"}


OBSTACLES = {
    "an output": (
        "(float[N,3] h, float[N,2] y) <float[4,3] a, float[3,2] w>",
        "h = MatMul (x, a)",
        "h",
        "is an input or output of the model",
    ),
    "a nonlinear node": (
        "(float[N,2] y) <float[4,3] a, float[3,2] w>",
        "k = MatMul (x, a)\n h = Sigmoid (k)",
        "h",
        "Sigmoid does not go with every scale",
    ),
    "another reader": (
        "(float[N,2] y, float[N,3] z) <float[4,3] a, float[3,2] w>",
        "h = MatMul (x, a)\n z = Tanh (h)",
        "h",
        "Tanh does not go with every scale",
    ),
    "a weight read twice": (
        "(float[N,2] y, float[N,3] z) <float[4,3] a, float[3,2] w>",
        "h = MatMul (x, a)\n z = MatMul (x, a)",
        "h",
        "'a' is read elsewhere too",
    ),
    "entries that mix": (
        "(float[N,2] y) <float[4,6] a, float[3,2] w>",
        "k = MatMul (x, a)\n s = Constant <value = int64[2] {-1, 3}> ()\n h = Reshape (k, s)",
        "h",
        "Reshape is broadcast, or mixes entries",
    ),
    "one number for all": (
        "(float[N,2] y) <float[4,3] a, float[1] c, float[3,2] w>",
        "k = MatMul (x, a)\n h = Add (k, c)",
        "h",
        "input B of Add is broadcast",
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_stands_against_it_is_said_and_only_the_reader_is_scaled(
    tmp_path: Path, name: str
) -> None:
    head, body, tensor, reason = OBSTACLES[name]
    text = f"g (float[N,4] x) => {head} {{ {body}\n y = MatMul (h, w) }}"
    found, _ = groups(text, tmp_path, x=(2, 4))
    group = by_name(found)[tensor]
    assert reason in group.obstacle
    assert group.parts == (Part("w", 0, is_divided=False),)
    assert group.tensors == (tensor,)


def test_a_shared_reader_cannot_be_scaled_at_all(tmp_path: Path) -> None:
    found, others = groups(models.SHARED_WEIGHT, tmp_path, x=(3, 4))
    assert not found
    assert {one.name: one.reason for one in others} == {
        "x": "'w' is read elsewhere too",
        "r": "'w' is read elsewhere too",
    }


def test_a_grouped_convolution_mixes_its_inputs(tmp_path: Path) -> None:
    found, others = groups(models.GROUPED, tmp_path, x=(2, 4, 8, 8))
    assert not found
    assert "in groups" in others[0].reason


def test_readers_in_a_subgraph_go_on_reading_what_they_read(tmp_path: Path) -> None:
    found, _ = groups(
        """g (float[N,4] x) => (float[N,4] y, float[N,4] z)
        <float[4,4] w, float[4,4] v> {
          c = Constant <value = bool {1}> ()
          h = Tanh (x)
          y = MatMul (h, v)
          z = If (c) <
            then_branch = t_g () => (float[N,4] t) { t = MatMul (h, w) },
            else_branch = e_g () => (float[N,4] e) { e = Identity (h) }
          >
        }""",
        tmp_path,
        x=(2, 4),
    )
    (group,) = found
    assert group.obstacle
    assert group.readers == ("v",)


@pytest.mark.parametrize(
    "nodes",
    [
        "h = MatMul (x, a)  k = com.microsoft.QuickGelu (h)  y = MatMul (k, b)",
        "h = MatMul (x, a)  k = com.microsoft.QuickGelu (h)  s = Add (h, k)  y = MatMul (s, b)",
    ],
)
def test_operators_without_a_schema_stand_in_the_way(nodes: str) -> None:
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=(4, 6)), "b": rng.normal(size=(6, 3))}
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>\n'
        f"g (float[2,4] x) => (float[2,3] y) {{ {nodes} }}",
        initializers=[ir.tensor(v.astype(np.float32), name=n) for n, v in values.items()],
    )
    shapes = measured_shapes(model, {"x": np.ones((2, 4), np.float32)})
    found, others = scalable(model, shapes)
    said = [one.obstacle for one in found] + [one.reason for one in others]
    assert any("QuickGelu of com.microsoft is not known here" in words for words in said)
