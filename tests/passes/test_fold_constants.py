from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes.fold_constants import fold_constants
from tests import models


def graph(weight: str, chain: str) -> str:
    return f"g (float[N,16] x) => (float[] y) <{weight}> {{ {chain} y = MatMul (x, v) }}"


FOLDED = {
    "transpose": graph("float[16,16] w", "v = Transpose <perm = [1,0]> (w)"),
    "chain": graph("float[4,64] w, int64[2] s = {16, 16}", "a = Reshape (w, s) v = Neg (a)"),
    "narrowing": graph("double[16,16] w", "v = Cast <to = 1> (w)"),
    "two weights": graph("float[16,8] w, float[16,8] u", "v = Concat <axis = 1> (w, u)"),
}


@pytest.mark.parametrize("name", FOLDED)
def test_constant_chains_are_run_once(tmp_path: Path, name: str) -> None:
    model = models.read(FOLDED[name], tmp_path)
    given = models.feed(x=(3, 16))
    before = models.outputs(model, given)["y"]

    (change,) = fold_constants(model)

    assert change.outcome == "done"
    assert models.operators(model) == ["MatMul"]
    assert list(models.constants(model)) == ["v"]
    verify(model)
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before)
    assert fold_constants(model) == ()


GROWING = {
    "widening": graph("float16[16,16] w", "v = Cast <to = 1> (w)"),
    "expansion": graph("float[16,1] w, int64[2] s = {16, 16}", "v = Expand (w, s)"),
    "read elsewhere": graph(
        "float[16,16] w", "u = MatMul (x, w) v = Transpose <perm = [1,0]> (w)"
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_what_would_store_more_is_left_alone(tmp_path: Path, name: str) -> None:
    model = models.read(GROWING[name], tmp_path)
    before = models.operators(model)

    (change,) = fold_constants(model)

    assert change.outcome == "left alone"
    assert "its result takes 1024 bytes and frees" in change.after
    assert models.operators(model) == before


STORED = {
    "dequantized": graph(
        "int8[16,16] q, float s = {0.1}", "v = DequantizeLinear (q, s)"
    ),
    "integers": graph("int8[16,16] q", "a = Neg (q) v = Cast <to = 1> (a)"),
    "random": graph("float[16,16] w", "v = RandomNormalLike (w)"),
    "not constant": graph("float[16] w", "a = Mul (x, w) v = Transpose (a)"),
}  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_what_is_meant_as_it_is_is_not_touched(tmp_path: Path, name: str) -> None:
    model = models.read(STORED[name], tmp_path)
    before = models.operators(model)
    assert fold_constants(model) == ()
    assert models.operators(model) == before


def test_a_branch_keeps_its_own_constants(tmp_path: Path) -> None:
    text = models.SUBGRAPH.replace("<float[4,4] w>", "<float[4,4] w, float[4] b>").replace(
        "k = Constant <value = float[4] {1, 2, 3, 4}> ()", "k = Neg (b)"
    )
    model = models.read(text, tmp_path)
    given = {**models.feed(x=(3, 4)), "c": np.array(False)}
    before = models.outputs(model, given)["y"]

    fold_constants(model)

    verify(model)
    assert models.operators(model) == ["If", "MatMul", "Add"]
    assert sorted(models.constants(model)) == ["k", "w"]
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before)


def test_a_node_that_does_not_run_is_left_alone_with_the_reason(tmp_path: Path) -> None:
    text = graph("float[4,64] w, int64[2] s = {3, 7}", "v = Reshape (w, s)")
    (change,) = fold_constants(models.read(text, tmp_path))
    assert change.outcome == "left alone"
    assert "does not run" in change.after or "does not load" in change.after
