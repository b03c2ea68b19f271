from __future__ import annotations

import numpy as np

from onnxsqueeze.measure.prune_rows import live, mask_input
from tests.runtime.made import made, run

POOLED = """
g (int64[N,T] ids, int64[N,T] seen) => (float[N,4] y) <float[9,4] table, int64[1] one> {
  e = Gather (table, ids)
  m = Cast <to = 1> (seen)
  n = Unsqueeze (m, one)
  k = Mul (e, n)
  y = ReduceSum <keepdims = 0> (k, one)
}"""
ONE = np.array([1])


def pooled(text: str = POOLED):
    text = text.replace("Unsqueeze (m, one)", "Unsqueeze (m, two)").replace(
        "int64[1] one", "int64[1] one, int64[1] two"
    )
    return made(text, one=ONE, two=np.array([2]))


def feeds(count: int = 20) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "ids": rng.integers(1, 9, (1, 7)),
            "seen": (np.arange(7) < rng.integers(2, 7))[np.newaxis].astype(np.int64),
        }
        for _ in range(count)
    ]


def test_a_mask_is_found_by_what_it_does() -> None:
    assert mask_input(pooled(), feeds()) == "seen"


def test_zeros_and_ones_whose_places_count_are_no_mask() -> None:
    text = POOLED.replace("Mul (e, n)", "Add (e, n)")
    assert mask_input(pooled(text), feeds()) is None


def test_a_mask_that_masks_nothing_is_none() -> None:
    full = [{**feed, "seen": np.ones((1, 7), np.int64)} for feed in feeds()]
    assert mask_input(pooled(), full) is None
    assert mask_input(pooled(), []) is None


def test_live_places_are_picked_from_tensors_of_places_alone() -> None:
    mask = np.array([[1, 0, 1], [0, 0, 1]])
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(live(x, mask)[0], x.reshape(6, 4)[[0, 2, 5]])
    np.testing.assert_array_equal(live(x.reshape(6, 4), mask), x.reshape(6, 4)[[0, 2, 5]])
    other = np.zeros((2, 5, 4))
    assert live(other, mask) is other
    assert live(x, None) is x


def test_the_model_of_these_tests_runs() -> None:
    assert run(pooled(), feeds(1)[0])["y"].shape == (1, 4)
