"""Graphs run by torch agree with ONNX Runtime: subgraphs, dynamic shapes, the shipped models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsqueeze.errors import DependencyError, ModelError
from onnxsqueeze.gradients.executor import Executor
from onnxsqueeze.graph import io
from tests.runtime.made import Array, made, random, run

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
EPS = float(np.finfo(np.float32).eps)

BRANCHES = """
g (float[N,4] x, bool c) => (float[N,4] y) <float[4,4] w, float[4,4] v> {
  h = MatMul (x, w)
  y = If (c) <
    then_branch = a () => (float[N,4] p) { r = Relu (h)  p = Add (r, x) },
    else_branch = b () => (float[N,4] q) { q = MatMul (h, v) }
  >
}"""
LOOP = """
g (float[4] x, int64 n) => (float[4] last, float[K,4] rows) <float[4] w> {
  go = Constant <value = bool {1}> ()
  last, rows = Loop (n, go, x) <
    body = b (int64 i, bool c, float[4] s) => (bool d, float[4] t, float[4] row) {
      d = Identity (c)
      t = Mul (s, w)
      row = Add (t, x)
    }
  >
}"""
SCAN = """
g (float[4] x, float[K,4] z) => (float[4] last, float[K,4] rows) {
  last, rows = Scan <
    num_scan_inputs = 1,
    body = b (float[4] s, float[4] one) => (float[4] t, float[4] row) {
      t = Add (s, one)
      row = Relu (t)
    }
  > (x, z)
}"""
DYNAMIC = """
g (float[N,T,6] x) => (float[N,T,6] y) <float[6,6] w> {
  s = Shape (x)
  zero = Constant <value = int64[1] {0}> ()
  two = Constant <value = int64[1] {2}> ()
  rest = Constant <value = int64[2] {2,3}> ()
  nt = Slice (s, zero, two)
  split = Concat <axis = 0> (nt, rest)
  h = MatMul (x, w)
  heads = Reshape (h, split)
  turned = Transpose <perm = [0, 2, 1, 3]> (heads)
  other = Transpose <perm = [0, 2, 3, 1]> (heads)
  scores = MatMul (turned, other)
  p = Softmax (scores)
  mixed = MatMul (p, turned)
  back = Transpose <perm = [0, 2, 1, 3]> (mixed)
  y = Reshape (back, s)
}"""


def agree(text: str, feed: dict[str, Any], terms: int) -> None:
    """Every output within the rounding of sums of ``terms`` products of numbers around 1."""
    model = made(text)
    wanted = run(model, feed)
    for name, value in Executor(model).run(feed).items():
        size = float(np.abs(wanted[name]).max())
        np.testing.assert_allclose(value.numpy(), wanted[name], rtol=0, atol=terms * EPS * size)


@pytest.mark.parametrize("taken", [True, False])
def test_branches_see_what_is_around_them(taken: bool) -> None:
    agree(BRANCHES, {"x": random(3, 4), "c": np.asarray(taken)}, terms=4 * 8)


@pytest.mark.parametrize("steps", [1, 3])
def test_loops_carry_their_state_and_stack_rows(steps: int) -> None:
    agree(LOOP, {"x": random(4), "n": np.asarray(steps, np.int64)}, terms=4)


def test_scans_take_one_slice_at_a_time() -> None:
    agree(SCAN, {"x": random(4), "z": random(5, 4, seed=1)}, terms=5)


@pytest.mark.parametrize("length", [1, 5])
def test_shapes_that_are_computed_follow_the_feed(length: int) -> None:
    # Three products in a row of 6, 3 and up to 5 terms, and the softmax between them, by whose
    # exponents an error of its scores of size up to 30 grows.
    agree(DYNAMIC, {"x": random(2, length, 6)}, terms=30 * (6 + 3 + 5))


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp"])
def test_shipped_models_agree(name: str) -> None:
    folder = ROOT / "models" / name
    model = io.read(folder / "model.onnx")
    with np.load(folder / "eval.npz") as held:
        feed = {str(v.name): held[str(v.name)][0] for v in model.graph.inputs}
    wanted = run(model, feed)
    for output, value in Executor(model).run(feed).items():
        # Ten layers of at most 1152 terms whose signs differ: the error grows with their root.
        bound = 10 * np.sqrt(1152) * EPS * np.abs(wanted[output]).max()
        np.testing.assert_allclose(value.numpy(), wanted[output], rtol=0, atol=bound)


def test_values_inside_and_other_weights() -> None:
    model = made(BRANCHES, w=np.eye(4, dtype=np.float32))
    x = np.abs(random(3, 4))
    feed: dict[str, Array] = {"x": x, "c": np.asarray(True)}
    doubled = torch.from_numpy(2 * np.eye(4, dtype=np.float32))
    found = Executor(model).run(feed, ["h", "y"], {"w": doubled})
    assert np.array_equal(found["h"].numpy(), 2 * x)
    assert np.array_equal(found["y"].numpy(), 2 * x + x)


def test_a_kernel_that_refuses_is_named() -> None:
    model = made("g (float[N,4] x) => (float[N,2] y) <float[4,2] w> { y = MatMul (x, w) }")
    with pytest.raises(
        ModelError, match=r"torch does not compute MatMul[\s\S]*\[3, 5\], \[4, 2\]"
    ):
        Executor(model).run({"x": random(3, 5)})


def test_without_torch_the_install_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("g (float[N,4] x) => (float[N,2] y) <float[4,2] w> { y = MatMul (x, w) }")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DependencyError, match=r"pip install 'onnxsqueeze\[torch\]'") as raised:
        Executor(model)
    assert raised.value.exit_code == 8
