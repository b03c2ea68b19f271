from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from onnx_ir.passes.common import ShapeInferencePass

from onnxsqueeze.measure.calibrate import JUDGED_ELEMENTS, both, compared, settled
from onnxsqueeze.measure.ranges import compared_ranges, streamed
from onnxsqueeze.numerics.clipping import DEFAULT, ends
from onnxsqueeze.runtime import ort
from tests.runtime.made import made, random

PRODUCT = """
g (float[N,16] x) => (float[N,8] y) <float[16,8] w> {
  y = MatMul (x, w)
}"""
CONV = """
g (float[1,3,H,W] x) => (float[] z) <float[4,3,3,3] w, float[4] b> {
  y = Conv (x, w, b)
  h = Relu (y)
  z = Sigmoid (h)
}"""


def product():
    return made(PRODUCT, w=random(16, 8))


def laplace(seed, *shape):
    return np.random.default_rng(seed).laplace(size=shape).astype(np.float32)


def choice(feeds, model=None, tensors=("x",)):
    model = model or product()
    return compared(model, feeds, streamed(model, feeds, tensors))


def relative(change, y):
    """The mean over rows of the squared error, over the row's energy and the median row's."""
    noise, energy = np.square(change).sum(axis=-1), np.square(y).sum(axis=-1)
    return np.mean(noise / (energy + np.median(energy)))


def error(model, feeds, pair):
    """The relative energy that rounding x leaves in y, by definition."""
    w = model.graph.initializers["w"].const_value.numpy().astype(np.float64)
    low, high = pair
    zero = np.round(-low / (high - low) * 255)
    scale = max(high / (255 - zero), -low / zero)
    x = np.concatenate([feed["x"] for feed in feeds]).astype(np.float64)
    rounded = (np.clip(np.round(x / scale) + zero, 0, 255) - zero) * scale
    return sum(
        relative(((a - b) @ w), b @ w)
        for a, b in zip(np.split(rounded, len(feeds)), np.split(x, len(feeds)), strict=True)
    ) / len(feeds)


def test_a_method_is_taken_where_it_is_better_in_both_halves():
    # Few values make a density wider than it is: the kernel's tails lie beyond what was seen.
    feeds = [{"x": laplace(seed, 256, 16)} for seed in range(6)]
    found = choice(feeds)["x"]
    halves = streamed(product(), feeds, ["x"])
    lost = [
        {
            method: error(product(), feeds[half::2], ends(halves[1 - half]["x"], method))
            for method in (DEFAULT, found.method)
        }
        for half in (0, 1)
    ]
    for half in lost:
        assert found.method == DEFAULT or half[found.method] < 0.91 * half[DEFAULT]
    assert f"is {sum(half[found.method] for half in lost) / 2:.2g}" in found.reason


def test_a_range_that_cuts_off_what_counts_is_not_taken():
    # Every third sample is larger: the average range cuts it off.
    feeds = [{"x": (1 + 9 * (seed % 3 == 0)) * laplace(seed, 64, 16)} for seed in range(12)]
    found = choice(feeds)["x"]
    assert found.method != "average"
    assert ends(found, "average")[1] < 0.6 * ends(found, "minmax")[1]


def test_equal_ranges_are_the_default():
    feeds = [{"x": np.tile(np.linspace(-1, 1, 16, dtype=np.float32), (9, 1))} for _ in range(4)]
    found = choice(feeds)["x"]
    assert (found.method, ends(found, found.method)) == (DEFAULT, (-1.0, 1.0))
    assert found.reason.startswith("no method clearly better on other samples")


def test_the_same_samples_give_the_same_choice():
    feeds = [{"x": laplace(seed, 64, 16)} for seed in range(6)]
    first, second = choice(feeds)["x"], choice(feeds)["x"]
    assert (first.method, first.reason) == (second.method, second.reason)


def test_one_sample_is_not_judged():
    found = choice([{"x": laplace(0, 8, 16)}])["x"]
    assert (found.method, found.reason) == (
        DEFAULT,
        "one sample, so that none can be judged on another",
    )


def test_what_is_not_finite_is_not_judged():
    feeds = [{"x": laplace(seed, 8, 16)} for seed in range(4)]
    feeds[1]["x"][0, 0] = np.inf
    assert choice(feeds)["x"].reason == "not compared"


def test_products_that_overflow_are_not_judged():
    feeds = [{"x": np.float32(3e37) * random(8, 16, seed=seed)} for seed in range(4)]
    found = choice(feeds)["x"]
    assert found.reason == "its readers' outputs are not finite, so none was judged"


def test_zero_is_not_judged():
    feeds = [{"x": np.zeros((8, 16), np.float32)} for _ in range(4)]
    assert choice(feeds)["x"].reason == "not compared"


def test_a_tensor_that_closes_a_kernel_is_judged_by_what_reads_it():
    model = made(CONV, w=random(4, 3, 3, 3), b=random(4))
    feeds = [{"x": random(1, 3, 8, 8 + seed, seed=seed)} for seed in range(4)]
    found = choice(feeds, model, ["x", "h"])
    for name in ("x", "h"):
        assert "its readers' error" in found[name].reason
    assert ends(found["h"], found["h"].method)[0] == 0.0


