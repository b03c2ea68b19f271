"""compress on a small decoder, with and without a cache, from token ids, by perplexity."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import onnxsqueeze as sq

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from decoder.shape import Shape
from decoder.steps import write_steps
from decoder.synthetic import write_synthetic

SHAPE = Shape(2, 64, 192, 1, 256, 128, True)
MAX_DROP = 0.05


def compressed(folder: Path, data: Path | dict[str, Any], metric: str) -> Any:
    return sq.compress(
        folder / "model.onnx",
        folder / "small.onnx",
        sq.DataSettings(data),
        budget=sq.Budget(max_drop=MAX_DROP, metric=metric),
        target=sq.Target(objective="size"),
        limits=sq.Limits(effort="quick"),
    )


def run(path: Path, feed: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], feed)[0]


def test_a_decoder_is_held_to_its_perplexity(tmp_path: Path) -> None:
    write_synthetic(SHAPE, tmp_path, has_cache=False, seed=0)
    made = compressed(tmp_path, tmp_path / "calib.npz", "perplexity")
    found = made.report.validation.fidelity[0]
    assert found.metric == "perplexity"
    assert found.drop.high <= MAX_DROP
    assert found.result / found.original - 1 == pytest.approx(found.drop.value)
    before, after = (
        (tmp_path / name).stat().st_size for name in ("model.onnx.data", "small.onnx")
    )
    assert after < before / 2
    # Tied: the table, the largest weight, is there once, in at most a byte per value.
    assert after < before / 2 + SHAPE.vocabulary * SHAPE.dim
    # Other lengths than those of the samples run, too.
    assert run(tmp_path / "small.onnx", {"input_ids": np.zeros((1, 3), np.int64)}).shape == (
        *(1, 3),
        SHAPE.vocabulary,
    )


def test_a_cache_is_filled_and_steps_still_run(tmp_path: Path) -> None:
    write_synthetic(SHAPE, tmp_path, has_cache=True, seed=0)
    ids = np.load(tmp_path / "calib.npz")["input_ids"]
    lengths = np.arange(16, 16 + len(ids))
    ragged = np.concatenate([row[:n] for row, n in zip(ids, lengths, strict=True)])
    made = compressed(tmp_path, {"input_ids": ragged, "lengths": lengths}, "divergence")
    notes = " ".join(made.report.notes)
    assert "'attention_mask' is filled with ones" in notes
    assert f"{2 * SHAPE.layers} inputs of a cache" in notes
    found = made.report.validation.fidelity[0]
    assert found.original == 1.0
    assert 0 < found.drop.value <= found.drop.high <= MAX_DROP
    steps = tmp_path / "steps.npz"
    write_steps(SHAPE, tmp_path / "small.onnx", ids, steps)
    given = np.load(steps)
    one = {name: given[name][0] for name in given.files if name != "labels"}
    assert run(tmp_path / "small.onnx", one).shape == (1, 1, SHAPE.vocabulary)


def test_steps_are_judged_by_the_tokens_that_are_given(tmp_path: Path) -> None:
    write_synthetic(SHAPE, tmp_path, has_cache=True, seed=0)
    ids = np.load(tmp_path / "calib.npz")["input_ids"]
    model = tmp_path / "model.onnx"
    write_steps(SHAPE, model, ids, tmp_path / "steps.npz")
    data = sq.DataSettings(tmp_path / "steps.npz")
    report = sq.validate(model, model, data, budget=sq.Budget(metric="perplexity"))
    found = report.validation.fidelity[0]
    given = np.load(tmp_path / "steps.npz")
    nats = []
    for index, label in enumerate(given["labels"]):
        feed = {name: given[name][index] for name in given.files if name != "labels"}
        scores = run(model, feed)[0, 0].astype(np.float64)
        nats.append(np.log(np.exp(scores).sum()) - scores[label[0]])
    # Threads may split float32 sums otherwise: scores of about 1 within 1e-5 (64 · 2**-24 each).
    assert found.original == pytest.approx(float(np.exp(np.mean(nats))), rel=1e-5)
    assert found.drop.high == 0.0
