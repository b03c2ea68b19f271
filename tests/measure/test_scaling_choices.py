"""Scalings are chosen where a few entries make the grid of all others coarse, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.measure.scalings import scalings
from onnxsqueeze.numerics.scaling import from_steps
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.passes.scale_axes import scale_axes
from onnxsqueeze.plan.types import Plan, ScalingChoice, WeightChoice
from onnxsqueeze.runtime.shapes import measured_shapes
from tests import models
from tests.models import Array

LOUD = 100.0
TEXT = """
g (float[N,5,16] x) => (float[N,5,16] y, float[N,5,16] z)
<float[16] g, float[16] b, float[16,16] q, float[16,16] k> {
  n = LayerNormalization (x, g, b)
  y = MatMul (n, q)
  z = MatMul (n, k)
}"""
NOT_FOLDED = """
g (float[N,5,16] x) => (float[N,5,16] y, float[N,5,16] z)
<float[16] g, float[16] b, float[16,16] q, float[16,16] k> {
  n = LayerNormalization (x, g, b)
  y = MatMul (n, q)
  z = Add (n, k)
}""".replace("float[16,16] k", "float[16] k")


def loud(text: str, folder: Path, loud_gain: float = LOUD) -> ir.Model:
    """Return a model with a normalization that has one large gain."""
    model = models.read(text, folder)
    gains = np.ones(16, np.float32)
    gains[3] = loud_gain
    model.graph.initializers["g"].const_value = ir.tensor(gains, name="g")
    model.graph.initializers["b"].const_value = ir.tensor(0.1 * gains, name="b")
    return model


def samples(count: int = 6) -> list[dict[str, Array]]:
    return [models.feed(seed, x=(2, 5, 16)) for seed in range(count)]


@pytest.fixture(autouse=True)
def _small_weights_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxsqueeze.analysis.weights.SMALLEST_BYTES", 256)


def chosen(
    model: ir.Model, form: str, *names: str, **settings: object
) -> tuple[Plan, dict[str, ScalingChoice]]:
    bits = {"float": 32, "stored": 4}.get(form, 8)
    choice = WeightChoice.model_validate(
        {"form": form, "bits": bits, "axis": 1, "reason": "tried", **settings}
    )
    plan = Plan(model_sha256="0" * 64, weights=dict.fromkeys(names, choice))
    given = samples()
    return plan, scalings(plan, model, given, measured_shapes(model, given[0]))


def test_a_loud_entry_is_divided_for_all_that_read_it_together(tmp_path: Path) -> None:
    model = loud(TEXT, tmp_path)
    _, found = chosen(model, "dynamic", "q", "k")
    (choice,) = found.values()
    scale = from_steps(choice.steps)
    assert not choice.inserted
    assert scale.argmax() == 3
    assert scale[3] > 3 * np.delete(scale, 3).max()
    assert "dB less error" in choice.reason


def test_integer_kernels_in_onnx_runtime_lose_less_with_it(tmp_path: Path) -> None:
    model, given = loud(TEXT, tmp_path), samples(8)
    plan, found = chosen(model, "dynamic", "q", "k")
    shapes = measured_shapes(model, given[0])
    scaled = plan.model_copy(update={"scalings": found})
    made = scale_axes(scaled, model, shapes, {}).model
    lost = []
    for which, base in ((plan, model), (scaled, made)):
        result = apply(which, base, {}).model
        held_out = given[-1]  # those above were made of the first six
        wanted, now = models.outputs(model, held_out), models.outputs(result, held_out)
        lost.append(sum(float(np.square(wanted[o] - now[o]).sum()) for o in wanted))
    assert lost[1] < lost[0]


def test_even_entries_are_left_alone(tmp_path: Path) -> None:
    model = loud(TEXT, tmp_path, loud_gain=1.0)
    weight = np.eye(16, dtype=np.float32)  # every entry is read alike, too
    for name in ("q", "k"):
        model.graph.initializers[name].const_value = ir.tensor(weight, name=name)
    assert chosen(model, "dynamic", "q", "k")[1] == {}


@pytest.mark.parametrize(
    ("form", "settings"),
    [("float", {}), ("stored", {"columns": True})],
    ids=["floats", "a scale per column"],
)
def test_readers_that_cannot_gain_are_left_alone(
    tmp_path: Path, form: str, settings: dict[str, object]
) -> None:
    assert chosen(loud(TEXT, tmp_path), form, "q", "k", **settings)[1] == {}


def test_stored_weights_without_columns_gain_by_what_they_are_multiplied_with(
    tmp_path: Path,
) -> None:
    (choice,) = chosen(loud(TEXT, tmp_path), "stored", "q", "k")[1].values()
    assert from_steps(choice.steps).argmax() == 3


def test_a_product_is_put_in_only_before_integer_kernels(tmp_path: Path) -> None:
    model = loud(NOT_FOLDED, tmp_path)
    (choice,) = chosen(model, "dynamic", "q")[1].values()
    assert choice.inserted
    assert chosen(model, "stored", "q")[1] == {}
