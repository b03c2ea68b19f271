"""Samples of language models: what is filled in, and lengths that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsqueeze.data import open_samples, synthetic_samples
from onnxsqueeze.data.decoders import cache_axis, token_spec
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec

I64, F32 = np.dtype("int64"), np.dtype("float32")
IDS = InputSpec("input_ids", I64, ("batch", "sequence"))
MASK = InputSpec("attention_mask", I64, ("batch", "total"))
POSITIONS = InputSpec("position_ids", I64, ("batch", "sequence"))
CACHES = [
    InputSpec(f"past_key_values.{n}.{part}", F32, ("batch", 2, "past", 8))
    for n in range(2)
    for part in ("key", "value")
]
ALL = (IDS, MASK, POSITIONS, *CACHES)
TOKENS = np.arange(12).reshape(3, 4)


def test_mask_positions_and_caches_are_filled() -> None:
    samples = open_samples({"input_ids": TOKENS}, ALL)
    feed = samples[1]
    assert list(feed) == [spec.name for spec in ALL]
    assert feed["input_ids"].tolist() == [[4, 5, 6, 7]]
    assert feed["attention_mask"].tolist() == [[1, 1, 1, 1]]
    assert feed["position_ids"].tolist() == [[0, 1, 2, 3]]
    for spec in CACHES:
        assert feed[spec.name].shape == (1, 2, 0, 8)
        assert feed[spec.name].dtype == F32


def test_notes_say_what_was_filled() -> None:
    notes = " ".join(open_samples({"input_ids": TOKENS}, ALL).notes)
    assert "'attention_mask' is filled with ones" in notes
    assert "'position_ids' is filled with 0, 1, ..." in notes
    assert "4 inputs of a cache (past_key_values.0.key, ...) are empty" in notes


def test_nothing_is_filled_where_all_is_given() -> None:
    arrays = {"input_ids": TOKENS, "attention_mask": TOKENS * 0}
    samples = open_samples(arrays, (IDS, MASK))
    assert samples[0]["attention_mask"].tolist() == [[0, 0, 0, 0]]
    assert not any("filled" in note for note in samples.notes)


def test_steps_go_on_where_the_cache_ends() -> None:
    caches = {spec.name: np.ones((3, 1, 2, 5, 8), np.float32) for spec in CACHES}
    samples = open_samples({"input_ids": TOKENS[:, None, :1], **caches}, ALL)
    assert samples[2]["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1]]
    assert samples[2]["position_ids"].tolist() == [[5]]


def test_padding_before_the_text_takes_no_positions() -> None:
    arrays = {"input_ids": TOKENS, "attention_mask": np.array([[0, 0, 1, 1]] * 3)}
    feed = open_samples(arrays, (IDS, MASK, POSITIONS))[0]
    assert feed["position_ids"].tolist() == [[0, 0, 0, 1]]


def test_positions_in_one_axis_and_the_branch_of_a_merged_model() -> None:
    specs = (
        *(IDS, *CACHES),
        InputSpec("cache_position", I64, ("sequence",)),
        InputSpec("use_cache_branch", np.dtype(bool), (1,)),
    )
    feed = open_samples({"input_ids": TOKENS}, specs)[0]
    assert feed["cache_position"].tolist() == [0, 1, 2, 3]
    assert feed["use_cache_branch"].tolist() == [False]


def test_files_and_streams_are_filled_alike(tmp_path: Path) -> None:
    rows = [{"input_ids": row[None]} for row in TOKENS]
    folder = tmp_path / "folder"
    folder.mkdir()
    for index, row in enumerate(rows):
        np.savez(folder / f"{index}.npz", **row)
    np.savez(tmp_path / "x.npz", input_ids=TOKENS)
    np.save(tmp_path / "x.npy", TOKENS)
    for source in (tmp_path / "x.npz", tmp_path / "x.npy", folder, rows, iter(rows)):
        feed = open_samples(source, ALL)[2]
        assert feed["input_ids"].tolist() == [[8, 9, 10, 11]]
        assert feed["attention_mask"].tolist() == [[1, 1, 1, 1]]


def test_lengths_cut_concatenated_tokens(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", input_ids=np.arange(9), lengths=np.array([2, 4, 3]))
    samples = open_samples(tmp_path / "x.npz", ALL)
    assert [feed["input_ids"].tolist() for feed in samples] == [
        [[0, 1]],
        [[2, 3, 4, 5]],
        [[6, 7, 8]],
    ]
    assert samples[0]["position_ids"].tolist() == [[0, 1]]
    assert "samples have 2 to 4 tokens" in samples.notes


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (np.array([2, 4]), r"'input_ids' has shape \[9\], and 'lengths' adds up to 6\n"),
        (np.array([9, 0]), "'lengths' is int64 \\[2\\], and positive integers in one axis"),
        (np.array([2.0, 7.0]), "'lengths' is float64 \\[2\\], and positive integers"),
    ],
)
def test_lengths_that_do_not_fit(lengths: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_samples({"input_ids": np.arange(9), "lengths": lengths}, (IDS,))


def test_token_ids_that_are_missing_are_still_an_error() -> None:
    with pytest.raises(DataError, match="input 'input_ids' is missing"):
        open_samples({"attention_mask": TOKENS}, ALL)


def test_only_what_follows_from_tokens_is_filled() -> None:
    image = InputSpec("image", F32, ("batch", 3, 8, 8))
    with pytest.raises(DataError, match="input 'attention_mask' is missing"):
        open_samples({"image": np.zeros((2, 3, 8, 8), np.float32)}, (image, MASK))
    fixed = InputSpec("past_key_values.0.key", F32, (1, 2, 16, 8))
    with pytest.raises(DataError, match=r"input 'past_key_values.0.key' is missing"):
        open_samples({"input_ids": TOKENS}, (IDS, fixed))


def test_random_samples_are_filled() -> None:
    feed = synthetic_samples(ALL, 2, 0, dim=16)[1]
    assert feed["input_ids"].shape == (1, 16)
    assert feed["attention_mask"].shape == (1, 16)
    assert feed[CACHES[0].name].shape == (1, 2, 0, 8)


def test_what_is_filled_is_in_the_fingerprint() -> None:
    bare = open_samples({"input_ids": TOKENS}, (IDS,))
    assert bare.fingerprint != open_samples({"input_ids": TOKENS}, (IDS, MASK)).fingerprint


def test_the_input_of_tokens() -> None:
    other = InputSpec("tokens", I64, ("n", "s"))
    assert token_spec((MASK, other)) == other
    assert token_spec((IDS, other)) == IDS
    assert token_spec((MASK,)) is None
    assert cache_axis(InputSpec("past", F32, ("n", "a", "b", 4))) is None
