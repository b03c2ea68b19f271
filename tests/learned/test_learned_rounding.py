"""Learned codes are never worse than those they begin with, on their own objective."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from onnxsqueeze.errors import DependencyError
from onnxsqueeze.learned import rounding
from onnxsqueeze.learned.rounding import Schedule, learned, lost
from onnxsqueeze.numerics.grid import limits, max_scale, to_grid
from onnxsqueeze.numerics.rounding import compensated, damped, descended
from tests.models import Array

needs_torch = pytest.mark.skipif(not rounding.is_available(), reason="torch is not installed")


def problem(seed: int, features: int = 24) -> tuple[Array, Array]:
    """Weights, and the Gram matrix of inputs that depend on each other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(500, features)) @ rng.normal(size=(features, features))
    rows = rng.normal(size=(10, features)).astype(np.float32)
    return rows, damped(x.T @ x / len(x), len(x))


@needs_torch
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("start", ["nearest", "descended"])
def test_no_row_loses_more_than_its_start(bits: int, start: str) -> None:
    rows, gram = problem(bits)
    scale = max_scale(rows, bits)
    step = np.repeat(scale, rows.shape[1], axis=1)
    codes = to_grid(rows, scale, bits)
    if start == "descended":
        fitted = compensated(rows, gram, scale, bits)
        codes = descended(fitted, rows, gram, scale, bits)
    made = learned(codes, rows, gram, scale, bits, schedule=Schedule(iterations=100))
    assert (lost(made, rows, gram, step) <= lost(codes, rows, gram, step)).all()
    low, high = limits(bits)
    assert made.min() >= low
    assert made.max() <= high
    assert made.dtype == codes.dtype


@needs_torch
def test_it_finds_what_no_single_code_can_reach() -> None:
    # Two inputs that are nearly the same: of (0.5, 0.5) one goes up and one down, and from (0, 0)
    # or (1, 1) a single change reaches that; of four pairs that pull on each other it does not
    # follow, so what is asked for is only that some start is improved.
    gains = []
    for seed in range(5):
        rows, gram = problem(seed)
        scale = max_scale(rows, 3)
        step = np.repeat(scale, rows.shape[1], axis=1)
        begin = descended(compensated(rows, gram, scale, 3), rows, gram, scale, 3, passes=20)
        made = learned(begin, rows, gram, scale, 3)
        gains.append(lost(made, rows, gram, step).sum() < lost(begin, rows, gram, step).sum())
    assert any(gains)


@needs_torch
def test_weights_on_the_grid_stay_there() -> None:
    rows, gram = problem(0)
    scale = max_scale(rows, 4)
    codes = to_grid(rows, scale, 4)
    exact = (codes * scale).astype(np.float32)
    made = learned(codes, exact, gram, scale, 4, schedule=Schedule(iterations=20))
    np.testing.assert_array_equal(made, codes)


@needs_torch
def test_the_same_problem_gives_the_same_codes() -> None:
    rows, gram = problem(1)
    scale = max_scale(rows, 3)
    codes = to_grid(rows, scale, 3)
    once, again = (
        learned(codes, rows, gram, scale, 3, schedule=Schedule(iterations=50)) for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> object:
        if name == "torch":
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    rows, gram = problem(0)
    scale = max_scale(rows, 4)
    with pytest.raises(DependencyError, match=r"torch is not installed\n.*onnxsqueeze\[torch\]"):
        learned(to_grid(rows, scale, 4), rows, gram, scale, 4)
