from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph import io, walk
from onnxsqueeze.graph.mapped import DataFile
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.passes.apply_large import apply_large
from onnxsqueeze.plan.types import Plan, WeightChoice
from tests import models

TIED = """
g (int64[N] ids) => (float[N,64] y)
<float[64,32] table, float[32,64] w, float[64,32] v> {
  x = Gather (table, ids)
  a = MatMul (x, w)
  r = Tanh (a)
  b = MatMul (r, v)
  across = Transpose <perm = [1, 0]> (table)
  y = MatMul (b, across)
}"""
FEED = {"ids": np.array([3, 0, 63, 17], np.int64)}


def blocks(axis: int, **more: object) -> WeightChoice:
    return WeightChoice.model_validate(
        {"form": "blockwise", "bits": 4, "axis": axis, "block": 32, "offset": True, "reason": ""}
        | more
    )


def plan(**weights: WeightChoice) -> Plan:
    return Plan(model_sha256="abc", weights=weights)


WHOLE = plan(
    table=blocks(0),
    w=blocks(1, bits=8, offset=False),
    v=WeightChoice(form="stored", bits=6, axis=1, reason=""),
)


def mapped(folder: Path) -> ir.Model:
    model = models.read(TIED, folder, opset=21, ir_version=10)
    io.write(model, folder / "mapped.onnx", external=True)
    return io.read(folder / "mapped.onnx")


def test_the_model_gives_what_applying_all_at_once_gives(tmp_path: Path) -> None:
    model = mapped(tmp_path)

    made = apply_large(WHOLE, model, {}, DataFile(tmp_path / "new.data"))
    at_once = apply(WHOLE, model, {})

    found = models.outputs(made.model, FEED)["y"]
    np.testing.assert_array_equal(found, models.outputs(at_once.model, FEED)["y"])
    assert made.sqnr_db.keys() == at_once.sqnr_db.keys()
    assert [change.subject for change in made.changes] == ["table", "w", "v"]


def test_new_weights_lie_in_the_file_and_kept_ones_where_they_were(tmp_path: Path) -> None:
    model = mapped(tmp_path)
    some = plan(w=blocks(1))

    made = apply_large(some, model, {}, DataFile(tmp_path / "new.data")).model

    places = {
        str(value.name): Path(value.const_value.path).name
        for _, value in walk.initializers(made)
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    assert places["table"] == places["v"] == "mapped.onnx.data"
    assert models.constants(model).keys() == {"table", "w", "v"}  # it stays as it is


def test_written_as_one_file_it_is_the_same_model(tmp_path: Path) -> None:
    made = apply_large(WHOLE, mapped(tmp_path), {}, DataFile(tmp_path / "new.data")).model
    expected = models.outputs(made, FEED)["y"]

    io.write(made, tmp_path / "small.onnx")

    assert sorted(path.name for path in tmp_path.glob("small*")) == ["small.onnx"]
    found = models.outputs(tmp_path / "small.onnx", FEED)["y"]
    np.testing.assert_array_equal(found, expected)


def test_compensated_rounding_is_that_of_apply(tmp_path: Path) -> None:
    model = mapped(tmp_path)
    x = np.random.default_rng(0).standard_normal((256, 32)).astype(np.float32)
    grams = {"w": Gram((x.T @ x / 256)[None], 256)}
    some = plan(w=blocks(1, rounding="compensated"))

    made = apply_large(some, model, grams, DataFile(tmp_path / "new.data"))

    expected = models.outputs(apply(some, model, grams).model, FEED)["y"]
    np.testing.assert_array_equal(models.outputs(made.model, FEED)["y"], expected)


def test_what_was_rounded_is_not_rounded_again(tmp_path: Path) -> None:
    model, store = mapped(tmp_path), Store(tmp_path / "facts")
    first = apply_large(WHOLE, model, {}, DataFile(tmp_path / "one.data"), store=store)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "facts").glob("*/*")}

    again = apply_large(WHOLE, model, {}, DataFile(tmp_path / "two.data"), store=store)

    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "facts").glob("*/*")} == kept
    assert len({path.parent for path in kept}) == len(WHOLE.weights)
    for name, values in models.constants(first.model).items():
        np.testing.assert_array_equal(models.constants(again.model)[name], values)


def test_a_plan_for_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="other"):
        apply_large(plan(other=blocks(1)), mapped(tmp_path), {}, DataFile(tmp_path / "new.data"))
