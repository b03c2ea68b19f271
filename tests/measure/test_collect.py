from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxsqueeze.data import open_samples
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph.signature import signature
from onnxsqueeze.measure import collect as module
from onnxsqueeze.measure.collect import (
    LEAST_COLUMN_GAIN,
    TRIED_SAMPLES,
    Subject,
    collect,
    watched,
)
from onnxsqueeze.measure.grams import grams
from onnxsqueeze.measure.sensitivity import TRIED_BITS, sensitivity
from onnxsqueeze.numerics.columns import column_scale
from onnxsqueeze.runtime.shapes import measured_shapes
from tests import models
from tests.runtime.made import made, random

TEXT = """
g (float[16,16] x) => (float[N,8] y) <float[16,32] w, float[32,8] v, float[16,32] k> {
  h = MatMul (x, w)
  a = Add (h, k)
  r = Relu (a)
  y = MatMul (r, v)
}"""
PLAIN = TEXT.replace("Relu (a)", "Relu (h)").replace("  a = Add (h, k)\n", "")


def subject(count=6, model=None, **settings):
    model = model or made(TEXT)
    arrays = {"x": random(count, 16, 16)}
    return Subject(model, "m" * 64, open_samples(arrays, signature(model)), **settings)


def test_the_facts_are_those_of_the_single_measurements(tmp_path):
    one = subject()
    facts = collect(one, Store(tmp_path), with_integers=False)
    assert (facts.model_sha256, facts.data_sha256) == ("m" * 64, one.samples.fingerprint)
    assert facts.shapes == measured_shapes(one.model, one.samples[0])
    assert facts.left_alone == {"k": "Add does not read it as a weight (input B)"}
    assert (facts.ranges, facts.latencies) == ({}, {})
    found = module.weights(one.model)[0]
    apart = grams(one.model, found, one.samples, facts.shapes, store=Store(tmp_path / "2"), key={})
    damage = sensitivity(one.model, found, [one.samples[i] for i in (0, 1, 3, 4)])
    values = models.constants(one.model)
    for row in facts.weights:
        np.testing.assert_array_equal(facts.grams[row.name].matrix, apart[row.name].matrix)
        assert row.damage == pytest.approx(damage[row.name], rel=1e-6)
        assert row.largest == np.abs(values[row.name]).max()
        assert (row.rows, row.zeros, row.not_finite, row.axis) == (96, 0, 0, 1)
        assert (row.operator, row.item_bytes, row.shape) == ("MatMul", 4, values[row.name].shape)


def forbidden(*_args, **_keywords):
    raise AssertionError("measured again")


def test_what_was_measured_is_found_again(tmp_path, monkeypatch):
    first = collect(subject(), Store(tmp_path), with_integers=True)
    session = module.measured_shapes.__globals__["ort"]
    monkeypatch.setattr(session, "session", forbidden)
    monkeypatch.setattr(module, "op_latencies", forbidden)
    second = collect(subject(), Store(tmp_path), with_integers=True)
    assert second.weights == first.weights
    assert second.shapes == first.shapes
    assert second.latencies == first.latencies
    assert list(second.ranges) == list(first.ranges)


@pytest.mark.parametrize("change", [{"seed": 1}, {"model_sha256": "n" * 64}, {"samples": None}])
def test_another_subject_is_measured_again(tmp_path, monkeypatch, change):
    one = subject()
    collect(one, Store(tmp_path), with_integers=False)
    if "samples" in change:
        change = {"samples": one.samples[:4]}
    monkeypatch.setattr(module, "measured_shapes", forbidden)
    with pytest.raises(AssertionError, match="measured again"):
        collect(replace(one, **change), Store(tmp_path), with_integers=False)


def test_random_samples_fit_no_rounding(tmp_path):
    facts = collect(subject(is_synthetic=True), Store(tmp_path), with_integers=False)
    assert (facts.data_sha256, facts.grams) == (None, {})
    assert all(row.rows == 0 and row.damage is not None for row in facts.weights)


def test_weights_that_are_not_finite_are_not_tried(tmp_path):
    w = random(16, 32)
    w[0, 0], w[1, 1], w[2, 2] = np.nan, np.inf, -7.0
    facts = collect(subject(model=made(TEXT, w=w)), Store(tmp_path), with_integers=False)
    bad, good = facts.weights
    assert (bad.name, bad.not_finite, bad.largest, bad.damage) == ("w", 2, 7.0, None)
    assert good.not_finite == 0


