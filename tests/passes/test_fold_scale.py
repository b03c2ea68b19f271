from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes.fold_scale import fold_scale
from tests import models


def graph(producer: str, weights: str, follower: str, shape: str = "N,3,8,8") -> str:
    return f"""
    g (float[{shape}] x) => (float[] y) <{weights}> {{
      h = {producer}
      y = {follower}
    }}"""


CONV = "float[4,3,3,3] w"
FOLDED = {
    "add per channel": graph("Conv (x, w)", f"{CONV}, float[1,4,1,1] c", "Add (h, c)"),
    "add to a bias": graph("Conv (x, w, b)", f"{CONV}, float[4] b, float[4,1,1] c", "Add (h, c)"),
    "constant first": graph("Conv (x, w)", f"{CONV}, float[1,4,1,1] c", "Add (c, h)"),
    "one number for all": graph("Conv (x, w)", f"{CONV}, float c = {{0.5}}", "Mul (h, c)"),
    "scale and bias": graph("Conv (x, w, b)", f"{CONV}, float[4] b, float[4,1,1] c", "Mul (h, c)"),
    "gemm": graph("Gemm (x, w)", "float[3,4] w, float[4] c", "Add (h, c)", "N,3"),
    "gemm beta": graph(
        "Gemm <beta = 2.0> (x, w, b)", "float[3,4] w, float[4] b, float[4] c", "Add (h, c)", "N,3"
    ),
    "matmul scale": graph("MatMul (x, w)", "float[3,4] w, float[4] c", "Mul (h, c)", "N,3"),
    "batched matmul scale": graph(
        "MatMul (x, w)", "float[3,4] w, float[4] c", "Mul (h, c)", "N,5,3"
    ),
    "transposed grouped": graph(
        "ConvTranspose <group = 2> (x, w)",
        "float[4,3,2,2] w, float[6,1,1] c",
        "Mul (h, c)",
        "N,4,8,8",
    ),
}  # fmt: skip


def shape_of(text: str) -> tuple[int, ...]:
    dims = text[text.index("float[N,") + len("float[N,") :].split("]", maxsplit=1)[0]
    return (2, *(int(dim) for dim in dims.split(",")))


@pytest.mark.parametrize("name", FOLDED)
def test_the_follower_goes_and_the_result_stays(tmp_path: Path, name: str) -> None:
    text = FOLDED[name]
    model = models.read(text, tmp_path)
    given = models.feed(x=shape_of(text))
    before = models.outputs(model, given)["y"]

    (change,) = fold_scale(model)

    assert change.outcome == "done"
    assert len(models.operators(model)) == 1
    verify(model)
    after = models.outputs(model, given)["y"]
    # At most 27 products of values of order 1, and two roundings: 100 units in the last place.
    np.testing.assert_allclose(after, before, rtol=0, atol=100 * 2**-24 * np.abs(before).max())
    assert fold_scale(model) == ()


NO_CANDIDATES = {
    "grows the output": graph("Conv (x, w)", "float[1,3,3,3] w, float[1,4,1,1] c", "Add (h, c)"),
    "along rows": graph("Conv (x, w)", f"{CONV}, float[1,1,6,1] c", "Add (h, c)"),
    "along columns": graph("Conv (x, w)", "float[6,3,3,3] w, float[6] c", "Mul (h, c)"),
    "raises the rank": graph("Gemm (x, w)", "float[3,4] w, float[1,1,4] c", "Mul (h, c)", "N,3"),
    "matmul bias": graph("MatMul (x, w)", "float[3,4] w, float[4] c", "Add (h, c)", "N,3"),
    "not constant": graph("Conv (x, w)", CONV, "Mul (h, h)"),
    "computed weight": graph("Conv (x, v)", f"{CONV}, float c = {{2}}", "Mul (h, c)").replace(
        "h = ", "v = Neg (w)\nh = "
    ),
}


@pytest.mark.parametrize("name", NO_CANDIDATES)
def test_what_is_no_scale_or_shift_of_channels_is_not_touched(tmp_path: Path, name: str) -> None:
    model = models.read(NO_CANDIDATES[name], tmp_path)
    before = models.operators(model)
    assert fold_scale(model) == ()
    assert models.operators(model) == before


def test_a_shared_weight_is_shifted_but_not_scaled(tmp_path: Path) -> None:
    text = """
    g (float[N,3,8,8] x) => (float[] y, float[] z)
    <float[4,3,1,1] w, float[1,4,1,1] c, float[1,4,1,1] d> {
      a = Conv (x, w)
      b = Conv (x, w)
      y = Mul (a, c)
      z = Add (b, d)
    }"""
    model = models.read(text, tmp_path)
    given = models.feed(x=(2, 3, 8, 8))
    before = models.outputs(model, given)

    scaled, shifted = fold_scale(model)

    assert scaled.after == "weight 'w' is read elsewhere too"
    assert shifted.outcome == "done"
    after = models.outputs(model, given)
    np.testing.assert_array_equal(after["y"], before["y"])
    np.testing.assert_allclose(after["z"], before["z"], rtol=0, atol=1e-6)


def test_a_shared_bias_gets_a_copy(tmp_path: Path) -> None:
    text = """
    g (float[N,3,8,8] x) => (float[] y, float[] z)
    <float[4,3,1,1] w, float[4,3,1,1] v, float[4] b, float[1,4,1,1] c> {
      h = Conv (x, w, b)
      z = Conv (x, v, b)
      y = Add (h, c)
    }"""
    model = models.read(text, tmp_path)
    given = models.feed(x=(2, 3, 8, 8))
    before = models.outputs(model, given)

    (change,) = fold_scale(model)

    assert change.outcome == "done"
    verify(model)
    after = models.outputs(model, given)
    np.testing.assert_array_equal(after["z"], before["z"])
    np.testing.assert_allclose(after["y"], before["y"], rtol=0, atol=1e-6)


HALF = """
g (float16[N,3] x) => (float16[] y) <float16[3,4] w, float16[4] c> {
  h = MatMul (x, w)
  y = Mul (h, c)
}"""


def test_half_weights_are_rounded_once_more_and_no_worse(tmp_path: Path) -> None:
    model = models.read(HALF, tmp_path)
    x = models.feed(x=(5, 3))["x"].astype(np.float16)
    before = models.outputs(model, {"x": x})["y"].astype(np.float64)
    exact = {name: values.astype(np.float64) for name, values in models.constants(model).items()}

    (change,) = fold_scale(model)

    assert change.outcome == "done"
    after = models.outputs(model, {"x": x})["y"].astype(np.float64)
    # Half a unit in the last place of each weight, and of the two outputs that either has.
    half = np.finfo(np.float16).eps / 2
    terms = np.abs(x.astype(np.float64)) @ np.abs(exact["w"] * exact["c"])
    assert (np.abs(after - before) <= half * (terms + 3 * np.abs(before)) + 1e-7).all()


def test_half_weights_that_would_leave_their_range_stay(tmp_path: Path) -> None:
    model = models.read(HALF, tmp_path)
    # Products of about 1e-6 are not normal numbers: steps are 6e-8.
    model.graph.initializers["c"].const_value = ir.tensor(np.full(4, 1e-6, np.float16), name="c")
    (change,) = fold_scale(model)
    assert (change.outcome, change.after) == (
        "left alone",
        "weight 'w' would leave the range of half precision",
    )
