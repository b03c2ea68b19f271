"""Metrics of language models: perplexity of the tokens that follow, divergence of what is given.

Both are scored as ``metrics`` wants it, with sums of nats in place of amounts: ``original`` is
what the original loses, ``lost`` what the result loses beyond it, ``weight`` the tokens. The
metric of the original is ``exp(original / weight)``, that of the result
``exp((original + lost) / weight)``, lower is better, and the drop is the relative rise
``exp(lost / weight) - 1``, at most 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.errors import DataError
from onnxsqueeze.numerics.statistics import Estimate, paired_bootstrap

Array = npt.NDArray[Any]
Outputs = Mapping[str, Any]
Feed = Mapping[str, Any]

NO_TOKEN = -100
"""In place of a token that does not count; the usual mark of padding in labels."""
MASK_NAMES = ("attention_mask", "encoder_attention_mask", "mask")
NOT_TOKENS = ("position_ids", "token_type_ids", "segment_ids", "cache_position")
MOST = 1e9
"""The perplexity of a result that is unusable; larger ones are cut to it."""
SLICE_ELEMENTS = 2**21
"""Scores that are turned into float64 at a time, 16 MiB."""


def token_input(feed: Feed) -> str | None:
    """Return the name of the input that holds token ids; None if no input does.

    It is ``input_ids``, or the only input of integers with two axes that is no mask and no
    numbering.

    Example:
        >>> ids = np.zeros((1, 4), np.int64)
        >>> token_input({"tokens": ids, "attention_mask": ids})
        'tokens'
    """
    found = [
        name
        for name, value in feed.items()
        if name not in (*MASK_NAMES, *NOT_TOKENS)
        and np.ndim(value) == 2
        and np.asarray(value).dtype.kind in "iu"
    ]
    if "input_ids" in found:
        return "input_ids"
    return found[0] if len(found) == 1 else None


def next_tokens(feed: Feed, label: Any) -> Array:
    """Return, for each position of a sample, the token that follows; NO_TOKEN where none counts.

    A label that is given is that already: as long as the sequence, or (batch, sequence). Else the
    tokens are the sample's own, one to the left; those that the attention mask leaves out count
    neither as what follows nor as what is followed.

    Raises:
        DataError: If there is no label, and no input of token ids or only one token in it.

    Example:
        >>> next_tokens({"input_ids": np.array([[5, 6, 7]])}, None).tolist()
        [[6, 7, -100]]
    """
    if label is not None:
        return np.atleast_2d(np.asarray(label)).astype(np.int64)
    name = token_input(feed)
    if name is None:
        raise DataError(
            f"metric perplexity needs token ids, and the model's inputs are {', '.join(feed)}\n"
            "  It looks for input_ids, or the only input of integers of two axes.\n"
            "  Give the tokens that follow as labels, one row per sample, or use divergence."
        )
    ids = np.asarray(feed[name]).astype(np.int64)
    if ids.shape[1] < 2:
        raise DataError(
            f"metric perplexity needs the tokens that follow, and {name!r} has one in a sample\n"
            "  Give them as labels, one row per sample, or use divergence."
        )
    following = np.full(ids.shape, NO_TOKEN, np.int64)
    shown = counted(feed, ids.shape)
    is_pair = shown[:, :-1] & shown[:, 1:]
    following[:, :-1] = np.where(is_pair, ids[:, 1:], NO_TOKEN)
    return following


def counted(feed: Feed, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return which tokens of shape (batch, sequence) the attention mask leaves in.

    A mask that is longer than the sequence begins with what a cache holds.
    """
    batch, length = shape
    for name in MASK_NAMES:
        mask = np.asarray(feed[name]) if name in feed else np.zeros(0)
        if mask.ndim == 2 and mask.shape[0] == batch and mask.shape[1] >= length:
            return np.asarray(mask[:, mask.shape[1] - length :] != 0, np.bool_)
    return np.ones(shape, np.bool_)


def shown_tokens(feed: Feed, _: Any) -> Array | None:
    """Return which positions of a sample the attention mask leaves in; None: all."""
    name = token_input(feed)
    return None if name is None else counted(feed, np.asarray(feed[name]).shape)


def losses(scores: Array, tokens: Array) -> npt.NDArray[np.float64]:
    """Return ``log sum exp(scores) - scores[token]`` of each row, in nats.

    Args:
        scores: Of shape (rows, vocabulary); any float type.
        tokens: The rows' tokens, each in the vocabulary.

    Returns:
        Float64; NaN or infinity where the scores are.

    Example:
        >>> losses(np.zeros((1, 4)), np.array([2])).round(4).tolist()
        [1.3863]
    """
    found = np.empty(len(scores))
    for rows in _slices(scores):
        part = scores[rows].astype(np.float64)
        found[rows] = _log_sum(part) - part[np.arange(len(part)), tokens[rows]]
    return found


def divergences(scores: Array, others: Array) -> npt.NDArray[np.float64]:
    """Return ``KL(softmax(scores) || softmax(others))`` of each row, in nats, never negative.

    Example:
        >>> divergences(np.array([[0.0, 0.0]]), np.array([[0.0, np.log(3)]])).round(4).tolist()
        [0.1438]
    """
    found = np.empty(len(scores))
    for rows in _slices(scores):
        p, q = scores[rows].astype(np.float64), others[rows].astype(np.float64)
        p -= _log_sum(p)[:, None]
        q -= _log_sum(q)[:, None]
        shares = np.exp(p)
        # A token that the original never gives costs nothing, whatever the result says of it.
        apart = np.subtract(p, q, out=np.zeros_like(p), where=shares != 0)
        found[rows] = (shares * apart).sum(axis=1)
    # Rounding may leave -1e-17 for equal rows.
    return np.maximum(found, 0.0)


