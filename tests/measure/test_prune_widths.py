from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.data import open_samples
from onnxsqueeze.graph.signature import signature
from onnxsqueeze.measure.fidelity import Reference, reference
from onnxsqueeze.measure.prune_moments import input_moments
from onnxsqueeze.measure.prune_readers import readers
from onnxsqueeze.measure.prune_widths import curves, multiple_of, removals, through, work
from onnxsqueeze.passes.unique_names import unique_names
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.measure.pruning import SliceCut, units
from tests.runtime.made import made, random

NET = """
g (float[N,8,6,6] x) => (float[N,5] y)
<float[16,8,3,3] w, float[16] b, float[16,16,3,3] v, float[16] c, float[5,16] u, float[5] d> {
  h = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  r = Relu (h)
  k = Conv <pads = [1, 1, 1, 1]> (r, v, c)
  s = Relu (k)
  p = GlobalAveragePool (s)
  f = Flatten (p)
  y = Gemm <transB = 1> (f, u, d)
}"""
UNITS = [
    units("r", 16, ("w", 0), ("b", 0), ("v", 1)),
    units("s", 16, ("v", 0), ("c", 0), ("u", 1), ("s", 1)),
]
PLACES = 36


def feeds(count: int = 12) -> list[dict[str, Any]]:
    return [{"x": random(4, 8, 6, 6, seed=seed)} for seed in range(count)]


def named(model: ir.Model) -> ir.Model:
    """Give the nodes names, as cleaning does; work is counted by them."""
    unique_names(model)
    return model


def test_work_follows_what_is_left_of_weights() -> None:
    model = named(made(NET))
    cost = work(model, UNITS, measured_shapes(model, feeds()[0]))
    batch = 4

    def multiply_adds(r: int, s: int) -> int:
        return batch * (PLACES * (r * 8 * 9 + s * r * 9 + s) + 5 * s)

    for r, s in ((16, 16), (8, 16), (16, 8), (8, 8)):
        assert cost({"r": r, "s": s}) == pytest.approx(multiply_adds(r, s), rel=1e-12)
    assert cost({}) == pytest.approx(multiply_adds(16, 16), rel=1e-12)


def test_work_of_units_on_both_sides_of_a_weight_falls_with_the_square() -> None:
    text = "g (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8] g> "
    model = named(made(text + "{ a = Mul (x, g) h = MatMul (a, w) y = Mul (h, g) }"))
    group = [units("all", 8, ("w", 0), ("w", 1), ("g", 0))]
    cost = work(model, group, measured_shapes(model, {"x": random(1, 8)}))
    assert cost({"all": 4}) == pytest.approx(cost({}) / 4)


def test_costs_of_nodes_may_be_given() -> None:
    model = made(NET)
    for number, node in enumerate(model.graph):
        node.name = f"n{number}"
    cost = work(model, UNITS, {}, {"n0": 2.0, "n2": 1.0})
    assert cost({"r": 8}) == pytest.approx(2.0 / 2 + 1.0 / 2)


def test_widths_go_by_eight_where_a_kernel_has_places() -> None:
    assert multiple_of(made(NET), UNITS[0]) == 8
    text = "g (float[N,6] x) => (float[N,6] y) <float[6,32] w, float[32,6] v> "
    model = made(text + "{ h = MatMul (x, w) y = MatMul (h, v) }")
    assert multiple_of(model, units("h", 32, ("w", 1), ("v", 0))) == 1


def test_the_dead_channel_goes_first_and_damage_is_measured() -> None:
    w, b = random(16, 8, 3, 3), np.zeros(16, np.float32)
    w[5] = 0
    model, given = made(NET, w=w, b=b), feeds()
    cut = SliceCut(UNITS)
    known = input_moments(model, list(readers(model).values()), given)
    orders = removals(model, UNITS, known)
    assert {one.order[0] for one in orders["r"]} == {5}
    assert {one.losses[1] for one in orders["r"]} == {0}
    known_outputs = _reference(model, given)
    told: list[tuple[int, int]] = []
    found = curves(
        model,
        UNITS,
        orders,
        cut,
        known,
        known_outputs,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]
    for name, (curve, order) in found.items():
        assert any(order is one for one in orders[name])
        assert curve.multiple == 8
        assert len(curve.damage) == 17
        assert curve.damage[0] == 0
        assert (np.diff(curve.damage) >= 0).all()
        assert curve.damage[8] > 0


def _reference(model: Any, given: list[dict[str, Any]]) -> Reference:
    return reference(model, open_samples(given, signature(model)))


def test_units_that_no_weight_reads_have_no_order() -> None:
    text = "g (float[N,6] x) => (float[N,8] y) <float[6,8] w> { y = MatMul (x, w) }"
    model = made(text)
    assert removals(model, [units("y", 8, ("w", 1))], {}) == {}


def test_a_curve_goes_through_what_was_measured_and_never_falls() -> None:
    losses = np.arange(9.0)
    found = through(losses, {2: 20.0, 6: 6.0})
    assert found[2] == pytest.approx(20.0)
    assert (np.diff(found) >= 0).all()
    np.testing.assert_array_equal(through(losses, {}), losses)
    np.testing.assert_array_equal(through(losses, {4: 0.0}), losses)
