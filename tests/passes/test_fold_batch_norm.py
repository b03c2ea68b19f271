from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes.fold_batch_norm import fold_batch_norm
from tests import models

STATISTICS = (
    "float[{m}] gamma, float[{m}] beta, float[{m}] mean,"
    "float[{m}] var = {{{ones}}}"
)  # fmt: skip


def graph(producer: str, weights: str, channels: int, shape: str, end: str = "") -> str:
    statistics = STATISTICS.format(m=channels, ones=", ".join(["1.5"] * channels))
    return f"""
    g (float[{shape}] x) => (float[] y {", float[] z" if end else ""}) <{weights}, {statistics}> {{
      h = {producer}
      y = BatchNormalization <epsilon = 0.1> (h, gamma, beta, mean, var)
      {end}
    }}"""


FOLDED = {
    "conv": graph("Conv (x, w)", "float[4,3,3,3] w", 4, "N,3,8,8"),
    "conv with bias": graph("Conv (x, w, b)", "float[4,3,3,3] w, float[4] b", 4, "N,3,8,8"),
    "grouped conv": graph("Conv <group = 2> (x, w)", "float[4,3,1,1] w", 4, "N,6,5,5"),
    "conv 1d": graph("Conv (x, w)", "float[4,3,3] w", 4, "N,3,8"),
    "transposed": graph("ConvTranspose (x, w)", "float[3,4,2,2] w", 4, "N,3,5,5"),
    "transposed grouped": graph(
        "ConvTranspose <group = 2> (x, w, b)", "float[4,3,2,2] w, float[6] b", 6, "N,4,5,5"
    ),
    "gemm": graph("Gemm (x, w)", "float[3,4] w", 4, "N,3"),
    "gemm transposed, alpha, beta": graph(
        "Gemm <transB = 1, alpha = 0.5, beta = 3.0> (x, w, b)",
        "float[4,3] w, float[4] b",
        4,
        "N,3",
    ),
    "gemm with one bias for all": graph("Gemm (x, w, b)", "float[3,4] w, float[1] b", 4, "N,3"),
}


def shape_of(text: str) -> tuple[int, ...]:
    dims = text[text.index("float[N,") + len("float[N,") :].split("]", maxsplit=1)[0]
    return (2, *(int(dim) for dim in dims.split(",")))


@pytest.mark.parametrize("name", FOLDED)
def test_the_node_goes_and_the_result_stays(tmp_path: Path, name: str) -> None:
    text = FOLDED[name]
    model = models.read(text, tmp_path)
    given = models.feed(x=shape_of(text))
    before = models.outputs(model, given)["y"]

    (change,) = fold_batch_norm(model)

    assert change.outcome == "done"
    assert len(models.operators(model)) == 1
    verify(model)
    after = models.outputs(model, given)["y"]
    # At most 27 products of values of order 1, and two roundings: 100 units in the last place.
    np.testing.assert_allclose(after, before, rtol=0, atol=100 * 2**-24 * np.abs(before).max())
    assert fold_batch_norm(model) == ()


ALONE = {
    "is read elsewhere too": graph(
        "Conv (x, w)", "float[4,3,3,3] w", 4, "N,3,8,8", end="z = Relu (h)"
    ),
    "weight 'w' is read elsewhere too": graph(
        "Conv (x, w)", "float[4,3,3,3] w", 4, "N,3,8,8", end="z = Conv (x, w)"
    ),
    "is made by no Conv or Gemm": graph("Relu (x)", "float unused", 4, "N,4,8,8"),
    "bias 'c' is computed": graph(
        "Conv (x, w, c)", "float[4,3,3,3] w, float[4] b", 4, "N,3,8,8"
    ).replace("h = Conv", "c = Neg (b)\nh = Conv"),
}


@pytest.mark.parametrize("reason", ALONE)
def test_what_cannot_be_folded_stays_with_a_reason(tmp_path: Path, reason: str) -> None:
    text = ALONE[reason].replace("float unused, ", "")
    model = models.read(text, tmp_path)
    before = models.operators(model)

    (change,) = fold_batch_norm(model)

    assert (change.outcome, change.before) == ("left alone", "BatchNormalization")
    assert reason in change.after
    assert models.operators(model) == before


def test_a_node_whose_input_is_an_output_stays(tmp_path: Path) -> None:
    text = FOLDED["conv"].replace("(float[] y )", "(float[] y, float[] h)")
    (change,) = fold_batch_norm(models.read(text, tmp_path))
    assert change.after == "'h' is read elsewhere too"


def test_a_negative_variance_is_not_folded_into_nan(tmp_path: Path) -> None:
    text = FOLDED["conv"].replace("1.5", "-1.5")
    (change,) = fold_batch_norm(models.read(text, tmp_path))
    assert change.after == "its constants are not finite"


def test_training_mode_stays(tmp_path: Path) -> None:
    text = FOLDED["conv"].replace("epsilon = 0.1", "training_mode = 1").replace(
        "y = Batch", "y, m1, v1 = Batch"
    )  # fmt: skip
    (change,) = fold_batch_norm(models.read(text, tmp_path))
    assert change.after == "it is in training mode"


def test_a_model_without_the_operator_is_not_touched(tmp_path: Path) -> None:
    assert fold_batch_norm(models.read(models.RESIDUAL, tmp_path)) == ()
