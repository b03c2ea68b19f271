"""``--sparsity`` on the shipped models: as much as was asked, or as the budget allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsqueeze import api
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.graph import io
from tests.end_to_end.shipped import LIMIT, Shipped
from tests.models import constants

GENEROUS = Budget(max_drop=0.2)


@pytest.fixture
def mlp() -> Shipped:
    return Shipped("digits_mlp")


def of_products(path: Path) -> dict[str, Any]:
    return {name: w for name, w in constants(io.read(path)).items() if w.ndim > 1}


def zeros(made: api.Compressed) -> float:
    """Part of the values of all weights of products that the report says are zero."""
    rows = made.report.weights
    sizes = [int(np.prod(row.shape)) for row in rows]
    return float(np.average([row.zeros_fraction for row in rows], weights=sizes))


@pytest.mark.parametrize("bits", [(), (16,), (8,)])
def test_half_of_the_weights_go_behind_a_mask(
    mlp: Shipped, tmp_path: Path, bits: tuple[Any, ...]
) -> None:
    made = mlp.compressed(tmp_path, limits=Limits(sparsity=0.5, bits=bits), budget=GENEROUS)
    assert made.is_met
    assert zeros(made) == pytest.approx(0.5, abs=1e-4)
    values, dense = 0.0, 0
    for name, w in of_products(mlp.model).items():
        one = made.plan.weights[name]
        assert one.sparsity is not None
        # A mask of a small weight has nodes that take more than it saves.
        assert one.masked or w.size < 10_000
        values += w.size * ((1 - one.sparsity) * one.bits + 1 if one.masked else one.bits) / 8
        dense += 4 * w.size
    rest = made.output.stat().st_size - values
    # Biases, scales, and the nodes of the masks: 20 a weight, of under 200 bytes each.
    others = mlp.model.stat().st_size - dense
    assert 0 < rest < others + len(made.plan.weights) * 20 * 200
    assert any("sparsity 50% was asked for: 50.0%" in note for note in made.plan.notes)


def test_what_the_budget_does_not_allow_is_milder_and_the_report_says_so(
    mlp: Shipped, tmp_path: Path
) -> None:
    budget = Budget(max_drop=0.003)
    made = mlp.compressed(tmp_path, limits=Limits(sparsity=0.98, bits=(8,)), budget=budget)
    assert made.report.verdict == "met"
    assert zeros(made) < 0.97
    assert any("more does not keep to the budget" in note for note in made.report.notes)


def test_a_pattern_holds_in_the_file(mlp: Shipped, tmp_path: Path) -> None:
    (kept,) = [name for name, w in of_products(mlp.model).items() if w.shape == (128, 784)]
    before = of_products(mlp.model)[kept]
    limits = Limits(pattern="2:4", bits=())
    made = mlp.compressed(tmp_path, limits=limits, budget=GENEROUS)
    assert {one.pattern for one in made.plan.weights.values()} == {"2:4"}
    after = onnx.load(made.output)
    mask = next(t for t in after.graph.initializer if t.name == f"{kept}.mask")
    bits = np.unpackbits(onnx.numpy_helper.to_array(mask), bitorder="little")[: before.size]
    rows = bits.reshape(before.shape)  # transB: a row per channel
    assert (rows.reshape(len(rows), -1, 4).sum(2) <= 2).all()


def test_kept_weights_keep_their_values(mlp: Shipped, tmp_path: Path) -> None:
    (kept,) = [name for name, w in of_products(mlp.model).items() if w.shape == (128, 784)]
    limits = Limits(sparsity=0.5, keep=(kept,), bits=(16,))
    made = mlp.compressed(tmp_path, limits=limits, budget=GENEROUS)
    np.testing.assert_array_equal(of_products(made.output)[kept], of_products(mlp.model)[kept])
    assert made.plan.weights[kept].reason == "named by --keep; no sparsity: named by --keep"


def test_sparse_initializers_run_and_are_read_again(mlp: Shipped, tmp_path: Path) -> None:
    made = api.compress(
        mlp.model,
        tmp_path / "small.onnx",
        DataSettings(source=mlp.calibration, limit=LIMIT),
        budget=GENEROUS,
        target=Target(objective="size", sparse_initializer=True),
        limits=Limits(sparsity=0.85),
    )
    proto = onnx.load(made.output)
    onnx.checker.check_model(proto)
    assert {one.values.name for one in proto.graph.sparse_initializer} == {
        name for name, one in made.plan.weights.items() if one.masked
    }
    assert len(proto.graph.sparse_initializer) > 0
    assert made.output.stat().st_size < mlp.model.stat().st_size
    assert any("standard sparse initializers" in note for note in made.plan.notes)
    before, after = (mlp.logits(path).argmax(1) for path in (mlp.model, made.output))
    assert np.mean(before == after) > 1 - GENEROUS.max_drop


def test_a_plan_is_carried_out_again_to_the_same_bytes(mlp: Shipped, tmp_path: Path) -> None:
    data = DataSettings(source=mlp.calibration, limit=LIMIT)
    made = mlp.compressed(tmp_path, data, limits=Limits(sparsity=0.5), budget=GENEROUS)
    again = tmp_path / "again.onnx"
    api.carry_out(made.plan, mlp.model, again, data, run=tmp_path / "other")
    assert again.read_bytes() == made.output.read_bytes()


def test_without_a_wish_nothing_is_thinned(mlp: Shipped, tmp_path: Path) -> None:
    measured = api.measure(
        mlp.model,
        DataSettings(source=mlp.calibration, limit=LIMIT),
        run=tmp_path / "run",
        target=Target(objective="size"),
    )
    assert not list((tmp_path / "run").rglob("thin-*"))
    assert not any(one.thin_damage for one in measured.facts.weights)
