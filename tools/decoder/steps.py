"""Samples of one token each, with the cache that a decoder has filled before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from decoder.shape import Shape

PAST = 64
STEPS = 64

Arrays = dict[str, npt.NDArray[Any]]


def write_steps(shape: Shape, model: Path, ids: npt.NDArray[np.int64], target: Path) -> None:
    """Run a model with a cache on the start of each row; write the next step, and what follows.

    ``target`` gets one array per input with samples on a new first axis, and ``labels``: the token
    after each step's, so that its perplexity can be told.
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    parts = [f"{layer}.{part}" for layer in range(shape.layers) for part in ("key", "value")]
    past = min(PAST, ids.shape[1] - 2)
    samples = []
    for row in ids[:STEPS]:
        feed = step(row[None, :past], 0)
        empty = np.zeros((1, shape.key_heads, 0, shape.head_dim), np.float32)
        feed |= {f"past_key_values.{part}": empty for part in parts}
        filled = session.run([f"present.{part}" for part in parts], feed)
        samples.append(step(row[None, past : past + 1], past))
        samples[-1] |= {
            f"past_key_values.{part}": cache for part, cache in zip(parts, filled, strict=True)
        }
    arrays = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    np.savez(target, labels=ids[:STEPS, past + 1 : past + 2], **arrays)


def step(ids: npt.NDArray[np.int64], past: int) -> Arrays:
    """Return what reads tokens of shape (batch, length) after ``past`` others, without caches."""
    batch, length = ids.shape
    return {
        "input_ids": ids,
        "attention_mask": np.ones((batch, past + length), np.int64),
        "position_ids": np.broadcast_to(np.arange(past, past + length), ids.shape),
    }
