from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.weights import Weight, weights
from onnxsqueeze.facts.grams import SpreadGrams, identity
from onnxsqueeze.facts.store import Store
from onnxsqueeze.measure import large as module
from onnxsqueeze.measure.collect import Subject, described
from onnxsqueeze.measure.grams import grams
from onnxsqueeze.measure.large import described_in_parts, large_grams
from onnxsqueeze.runtime.shapes import measured_shapes
from tests import models

DEEP = """
g (float[N,16] x) => (float[N,16] y)
<float[16,24] w, float[16,24] u, float[24,32] v, float[32,16] t> {
  a = MatMul (x, w)
  r = Relu (a)
  b = MatMul (x, u)
  s = Add (r, b)
  c = MatMul (s, v)
  d = Relu (c)
  e = MatMul (d, t)
  y = Add (e, x)
}"""


def feeds(count: int = 5) -> list[dict[str, Any]]:
    return [models.feed(seed, x=(7, 16)) for seed in range(count)]


def walked(model: ir.Model, folder: Path, **settings: Any) -> SpreadGrams:
    given = feeds()
    shapes = measured_shapes(model, given[0])
    store = Store(folder)
    return large_grams(
        model, weights(model)[0], given, shapes, store=store, key={"a": 1}, **settings
    )


@pytest.mark.parametrize("step_bytes", [1, 10**9])
def test_the_matrices_are_those_that_one_pass_per_group_gives(
    tmp_path: Path, step_bytes: int
) -> None:
    model, given = models.read(DEEP, tmp_path), feeds()
    shapes = measured_shapes(model, given[0])
    store = Store(tmp_path / "all")
    expected = grams(model, weights(model)[0], given, shapes, store=store, key={})

    found = walked(model, tmp_path / "each", step_bytes=step_bytes)

    assert sorted(found) == sorted(expected) == ["t", "u", "v", "w"]
    for name, one in expected.items():
        assert found.rows(name) == one.rows == 35
        np.testing.assert_array_equal(found[name].matrix, one.matrix)
    assert identity(found, "w") == identity(found, "u") != identity(found, "v")


def test_what_is_in_the_store_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.read(DEEP, tmp_path)
    whole = walked(model, tmp_path / "whole", step_bytes=1)
    steps: list[int] = []
    one_step = module._one_step

    def stopped(*arguments: Any) -> None:
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(len(arguments[1]))
        one_step(*arguments)

    monkeypatch.setattr(module, "_one_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        walked(model, tmp_path / "killed", step_bytes=1)
    done = len(steps)
    monkeypatch.setattr(module, "_one_step", lambda *a: (steps.append(1), one_step(*a)))

    found = walked(model, tmp_path / "killed", step_bytes=1)

    assert (done, len(steps)) == (2, 3)
    for name in whole:
        np.testing.assert_array_equal(found[name].matrix, whole[name].matrix)


def by_name(model: ir.Model) -> Mapping[str, Weight]:
    return {weight.name: weight for weight in weights(model)[0]}


def test_damage_is_the_error_of_the_weights_own_product(tmp_path: Path) -> None:
    model = models.read(DEEP, tmp_path)
    found = walked(model, tmp_path / "facts")
    weight = models.constants(model)["w"]
    x = np.concatenate([feed["x"] for feed in feeds()])
    scale = np.abs(weight).max(axis=0) / 7
    error = weight - np.clip(np.rint(weight / scale), -7, 7) * scale

    expected = np.square(x @ error).sum() / np.square(x @ weight).sum()

    # Both are sums of 35 · 16 float32 products.
    assert abs(found.lost("w") - expected) <= 2 * 35 * 16 * 2.0**-23 * expected


@pytest.mark.parametrize("below", [None, 0.2])
def test_a_weight_is_described_as_it_is_in_memory(tmp_path: Path, below: float | None) -> None:
    model = models.read(DEEP, tmp_path)
    weight = by_name(model)["v"]
    assert weight.value.const_value is not None
    values = weight.value.const_value.numpy().copy()
    values[0, :3], values[1, :2] = 0, [np.nan, np.inf]
    weight.value.const_value = ir.tensor(values, name="v")
    subject = Subject(model, "abc", samples=None, prune_below=below)  # type: ignore[arg-type]

    expected = described(subject, weight, {}, {"v": 0.5})
    found = described_in_parts(weight, 0, 0.5, below)

    assert found.not_finite == 2
    assert found == expected.model_copy(update={"block_gain": {}, "column_gain": 1.0})
