from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.facts.store import Store
from onnxsqueeze.measure.grams import grams
from onnxsqueeze.measure.sensitivity import sensitivity
from onnxsqueeze.measure.thin_curves import FRACTIONS, thin_curves
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.runtime.made import made, random

TEXT = """
g (float[N,16] x) => (float[N,24] y) <float[16,64] w, float[64,24] v, float[24,24] u> {
  h = MatMul (x, w)
  r = Relu (h)
  k = MatMul (r, v)
  y = MatMul (k, u)
}"""


def measured(folder, damage=None):
    model, given = made(TEXT), [{"x": random(200, 16, seed=seed)} for seed in range(3)]
    found, store = weights(model)[0], Store(folder)
    seen = grams(model, found, given, measured_shapes(model, given[0]), store=store, key={})
    damage = damage or sensitivity(model, found, given)
    return thin_curves(found, seen, damage, store=store, key={}), damage


def test_curves_rise_to_less_than_the_whole_output_and_double_with_the_damage(tmp_path):
    curves, damage = measured(tmp_path / "a")
    assert curves.keys() == {"w", "v", "u"}
    for curve in curves.values():
        assert tuple(curve) == FRACTIONS
        assert (np.diff(list(curve.values())) > 0).all()
    twice, _ = measured(tmp_path / "b", {name: 2 * one for name, one in damage.items()})
    for name, curve in curves.items():
        assert list(twice[name].values()) == pytest.approx([2 * one for one in curve.values()])


def test_a_linear_last_weight_loses_what_its_curve_says(tmp_path):
    """The output is its product, so that the energy lost there is that of the output."""
    curves, _ = measured(tmp_path)
    # With all gone all is lost: the curve has to end under one, and bend upwards on its way.
    last = list(curves["u"].values())
    assert 0 < last[0] < last[-1] < 1
    assert last[-1] / FRACTIONS[-1] > last[0] / FRACTIONS[0]


def test_what_the_samples_do_not_reach_has_no_curve(tmp_path):
    curves, _ = measured(tmp_path, {"w": 0.0, "v": float("inf"), "u": 0.1})
    assert curves.keys() == {"u"}


def test_curves_are_found_again(tmp_path):
    first, _ = measured(tmp_path)
    again, _ = measured(tmp_path, {"w": 1.0, "v": 1.0, "u": 1.0})  # measured before, by key
    assert first == again
