"""Perplexity and divergence, against direct computations, and what counts as a token."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnxsqueeze.errors import DataError
from onnxsqueeze.numerics import perplexity
from onnxsqueeze.numerics.metrics import metric_named, output_kinds
from onnxsqueeze.numerics.perplexity import (
    MOST,
    NO_TOKEN,
    divergences,
    losses,
    next_tokens,
    perplexities,
    rise,
    score_divergence,
    score_perplexity,
    shown_tokens,
    token_input,
)

IDS = np.array([[4, 2, 7, 1]])


def scores(seed: int, vocabulary: int = 9, scale: float = 3.0) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((1, 4, vocabulary)) * scale).astype(np.float32)


def shares(logits: Any) -> Any:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


# What follows


def test_own_tokens_are_one_to_the_left() -> None:
    assert next_tokens({"input_ids": IDS}, None).tolist() == [[2, 7, 1, NO_TOKEN]]


def test_given_tokens_stand_as_they_are() -> None:
    assert next_tokens({"input_ids": IDS[:, :1]}, np.array([3])).tolist() == [[3]]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[1, 1, 1, 0]], [[2, 7, NO_TOKEN, NO_TOKEN]]),
        ([[0, 1, 1, 1]], [[NO_TOKEN, 7, 1, NO_TOKEN]]),
        ([[1, 1, 0, 1, 1, 1]], [[NO_TOKEN, 7, 1, NO_TOKEN]]),  # two of a cache before the four
    ],
)
def test_padding_does_not_count(mask: list[list[int]], expected: list[list[int]]) -> None:
    feed = {"input_ids": IDS, "attention_mask": np.array(mask)}
    assert next_tokens(feed, None).tolist() == expected


def test_tokens_are_found_among_other_integers() -> None:
    feed = {"ids": IDS, "token_type_ids": IDS, "past": np.zeros((1, 2, 0, 4), np.float32)}
    assert token_input(feed) == "ids"
    assert token_input({"a": IDS, "b": IDS}) is None


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({"x": np.zeros((1, 4), np.float32)}, "needs token ids, and the model's inputs are x\n"),
        ({"input_ids": IDS[:, :1]}, "needs the tokens that follow, and 'input_ids' has one"),
    ],
)
def test_nothing_that_follows(feed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        next_tokens(feed, None)


# The scores


def test_losses_are_the_logarithms_of_shares() -> None:
    logits = scores(0)[0]
    expected = -np.log(shares(logits)[np.arange(4), IDS[0]])
    np.testing.assert_allclose(losses(logits, IDS[0]), expected, rtol=1e-12)


def test_losses_of_huge_scores_are_exact() -> None:
    # exp(1e4) is no float64; scores that are two apart lose log(1 + exp(-2)) wherever they are.
    logits = np.array([[1e4, 1e4 - 2], [-1e4, -1e4 - 2]], np.float32)
    expected = np.log1p(np.exp(-2.0))
    np.testing.assert_allclose(losses(logits, np.array([0, 0])), expected, rtol=1e-11)


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, other = scores(0)[0], scores(1)[0]
    whole = losses(logits, IDS[0]), divergences(logits, other)
    monkeypatch.setattr(perplexity, "SLICE_ELEMENTS", 1)
    assert losses(logits, IDS[0]).tolist() == whole[0].tolist()
    assert divergences(logits, other).tolist() == whole[1].tolist()


def test_divergence_is_the_mean_logarithm_of_the_ratio() -> None:
    p, q = shares(scores(0)[0]), shares(scores(1)[0])
    expected = (p * np.log(p / q)).sum(axis=1)
    np.testing.assert_allclose(divergences(scores(0)[0], scores(1)[0]), expected, rtol=1e-10)


def test_divergence_of_excluded_tokens() -> None:
    never = np.array([[0.0, 0.0, -np.inf]])
    assert divergences(never, never).tolist() == [0.0]
    assert divergences(never, np.array([[0.0, 0.0, 5.0]]))[0] > 0
    assert divergences(np.zeros((1, 3)), never).tolist() == [np.inf]


def test_perplexity_of_original_and_result_and_its_rise() -> None:
    pairs = [(scores(2 * n), scores(2 * n) + 0.1 * scores(2 * n + 1)) for n in range(5)]
    metric = metric_named("perplexity", [])
    assert metric.truth is not None
    truth = metric.truth({"input_ids": IDS}, None)
    rows = np.concatenate([metric.score({"y": y}, {"y": z}, truth) for y, z in pairs])
    own = [np.log(shares(y)[0, range(3), IDS[0, 1:]]) for y, _ in pairs]
    other = [np.log(shares(z)[0, range(3), IDS[0, 1:]]) for _, z in pairs]
    expected = np.exp(-np.mean(own)), np.exp(-np.mean(other))
    np.testing.assert_allclose(perplexities(rows.sum(axis=0)), expected, rtol=1e-12)
    found = rise(rows, seed=0)
    np.testing.assert_allclose(found.value, expected[1] / expected[0] - 1, rtol=1e-9)
    assert found.low < found.value < found.high


def test_the_same_model_has_no_rise() -> None:
    y = {"y": scores(0)}
    for row in (score_perplexity(y, y, IDS), score_divergence(y, y, None)):
        assert rise(row, seed=0) == (0.0, 0.0, 0.0)


def test_divergence_starts_at_one_and_counts_what_the_mask_shows() -> None:
    y, z = {"y": scores(0)}, {"y": scores(1)}
    shown = shown_tokens({"input_ids": IDS, "attention_mask": np.array([[0, 1, 1, 1]])}, None)
    row = score_divergence(y, z, shown)
    expected = divergences(y["y"][0, 1:], z["y"][0, 1:])
    np.testing.assert_allclose(row, [[0.0, expected.sum(), 3.0]], rtol=1e-12)
    np.testing.assert_allclose(perplexities(row[0]), [1.0, np.exp(expected.mean())], rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_result_without_numbers_has_lost_all(bad: float) -> None:
    y, z = {"y": scores(0)}, {"y": scores(0)}
    z["y"] = z["y"].copy()
    z["y"][0, 1, 0] = bad
    for row in (score_perplexity(y, z, IDS), score_divergence(y, z, None)):
        assert row[0, 1] == np.inf
        assert rise(row, seed=0) == (1.0, 1.0, 1.0)
        assert perplexities(row[0])[1] == pytest.approx(MOST)


def test_another_shape_has_lost_all() -> None:
    y, z = {"y": scores(0)}, {"y": scores(0)[:, :3]}
    assert score_perplexity(y, z, IDS)[0, 1] == np.inf
    assert score_divergence(y, z, None)[0, 1] == np.inf


def test_scores_of_a_short_float() -> None:
    y = scores(0).astype(ml_dtypes.bfloat16)
    row = score_perplexity({"y": y}, {"y": y.astype(np.float32)}, IDS)
    assert row[0, 1] == 0.0


def test_samples_in_which_nothing_counts() -> None:
    y = {"y": scores(0)}
    row = score_perplexity(y, y, np.full((1, 4), NO_TOKEN))
    assert row.tolist() == [[0.0, 0.0, 0.0]]
    assert [part.item() for part in perplexities(row)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("outputs", "tokens", "message"),
    [
        ({"y": np.zeros((1, 9), np.float32)}, IDS, r"needs scores of tokens, \[1, 4, 'vocab"),
        ({"y": scores(0)}, IDS + 5, "token 12 is outside of output 'y', which scores 9\n"),
        ({"y": scores(0) * np.nan}, IDS, "of the original gives 4 of 4 tokens no finite"),
    ],
)
def test_what_does_not_fit(outputs: dict[str, Any], tokens: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_perplexity(outputs, outputs, tokens)


def test_divergence_refuses_an_original_without_numbers() -> None:
    y = {"y": np.full((1, 4, 9), np.nan, np.float32)}
    with pytest.raises(DataError, match="of the original holds NaN or infinity"):
        score_divergence(y, y, None)


def test_auto_takes_logits_for_scores_of_classes() -> None:
    cache = np.ones((1, 2, 4, 8), np.float32)
    looks = [{"logits": scores(0), "present.0.key": cache}]
    assert output_kinds(looks) == {"logits": "classes", "present.0.key": "values"}
    many = {f"present.{n}.key": cache for n in range(4)}
    named = metric_named("auto", [{"logits": scores(0), **many}]).name
    assert named == "auto (logits: classes, present.0.key and 3 more: values)"
    assert output_kinds([{"hidden": scores(0)}]) == {"hidden": "values"}