def test_blocks_gain_the_part_of_the_noise_that_finer_scales_save(tmp_path):
    v = np.ones((128, 8), np.float32)
    v[:32] *= 4  # one block of 32 of four has steps four times as wide
    text = PLAIN.replace("16,32] w, float[32,8] v", "16,128] w, float[128,8] v")
    for factor in (1.0, 1e-36):
        facts = collect(
            subject(2, model=made(text, v=v * np.float32(factor))),
            Store(tmp_path / str(factor)),
            with_integers=False,
        )
        gains = {row.name: row.block_gain for row in facts.weights}
        assert gains["w"] == {}  # 16 features: one block
        if factor == 1.0:
            assert gains["v"] == {32: (16 + 3) / 64, 64: (16 + 1) / 32}
        assert all(0 < gain <= 1 for gain in gains["v"].values())


def test_columns_gain_what_their_own_scales_save(tmp_path):
    v = random(32, 8, seed=3)
    v[::8] *= 50
    facts = collect(subject(model=made(TEXT, v=v)), Store(tmp_path), with_integers=False)
    gains = {row.name: row.column_gain for row in facts.weights}
    importance = np.diag(facts.grams["v"].matrix[0])
    assert gains["v"] == column_scale(v.T, TRIED_BITS, None, importance)[1] < LEAST_COLUMN_GAIN
    assert gains["w"] == 1  # 16 features do not pay for a scale each


def test_columns_that_gain_little_are_not_offered(tmp_path):
    signs = np.where(random(32, 8, seed=3) < 0, -1, 1).astype(np.float32)
    facts = collect(subject(model=made(TEXT, v=signs)), Store(tmp_path), with_integers=False)
    assert {row.name: row.column_gain for row in facts.weights} == {"w": 1, "v": 1}


def test_zeros_are_counted_as_pruning_would_leave_them(tmp_path):
    w = random(16, 32)
    w[:2] = 0
    facts = collect(subject(model=made(TEXT, w=w)), Store(tmp_path), with_integers=False)
    assert facts.weights[0].zeros == 64
    pruned = collect(
        subject(model=made(TEXT, w=w), prune_below=0.5), Store(tmp_path), with_integers=False
    )
    assert pruned.weights[0].zeros == (np.abs(w) < 0.5).sum() > 64


def test_ranges_and_latencies_for_integer_kernels(tmp_path):
    one = subject(3, model=made(PLAIN))
    told = []
    facts = collect(one, Store(tmp_path), with_integers=True, progress=lambda *at: told.append(at))
    inputs = np.stack([feed["x"] for feed in one.samples])
    found = facts.ranges["x"]
    assert (found.count, found.low, found.high) == (3 * 256, inputs.min(), inputs.max())
    np.testing.assert_allclose(found.mean, inputs.mean(axis=(0, 1)), atol=1e-6)
    assert {"h", "y"} >= set(facts.latencies)
    assert facts.latencies
    stages = [stage for stage, _, _ in told]
    assert list(dict.fromkeys(stages)) == [
        "input statistics", "sensitivity of weights", "calibration", "latency of single nodes",
    ]  # fmt: skip
    for stage in set(stages):
        *_, (_, done, total) = [at for at in told if at[0] == stage]
        assert done == total


def test_an_old_opset_has_no_ranges(tmp_path):
    one = subject(2, model=made(TEXT, opset=17))
    facts = collect(one, Store(tmp_path), with_integers=True)
    assert facts.ranges == {}
    assert len(facts.weights) == 2


def test_large_models_are_tried_on_fewer_samples(tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr(
        module, "sensitivity", lambda *given, **_: counts.append(len(given[2])) or {}
    )
    for limit in (10**9, 1):
        monkeypatch.setattr(module, "LARGE_ELEMENTS", limit)
        collect(subject(), Store(tmp_path / str(limit)), with_integers=False)
    assert counts == [TRIED_SAMPLES, 2]
    collect(subject(1), Store(tmp_path / "one"), with_integers=False)
    assert counts[-1] == 1


def test_what_integer_kernels_read_and_write_is_watched():
    one = subject(model=made(PLAIN))
    shapes = measured_shapes(one.model, one.samples[0])
    tensors, moments = watched(one.model, shapes)
    assert {"x", "r"} <= set(tensors) <= set(shapes)
    assert moments == {"x": (-1, 2), "r": (-1, 2)}


def test_some_channels_of_a_large_weight_tell_what_scales_of_columns_save(tmp_path, monkeypatch):
    v = random(32, 8, seed=3)
    v[::8] *= 50
    monkeypatch.setattr(module, "GAIN_ELEMENTS", 4 * 32)
    facts = collect(subject(model=made(TEXT, v=v)), Store(tmp_path), with_integers=False)
    gains = {row.name: row.column_gain for row in facts.weights}
    importance = np.diag(facts.grams["v"].matrix[0])
    some = np.ascontiguousarray(v.T[::2])
    assert gains["v"] == column_scale(some, TRIED_BITS, None, importance)[1]
