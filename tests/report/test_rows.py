"""Rows that follow from one decision or fact: ranges with their values, widths, frozen axes."""

from __future__ import annotations

import numpy as np

from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.ranges import TensorRange
from onnxsqueeze.numerics.histogram import Histogram, histogram
from onnxsqueeze.plan.types import ActivationChoice, Plan, ScalingChoice, UnitsChoice
from onnxsqueeze.report.rows import (
    DRAWN,
    activation_rows,
    distribution_of,
    frozen_rows,
    scaling_rows,
    width_rows,
)
from tests.models import read

NETWORK = """
g (float[N,8] x) => (float[N,6] y) <float[8,64] w1, float[64,6] w2> {
  a = MatMul (x, w1)
  r = Relu (a)
  y = MatMul (r, w2)
}"""
SHAPES = {"x": (1, 8), "w1": (8, 64), "a": (1, 64), "r": (1, 64), "w2": (64, 6), "y": (1, 6)}


def facts(**ranges):
    return Facts("0", None, SHAPES, (), {}, {}, ranges)


def seen(values):
    found = histogram(values)
    low, high = float(values.min()), float(values.max())
    return TensorRange(len(values), low, high, 0, found, found, np.zeros(0), np.zeros(0))


def test_counted_values_are_described_like_the_values_themselves():
    values = np.random.default_rng(0).normal(3.0, 2.0, 20_000)
    found = distribution_of(histogram(values))

    assert found.best_fit == "normal"
    # The quantiles lie within a bin of the values, so fitted means differ by no more than that.
    width = histogram(values).width
    middle = found.centers[int(np.argmax(found.fits["normal"]))]
    step = found.centers[1] - found.centers[0]
    assert abs(middle - values.mean()) <= width + step


def test_nothing_counted_has_no_distribution():
    assert distribution_of(Histogram(0, 0, np.zeros(4))) is None


def test_those_that_are_clipped_most_are_drawn():
    values = np.linspace(-8.0, 8.0, 4096)
    names = [f"t{k:02}" for k in range(DRAWN + 3)]
    grids = {
        name: ActivationChoice(low=-8.0 / (k + 1), high=8.0 / (k + 1), reason="a test")
        for k, name in enumerate(names)
    }
    plan = Plan(model_sha256="0", weights={}, activations=grids)
    rows = list(activation_rows(plan, facts(**{name: seen(values) for name in names})))

    assert [row.name for row in rows] == names
    assert [row.name for row in rows if row.distribution is None] == names[:3]
    assert (rows[0].minimum, rows[0].maximum) == (-8.0, 8.0)


def test_of_a_tensor_that_is_scaled_nothing_was_seen():
    grid = ActivationChoice(low=-1.0, high=1.0, reason="a test")
    scaling = ScalingChoice(steps=(0, 8), reason="a test")
    plan = Plan(
        model_sha256="0",
        weights={},
        activations={"x": grid, "y.scaled": grid, "z": grid},
        scalings={"x": scaling, "y": scaling},
    )
    values = np.linspace(-8.0, 8.0, 4096)
    x, y, z = activation_rows(plan, facts(x=seen(values), y=seen(values), z=seen(values)))
    for row in (x, y):
        assert (row.minimum, row.maximum, row.distribution) == (None, None, None)
    assert (z.minimum, z.maximum) == (-8.0, 8.0)


def test_widths_are_those_of_the_plan():
    units = {"a": UnitsChoice(kept=(0, 2, 3), count=8, reason="least error")}
    (row,) = width_rows(Plan(model_sha256="0", weights={}, units=units))

    assert (row.name, row.kept, row.count, row.reason) == ("a", 3, 8, "least error")


def test_scaled_axes_are_told_by_their_factors():
    scalings = {
        "a": ScalingChoice(steps=(-8, 0, 16), reason="by ranges"),
        "b": ScalingChoice(steps=(8,), inserted=True, reason="by activations"),
    }
    a, b = scaling_rows(Plan(model_sha256="0", weights={}, scalings=scalings))

    assert (a.name, a.entries, a.low, a.high, a.inserted) == ("a", 3, 0.5, 4.0, False)
    assert (b.entries, b.low, b.high, b.inserted, b.reason) == (
        1,
        2.0,
        2.0,
        True,
        "by activations",
    )


def test_frozen_axes_are_told_with_their_reason(tmp_path):
    rows = {(row.weight, row.axes): row.reason for row in frozen_rows(
        read(NETWORK, tmp_path), facts()
    )}  # fmt: skip

    assert rows == {
        ("w1", (0,)): "'x', axis 1: it is an input of the model",
        ("w2", (1,)): "'y', axis 1: it is an output of the model",
    }