def score_perplexity(original: Outputs, result: Outputs, tokens: Array) -> Array:
    """Return [[nats of the original, nats more of the result, tokens]].

    Raises:
        DataError: If no output holds scores for each of the tokens, a token is outside of the
            vocabulary, or the original's scores are not finite.
    """
    name = _scores_named("perplexity", original, tokens.shape)
    y, other = np.asarray(original[name]), np.asarray(result[name])
    vocabulary = y.shape[-1]
    flat = tokens.reshape(-1)
    kept = flat >= 0
    if kept.any() and int(flat.max()) >= vocabulary:
        raise DataError(
            f"token {int(flat.max())} is outside of output {name!r}, which scores {vocabulary}\n"
            "  Make the samples with the model's own tokenizer."
        )
    before = losses(y.reshape(-1, vocabulary)[kept], flat[kept])
    if not np.isfinite(before).all():
        raise DataError(
            f"output {name!r} of the original gives {int((~np.isfinite(before)).sum())} of "
            f"{len(before)} tokens no finite probability\n"
            "  Leave such samples out, or mark these tokens with -100 in the labels."
        )
    lost = float("inf")
    if other.shape == y.shape:
        after = losses(other.reshape(-1, vocabulary)[kept], flat[kept])
        lost = float((after - before).sum()) if np.isfinite(after).all() else float("inf")
    return np.array([[float(before.sum()), lost, float(kept.sum())]])


def score_divergence(original: Outputs, result: Outputs, shown: Array | None) -> Array:
    """Return [[0, nats of KL(original || result), tokens]], by the output that scores tokens.

    Raises:
        DataError: If no output holds scores of tokens, or the original's are not finite.
    """
    name = _scores_named("divergence", original, None if shown is None else shown.shape)
    y, other = np.asarray(original[name]), np.asarray(result[name])
    rows = y.reshape(-1, y.shape[-1])
    kept: Any = slice(None) if shown is None or shown.all() else shown.reshape(-1)
    rows = rows[kept]
    if not np.isfinite(rows.max(axis=1, initial=-np.inf)).all():
        raise DataError(
            f"output {name!r} of the original holds NaN or infinity\n  Leave such samples out."
        )
    lost = float("inf")
    if other.shape == y.shape:
        apart = divergences(rows, other.reshape(-1, y.shape[-1])[kept])
        lost = float(apart.sum()) if np.isfinite(apart).all() else float("inf")
    return np.array([[0.0, lost, float(len(rows))]])


def perplexities(scores: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the metric of original and result, from scores of shape (..., 3).

    Where nothing counts both are 1. An unusable result has MOST.
    """
    whole, lost, weight = np.moveaxis(scores, -1, 0)
    tokens = np.maximum(weight, 1.0)
    before, after = whole / tokens, (whole + lost) / tokens
    return np.exp(before), np.exp(np.minimum(after, np.log(MOST)))


def rise(scores: Array, *, seed: int) -> Estimate:
    """Return the relative rise of the metric, at most 1, with its paired bootstrap interval.

    Args:
        scores: Of shape (samples, 3).
        seed: Seed of the draws.

    Example:
        >>> rise(np.array([[3.0, 0.0, 10.0]]), seed=0)
        Estimate(value=0.0, low=0.0, high=0.0)
    """
    _, lost, weight = np.moveaxis(scores, -1, 0)
    # exp(x) - 1 only rises, so that the ends of the interval of x are those of its interval; a
    # nat and more, to which lost parts are cut, is a rise of over 1.
    nats = paired_bootstrap(lost[:, None], weight[:, None], seed=seed)
    return Estimate(*(min(1.0, float(np.expm1(part))) for part in nats))


Truth = Callable[[Feed, Any], Any]
TOKEN_METRICS: Mapping[str, tuple[Callable[[Outputs, Outputs, Any], Array], Truth]] = {
    "perplexity": (score_perplexity, next_tokens),
    "divergence": (score_divergence, shown_tokens),
}
"""By name: the score, and what it is told of a sample, made of feed and label."""


def _slices(scores: Array) -> list[slice]:
    step = max(1, SLICE_ELEMENTS // max(1, scores.shape[1]))
    return [slice(start, start + step) for start in range(0, len(scores), step)]


def _log_sum(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    largest = rows.max(axis=1)
    with np.errstate(invalid="ignore"):  # of rows without a finite largest: theirs is NaN
        summed = np.log(np.exp(rows - largest[:, None]).sum(axis=1))
    return np.asarray(largest + summed)


def _scores_named(metric: str, outputs: Outputs, shape: tuple[int, ...] | None) -> str:
    """Return the output of floats with a row of scores for each token."""
    for name, value in outputs.items():
        array = np.asarray(value)
        is_wide = array.ndim >= 2 and array.shape[-1] >= 2 and array.dtype.kind in "fV"
        if is_wide and (shape is None or array.shape[:-1] == shape):
            return name
    found = ", ".join(f"{name} {list(np.shape(value))}" for name, value in outputs.items())
    wanted = "(batch, sequence, vocabulary)" if shape is None else f"{[*shape, 'vocabulary']}"
    raise DataError(
        f"metric {metric} needs scores of tokens, {wanted}, and the outputs are {found}\n"
        "  It is for language models; use auto, or give labels of the length that is scored."
    )
