"""tools/make_decoder: sizes, determinism, and that a cache changes nothing; no training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from decoder import words
from decoder.cli import given_shape, main, size_bytes
from decoder.shape import POSITIONS, Shape, shape_of_size
from decoder.steps import step, write_steps
from decoder.synthetic import DATA_FILE, write_synthetic

TINY = Shape(2, 64, 192, 2, 256, 128, True)
TOLERANCE = 1e-4
"""Of scores about 1: 2 layers of float32 sums of at most 192 terms are within 2·4·192·2**-24."""


def session(folder: Path) -> Any:
    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def empty_caches(shape: Shape) -> dict[str, Any]:
    empty = np.zeros((1, shape.key_heads, 0, shape.head_dim), np.float32)
    return {
        f"past_key_values.{layer}.{part}": empty
        for layer in range(shape.layers)
        for part in ("key", "value")
    }


@pytest.mark.parametrize("size", [1e6, 2e7, 3.2e9])
@pytest.mark.parametrize("is_tied", [True, False])
def test_a_size_is_reached_by_less_than_one_layer(size: float, is_tied: bool) -> None:
    shape = shape_of_size(size, is_tied=is_tied)
    layer = 4 * (4 * shape.dim**2 + 3 * shape.dim * shape.hidden + 2 * shape.dim)
    assert size <= shape.size_bytes < max(size + layer, layer * 2 + shape.size_bytes % layer)


def test_sizes_are_read() -> None:
    assert [size_bytes(text) for text in ("3.2GB", "20 mb", "512")] == [3.2e9, 2e7, 512.0]
    for text in ("much", "0GB", "3TB"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
            size_bytes(text)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["--synthetic", "1MB", "-o", str(tmp_path / name)]) == 0
    for file in ("model.onnx", DATA_FILE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_shape_is_read() -> None:
    assert given_shape("2,64,192,4,2,256") == Shape(2, 64, 192, 4, 256, POSITIONS, True, 2)
    for text in ("2,64,192,4,2", "2,64,192,0,2,256", "2,60,192,4,2,256", "2,64,192,4,3,256"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no shape"):
            given_shape(text)


@pytest.mark.parametrize(("is_tied", "readers"), [(True, 1), (False, 1), (True, 2)])
def test_a_cache_changes_nothing(tmp_path: Path, is_tied: bool, readers: int) -> None:
    shape = Shape(2, 64, 192, 2, 256, 128, is_tied, readers)
    for name, has_cache in (("whole", False), ("cached", True)):
        write_synthetic(shape, tmp_path / name, has_cache=has_cache, seed=0)
    ids = np.load(tmp_path / "whole" / "calib.npz")["input_ids"]
    expected = session(tmp_path / "whole").run(["logits"], {"input_ids": ids[:1]})[0]
    cached = session(tmp_path / "cached")
    feed = {**step(ids[:1], 0), **empty_caches(shape)}
    found = cached.run(["logits"], feed)[0]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    write_steps(shape, tmp_path / "cached" / "model.onnx", ids, tmp_path / "steps.npz")
    steps = np.load(tmp_path / "steps.npz")
    one = {name: steps[name][0] for name in steps.files if name != "labels"}
    past = one["attention_mask"].shape[1] - 1
    found = cached.run(["logits"], one)[0]
    np.testing.assert_allclose(found[0, 0], expected[0, past], atol=TOLERANCE)
    assert steps["labels"][0].tolist() == [ids[0, past + 1]]


def test_later_tokens_do_not_reach_earlier_ones(tmp_path: Path) -> None:
    write_synthetic(TINY, tmp_path, has_cache=False, seed=0)
    ids = np.load(tmp_path / "calib.npz")["input_ids"][:1]
    other = ids.copy()
    other[0, -1] = (other[0, -1] + 1) % TINY.vocabulary
    before, after = (session(tmp_path).run(None, {"input_ids": x})[0] for x in (ids, other))
    np.testing.assert_allclose(before[0, :-1], after[0, :-1], atol=TOLERANCE)
    assert np.abs(before[0, -1] - after[0, -1]).max() > TOLERANCE


def test_parts_of_the_text_are_disjoint() -> None:
    parts = words.corpus()
    assert all(parts)
    assert not set(parts.training) & set(parts.evaluation)
    rows = words.pieces(parts.evaluation, 8, 32, 0)
    assert rows.shape == (8, 32)
    assert 0 <= rows.min() <= rows.max() < words.BYTES