def test_readers_that_cannot_be_run_alone_leave_the_tensor_itself():
    model = made(
        """
    g (float[1,3,H,W] x) => (int64[4] z) <float[4,3,3,3] w> {
      y = Conv (x, w)
      z = Shape (y)
    }""",
        w=random(4, 3, 3, 3),
    )
    feeds = [{"x": random(1, 3, 8, 8, seed=seed)} for seed in range(4)]
    assert "its readers' error" in choice(feeds, model, ["y"])["y"].reason


@pytest.mark.parametrize("shape", [(2, 8), (4, 8)])
def test_other_operands_of_a_reader_are_its_own(shape):
    model = made(
        """
    g (float[1,3,H,W] x, float[C,8] a) => (float[] z) <float[4,3,3,3] w, float k> {
      y = Conv (x, w)
      p = Relu (y)
      r = ReduceMean <keepdims = 0, noop_with_empty_axes = 0> (a)
      s = Sum (p, r, k)
      z = Neg (s)
    }""",
        w=random(4, 3, 3, 3),
        k=np.float32(2),
    )
    ShapeInferencePass()(model)  # readers must have types
    feeds = [{"x": random(1, 3, 8, 8, seed=s), "a": random(*shape, seed=s)} for s in range(4)]
    found = choice(feeds, model, ["p"])["p"]
    # Sum passes the rounding on as it is, but k makes its energy larger.
    values = ort.run_all(ort.session(ort.expose(model, ["p", "s"])), feeds)
    halves = streamed(model, feeds, ["p"])
    lost = []
    for half in (0, 1):
        high = ends(halves[1 - half]["p"], found.method)[1]
        for one in values[half::2]:
            rounded = np.clip(np.round(one["p"] / (high / 255)), 0, 255) * (high / 255)
            lost.append(relative(rounded - one["p"], one["s"].astype(np.float64)))
    assert f"is {np.mean(lost):.2g}" in found.reason


def test_settling_counts_all_and_leaves_the_rest_as_it_is():
    feeds = [{"x": laplace(seed, 2000, 16)} for seed in range(3)]
    halves = streamed(product(), feeds, ["x", "y"])
    hidden = [
        {**half, "x": dataclasses.replace(half["x"], sample=half["y"].sample.__class__(
            -20, 0, np.full(1, half["x"].sample.total)))}
        for half in halves
    ]  # fmt: skip
    even, odd = settled(product(), feeds, (hidden[0], hidden[1]))
    for half, part in ((even, feeds[::2]), (odd, feeds[1::2])):
        values = np.concatenate([feed["x"] for feed in part])
        assert half["x"].sample.total == values.size == half["x"].count
    assert even["y"] is halves[0]["y"]
    again = settled(product(), feeds, (even, odd))
    assert again[0]["x"] is even["x"]


def test_both_is_what_all_samples_give():
    feeds = [{"x": laplace(seed, 8, 16)} for seed in range(5)]
    found = both(streamed(product(), feeds, ["x"]))["x"]
    values = np.stack([feed["x"] for feed in feeds])
    assert (found.count, found.low, found.high) == (values.size, values.min(), values.max())
    assert found.average_high == pytest.approx(values.max(axis=(1, 2)).mean(dtype=float))


def test_large_tensors_are_judged_on_few_samples(monkeypatch):
    read = []
    feeds = [{"x": laplace(seed, 8, 16)} for seed in range(40)]
    halves = streamed(product(), feeds, ["x"])

    class Counted(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    compared(product(), Counted(feeds), halves)
    assert (len(read), {index % 2 for index in read}) == (32, {0, 1})
    read.clear()
    assert JUDGED_ELEMENTS > 128
    module = sys.modules["onnxsqueeze.measure.calibrate"]
    monkeypatch.setattr(module, "JUDGED_ELEMENTS", 128 * 3)
    compared(product(), Counted(feeds), halves)
    assert (len(read), sum(index % 2 for index in read)) == (6, 3)


def test_groups_of_any_size_give_the_same_choice(monkeypatch):
    model = made(CONV, w=random(4, 3, 3, 3), b=random(4))
    feeds = [{"x": random(1, 3, 8, 8, seed=seed)} for seed in range(4)]
    read = []
    expose = ort.expose
    monkeypatch.setattr(ort, "expose", lambda *a: read.append(list(a[1])) or expose(*a))
    together = choice(feeds, model, ["x", "h"])
    assert len(read) == 1
    monkeypatch.setattr(sys.modules["onnxsqueeze.measure.calibrate"], "GROUP_ELEMENTS", 1)
    apart = choice(feeds, model, ["x", "h"])
    assert len(read) == 3
    for name in ("x", "h"):
        assert apart[name].method == together[name].method
        assert apart[name].reason == together[name].reason


def test_ranges_carry_the_choice():
    feeds = [{"x": laplace(seed, 64, 16)} for seed in range(6)]
    assert compared_ranges(product(), feeds, ["x"])["x"].reason == choice(feeds)["x"].reason
