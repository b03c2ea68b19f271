from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from onnxsqueeze.data import open_samples, split
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec

SPECS = (InputSpec("x", np.dtype("float32"), ("N", 2)),)


def numbered(count: int) -> dict[str, np.ndarray]:
    x = np.arange(count, dtype=np.float32).repeat(2).reshape(count, 1, 2)
    return {"x": x, "y": np.arange(count)}


@pytest.mark.parametrize("held_out", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_split_is_disjoint_complete_and_never_empty(count: int, held_out: float) -> None:
    samples = open_samples(numbered(count), SPECS)

    kept, held = split(samples, held_out, seed=3)

    assert len(kept) >= 1
    assert len(held) == min(max(round(count * held_out), 1), count - 1)
    assert sorted(kept.indices + held.indices) == list(range(count))
    assert list(kept.indices) == sorted(kept.indices)
    assert held.labels is not None
    assert held.labels.tolist() == list(held.indices)
    assert [int(feed["x"][0, 0]) for feed in held] == list(held.indices)


def test_split_depends_on_the_seed_only() -> None:
    samples = open_samples(numbered(50), SPECS)

    assert split(samples, 0.4, 1)[1].indices == split(samples, 0.4, 1)[1].indices
    assert split(samples, 0.4, 1)[1].indices != split(samples, 0.4, 2)[1].indices


def test_one_sample_cannot_be_split() -> None:
    samples = open_samples(numbered(1), SPECS)

    with pytest.raises(DataError, match=r"^1 sample\(s\) cannot be split .*\n.*\n  Give more"):
        split(samples, 0.5, 0)


@pytest.mark.parametrize("held_out", [0.0, 1.0, -0.1, float("nan")])
def test_split_refuses_a_fraction_outside(held_out: float) -> None:
    with pytest.raises(ValueError, match="held_out must be between 0 and 1"):
        split(open_samples(numbered(4), SPECS), held_out, 0)


def test_samples_are_frozen() -> None:
    samples = open_samples(numbered(4), SPECS)

    with pytest.raises(dataclasses.FrozenInstanceError):
        samples.labels = None  # type: ignore[misc]


def test_fingerprint_is_of_the_content_not_of_the_file(tmp_path: Path) -> None:
    arrays = numbered(6)
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    in_memory = open_samples(arrays, SPECS)

    assert open_samples(tmp_path / "a.npz", SPECS).fingerprint == in_memory.fingerprint
    assert in_memory.subset(range(6)).fingerprint == in_memory.fingerprint
    assert len(in_memory.fingerprint) == 64


def test_fingerprint_changes_with_values_order_choice_and_labels() -> None:
    arrays = numbered(6)
    samples = open_samples(arrays, SPECS)
    changed = arrays["x"].copy()
    changed[5, 0, 1] += 1

    others = [
        open_samples({**arrays, "x": changed}, SPECS),
        open_samples({**arrays, "y": arrays["y"] + 1}, SPECS),
        open_samples({"x": arrays["x"]}, SPECS),
        samples.subset([1, 0, 2, 3, 4, 5]),
        samples[:5],
    ]

    prints = {samples.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 6


def test_subset_of_a_subset_counts_within_it() -> None:
    samples = open_samples(numbered(6), SPECS).subset([5, 3, 1]).subset([-1, 0])

    assert samples.indices == (1, 5)
    assert samples.labels is not None
    assert samples.labels.tolist() == [1, 5]
    with pytest.raises(IndexError):
        samples.subset([2])


def test_repr_is_short() -> None:
    assert repr(open_samples(numbered(6), SPECS)) == "Samples(6 from the given arrays, labelled)"
