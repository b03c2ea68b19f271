"""Gradients against closed forms, and what their squares say against damage that was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsqueeze.errors import DataError
from onnxsqueeze.gradients.stream import weight_gradients
from tests.runtime.made import Array, made, random

pytest.importorskip("torch")

EPS = float(np.finfo(np.float32).eps)
SCORES = "g (float[N,6] x) => (float[N,4] y) <float[6,4] w> { y = MatMul (x, w) }"
CLASSES = """
g (float[N,6] x) => (float[N,4] y) <float[6,4] w> { h = MatMul (x, w)  y = Softmax (h) }"""
ONE = "g (float[N,6] x) => (float[N,1] y) <float[6,1] w> { y = MatMul (x, w) }"
GATE = "g (float[N,6] x) => (float[N,2] y) <float[6,2] w> { h = MatMul (x, w)  y = Sigmoid (h) }"


def softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def feeds(count: int, rows: int = 1) -> list[dict[str, Any]]:
    return [{"x": random(rows, 6, seed=n)} for n in range(count)]


@pytest.mark.parametrize("text", [SCORES, CLASSES])
def test_gradients_with_labels_are_those_of_the_cross_entropy(text: str) -> None:
    w, given = random(6, 4, seed=9), feeds(3)
    labels = np.array([0, 3, 1])
    found = list(weight_gradients(made(text, w=w), ["w"], given, labels=labels))
    for feed, label, gradients in zip(given, labels, found, strict=True):
        x = feed["x"].astype(np.float64)
        wanted = x.T @ (softmax(x @ w) - np.eye(4)[label])
        # The scores are sums of 6 products, and exponents turn their error into a relative one.
        bound = 32 * EPS * (1 + np.abs(x @ w).max()) * np.abs(x).max()
        np.testing.assert_allclose(gradients["w"], wanted, rtol=0, atol=bound)


def test_squared_gradients_of_one_output_are_its_damage() -> None:
    """With y = w·x the relative energy of an error δ in w is (δ·x)² / y² = ½ (δ·g)²."""
    w = random(6, 1, seed=9)
    for feed, gradients in zip(
        given := feeds(5), weight_gradients(made(ONE, w=w), ["w"], given), strict=True
    ):
        x = feed["x"].astype(np.float64)
        y = (x @ w).item()
        # y is a sum of 6 products, with cancellation.
        error = 16 * EPS * (np.abs(x) @ np.abs(w)).item() / abs(y)
        wanted = 2 * np.square(x / y).T
        np.testing.assert_allclose(np.square(gradients["w"]), wanted, rtol=2 * error + 8 * EPS)


def scatter(text: str, w: Array, feed: dict[str, Any], draws: int) -> Array:
    """Mean g² of one entry over draws."""
    stream = weight_gradients(made(text, w=w), ["w"], [feed], draws=draws)
    return np.stack([np.square(g["w"]) for g in stream])


@pytest.mark.parametrize("rows", [1, 3])
def test_draws_of_classes_have_the_fisher_information_in_the_mean(rows: int) -> None:
    """Of the mean KL divergence of R rows: Σ x² p (1 - p) / R for each entry of w."""
    w, feed = random(6, 4, seed=9) / np.float32(3), feeds(1, rows)[0]
    squares = scatter(CLASSES, w, feed, draws=2000)
    x = feed["x"].astype(np.float64)
    p = softmax(x @ w)
    wanted = np.square(x).T @ (p * (1 - p)) / rows
    # The draws' own spread: 24 means, each within 5 standard errors but for one run in 70,000.
    error = squares.std(axis=0) / np.sqrt(len(squares))
    assert (np.abs(squares.mean(axis=0) - wanted) <= 5 * error).all()


def test_draws_of_probabilities_are_of_each_entry_alone() -> None:
    feed = feeds(1)[0]
    w = feed["x"].T * np.float32([0.2, -0.2])
    x = feed["x"].astype(np.float64)
    p = 1 / (1 + np.exp(-(x @ w)))
    assert ((p < 0.5).any(), (p > 0.5).any()) == (True, True)  # or it would hold values
    squares = scatter(GATE, w, feed, draws=2000)
    wanted = np.square(x).T @ (p * (1 - p)) / 2
    error = squares.std(axis=0) / np.sqrt(len(squares))
    assert (np.abs(squares.mean(axis=0) - wanted) <= 5 * error).all()


def test_equal_seeds_draw_equal_gradients() -> None:
    model, given = made(SCORES), feeds(2)
    first, again, other = (
        [g["w"] for g in weight_gradients(model, ["w"], given, seed=seed)] for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_weight_that_nothing_depends_on_has_zeros() -> None:
    text = """
g (float[N,6] x) => (float[N,4] y) <float[6,4] w, float[4,4] v> {
  y = MatMul (x, w)
  dead = MatMul (y, v)
}"""
    (gradients,) = weight_gradients(made(text), ["w", "v"], feeds(1))
    assert gradients["w"].any()
    assert not gradients["v"].any()


@pytest.mark.parametrize(
    ("text", "label", "words"),
    [
        (SCORES, np.array([7]), "1 rows of 4 classes"),
        (SCORES, np.array([0.5]), "does not name"),
        (ONE, np.array([0]), "no output of the model holds classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(text: str, label: Array, words: str) -> None:
    with pytest.raises(DataError, match=words):
        list(weight_gradients(made(text), ["w"], feeds(1), labels=label))
