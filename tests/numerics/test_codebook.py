from __future__ import annotations

import math

import numpy as np
import pytest

from onnxsqueeze.numerics.codebook import compensated_levels, levels, nearest
from onnxsqueeze.numerics.grid import from_grid, mse_scale, to_grid
from onnxsqueeze.numerics.rounding import factor

LAPLACE_16 = 0.0154
"""Least error of 16 levels for a Laplace density, as a part of its variance (Jain 1989, 4.4)."""
UNIFORM_16 = 0.0254
"""The same for 16 levels at equal distance (there)."""
NORMAL_16 = 0.009497
"""Least error of 16 levels for a normal density (Max 1960, table I)."""


def error(values, book):
    return float(np.square(values - book[nearest(values, book)]).mean() / values.var())


@pytest.mark.parametrize(("draw", "least"), [("laplace", LAPLACE_16), ("normal", NORMAL_16)])
def test_sixteen_levels_reach_the_known_least_error(draw, least):
    values = getattr(np.random.default_rng(0), draw)(size=200_000)
    book = levels(values, 4)
    squares = np.square(values - book[nearest(values, book)])
    # Lloyd fits to the sample, which makes it no worse there; its mean strays as means do.
    strays = 4 * squares.std() / math.sqrt(len(values))
    assert squares.mean() <= least * values.var() + strays


def test_a_codebook_beats_the_best_uniform_grid_on_laplace_values():
    values = np.random.default_rng(0).laplace(size=100_000).astype(np.float32)
    scale = mse_scale(values[None], 4)
    uniform = from_grid(to_grid(values[None], scale, 4), scale)[0]
    on_grid = float(np.square(values - uniform).mean() / values.var())
    # the derived ratio of the two, and a tenth for a finite sample and a search in steps
    assert error(values, levels(values, 4)) <= on_grid * LAPLACE_16 / UNIFORM_16 * 1.1


def test_few_distinct_values_are_kept_exactly():
    values = np.array([3.0, -1.0, 3.0, 0.5], np.float32)
    book = levels(values, 2)
    assert book[nearest(values, book)].tolist() == values.tolist()
    assert len(levels(values, 4)) == 16


def test_what_is_worth_more_is_nearer():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-3, 1, 5000), rng.normal(3, 1, 5000)])
    worth = np.where(values < 0, 1.0, 0.01)
    left = values < 0
    weighted, plain = levels(values, 3, worth), levels(values, 3)
    assert error(values[left], weighted) < error(values[left], plain)
    assert levels(values, 3, np.zeros(10_000)).tolist() == plain.tolist()


@pytest.mark.parametrize("values", [np.array([]), np.array([1.0, np.nan])])
def test_only_finite_values_make_a_codebook(values):
    with pytest.raises(ValueError, match="finite values"):
        levels(values, 4)


def test_errors_are_made_up_for_in_the_columns_that_follow():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 24)) @ rng.normal(size=(24, 32))  # columns depend on each other
    x += 0.1 * rng.normal(size=x.shape)
    gram = x.T @ x / len(x)
    rows = rng.laplace(size=(16, 32)).astype(np.float32)
    scale = np.ones((16, 1), np.float32)
    book = levels(rows, 3)
    known = factor(gram)

    made = book[compensated_levels(rows, known.order, known.upper, scale, book)]

    plain = book[nearest(rows, book)]
    lost = [float(np.einsum("rk,kl,rl->", rows - one, gram, rows - one)) for one in (made, plain)]
    assert lost[0] < 0.7 * lost[1]
    assert math.isfinite(lost[0])
