from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onnxsqueeze.facts.ranges import TensorRange
from onnxsqueeze.numerics.clipping import METHODS, ends
from onnxsqueeze.numerics.histogram import histogram
from onnxsqueeze.plan.grids import GridEnds, all_grid_ends, explained, grid_ends
from onnxsqueeze.plan.types import ActivationChoice

VALUES = np.random.default_rng(0).laplace(size=5000)
SEEN = TensorRange(
    count=5000.0,
    low=float(VALUES.min()),
    high=float(VALUES.max()),
    not_finite=0,
    sample=histogram(VALUES),
    extremes=histogram(VALUES),
    mean=np.zeros(0),
    mean_square=np.zeros(0),
    method="percentile",
    reason="it lost least",
)


def test_auto_is_the_method_that_was_measured_with_its_reason():
    found = grid_ends(SEEN, "auto")
    assert found == GridEnds(ends(SEEN, "percentile"), "range by percentile: it lost least")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_was_asked_for_is_taken(method):
    assert grid_ends(SEEN, method) == GridEnds(
        ends(SEEN, method), f"range by {method}, as asked for"
    )


def test_tensors_that_were_not_finite_have_no_grid():
    bad = dataclasses.replace(SEEN, not_finite=1)
    assert list(all_grid_ends({"a": SEEN, "b": bad}, "minmax")) == ["a"]


def test_reasons_of_the_ends_come_after_those_of_the_choice():
    choice = ActivationChoice(low=-1.0, high=2.0, reason="read by n")
    found = explained({"a": choice}, {"a": GridEnds((-1.0, 2.0), "range by mse, as asked for")})
    assert found["a"].reason == "read by n; range by mse, as asked for"
    assert (found["a"].low, found["a"].high) == (-1.0, 2.0)
    assert explained({}, {}) == {}
