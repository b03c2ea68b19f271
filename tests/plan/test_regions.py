"""The set of kernels with the least time: borders count, and what changes together."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from onnxsqueeze.analysis.regions import Link
from onnxsqueeze.plan.regions import Kernel, cheapest, total_ms


def kernel(y, float_ms, integer_ms, border_ms=1.0, together=None):
    return Kernel(y, together or y, float_ms, integer_ms, border_ms, border_ms)


def chain(*kernels):
    """Kernels in a row; the first reads, and the last is read, in floats."""
    names = [one.y for one in kernels]
    links = {"t": Link(None, (names[0],), has_others=False)}
    for one, after in zip(names, [*names[1:], None], strict=True):
        links[one] = Link(one, () if after is None else (after,), has_others=after is None)
    return kernels, links


def test_kernels_that_do_not_pay_alone_pay_together():
    one, two = kernel("a", 2.0, 0.5), kernel("b", 2.0, 0.5)
    assert cheapest(*chain(one)) == frozenset()  # saves 1.5, and its borders cost 2
    assert cheapest(*chain(one, two)) == {"a", "b"}  # saves 3


def test_a_slow_kernel_between_two_fast_ones_stays_with_them():
    fast, slow = 5.0, kernel("b", 1.0, 2.5)
    both = chain(kernel("a", fast, 1.0), slow, kernel("c", fast, 1.0))
    assert cheapest(*both) == {"a", "b", "c"}  # it loses 1.5, and a gap costs two borders
    worse = chain(kernel("a", fast, 1.0), kernel("b", 1.0, 3.5), kernel("c", fast, 1.0))
    assert cheapest(*worse) == {"a", "c"}


def test_a_tensor_with_many_readers_enters_once():
    kernels = (kernel("a", 1.6, 1.0), kernel("b", 1.6, 1.0))
    links = {"t": Link(None, ("a", "b"), has_others=True)}
    assert total_ms({"a", "b"}, kernels, links) == 3.0
    assert cheapest(kernels, links) == {"a", "b"}  # saves 1.2 for one border of 1


def test_a_tensor_that_is_read_in_floats_too_leaves():
    kernels, links = chain(kernel("a", 3.0, 1.0), kernel("b", 3.0, 1.0))
    assert total_ms({"a", "b"}, kernels, links) == 4.0
    links["a"] = Link("a", ("b",), has_others=True)
    assert total_ms({"a", "b"}, kernels, links) == 5.0
    assert total_ms({"b"}, kernels, links) == 6.0
    assert total_ms((), kernels, links) == 6.0


def test_readers_of_one_weight_change_together():
    kernels = (kernel("a", 5.0, 1.0, together="w"), kernel("b", 1.0, 4.0, together="w"))
    links = {"s": Link(None, ("a",), has_others=False), "t": Link(None, ("b",), has_others=False)}
    assert cheapest(kernels, links) == frozenset()  # saves 1 in all, borders cost 2


def test_nothing_is_chosen_of_nothing():
    assert cheapest((), {}) == frozenset()


@pytest.mark.parametrize("seed", range(20))
def test_no_change_of_one_kernel_or_region_is_better(seed):
    rng = np.random.default_rng(seed)
    names = [f"k{number}" for number in range(7)]
    kernels = [kernel(y, *rng.uniform(0.5, 3, 2), border_ms=rng.uniform(0, 1.5)) for y in names]
    links = {"t": Link(None, ("k0", "k3"), has_others=False)}
    for number, y in enumerate(names):
        later = [other for other in names[number + 1 :] if rng.random() < 0.4]
        links[y] = Link(y, tuple(later), has_others=bool(rng.random() < 0.3))
    found = cheapest(kernels, links)
    least = total_ms(found, kernels, links)
    for y in names:
        assert total_ms(found ^ {y}, kernels, links) >= least - 1e-9
    every = [set(some) for size in range(8) for some in combinations(names, size)]
    best = min(total_ms(some, kernels, links) for some in every)
    # Descent may end short of the best set, but never beyond either of its starts.
    assert best - 1e-9 <= least <= min(total_ms(some, kernels, links) for some in ([], names))
