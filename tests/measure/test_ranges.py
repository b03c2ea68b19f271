from __future__ import annotations

import tracemalloc

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.measure.ranges import SAMPLED, compared_ranges, ranges, streamed
from onnxsqueeze.runtime import ort
from tests.runtime.made import made, random

RELU = "g (float[N,M] x) => (float[N,M] y) { y = Relu (x) }"
PRODUCT = """
g (float[N,16] x) => (float[N,8] z) <float[16,8] w> {
  h = MatMul (x, w)
  z = Tanh (h)
}"""
# A float32 mean of n values: n roundings at most.
EPSILON = 2.0**-23


def counted(values, like):
    bins = np.floor(np.ldexp(values.astype(np.float64).ravel(), -like.exponent)) - like.first
    return np.bincount(bins.astype(np.int64), minlength=len(like.counts))


def same_as(found, arrays):
    """Small tensors are sampled whole, so everything can be told from the tensors themselves."""
    flat = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])
    edges = [
        reduce(np.atleast_1d(a), axis=-1).ravel() for a in arrays for reduce in (np.min, np.max)
    ]
    assert found.count == flat.size
    assert (found.low, found.high) == (flat.min(), flat.max())
    assert found.not_finite == 0
    np.testing.assert_array_equal(found.sample.counts, counted(flat, found.sample))
    edges = np.concatenate(edges)
    np.testing.assert_array_equal(found.extremes.counts, counted(edges, found.extremes))


def test_statistics_are_those_of_the_tensors_for_varying_shapes():
    model = made("""
    g (float[N,4,T] x) => (float[] y) <float[6,4,3] w> {
      h = Conv (x, w)
      y = Relu (h)
    }""")
    feeds = [{"x": random(n, 4, t, seed=n)} for n, t in ((1, 9), (3, 5), (2, 30))]
    found = ranges(model, feeds, ["x", "h", "y"])
    made_session = ort.session(ort.expose(model, ["h", "y"]), low_memory=True)
    outputs = ort.run_all(made_session, feeds)
    same_as(found["x"], [feed["x"] for feed in feeds])
    same_as(found["h"], [one["h"] for one in outputs])
    same_as(found["y"], [one["y"] for one in outputs])
    assert list(found) == ["x", "h", "y"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("axis", [1, -1, 0])
def test_moments_per_channel_over_all_samples(dtype, axis):
    kind = {np.float32: "float", np.float16: "float16"}[dtype]
    model = made(f"g ({kind}[A,B,C] x) => ({kind}[] y) {{ y = Relu (x) }}")
    dims = [(2, 3, 5), (4, 3, 5), (1, 3, 5)]
    dims = [tuple(4 if i == axis % 3 else d for i, d in enumerate(shape)) for shape in dims]
    arrays = [(100 * random(*shape, seed=i)).astype(dtype) for i, shape in enumerate(dims)]
    found = ranges(model, [{"x": a} for a in arrays], ["x"], moments={"x": (axis, 3)})["x"]
    rows = np.concatenate([np.moveaxis(a, axis, 0).reshape(4, -1) for a in arrays], axis=1)
    rows = rows.astype(np.float64)
    slack = rows.shape[1] * EPSILON
    np.testing.assert_allclose(found.mean, rows.mean(axis=1), rtol=0, atol=300 * slack)
    np.testing.assert_allclose(found.mean_square, np.square(rows).mean(axis=1), rtol=slack)


def test_squares_of_half_values_do_not_overflow():
    model = made("g (float16[N,M] x) => (float16[] y) { y = Relu (x) }")
    x = np.full((2, 3), 1000, np.float16)
    found = ranges(model, [{"x": x}], ["x"], moments={"x": (1, 2)})["x"]
    np.testing.assert_array_equal(found.mean_square, np.full(3, 1e6))
    same_as(found, [x])


def test_moments_of_vectors_are_the_values():
    model = made("g (float[N] x) => (float[N] y) { y = Relu (x) }")
    feeds = [{"x": np.array([1, 2, 3], np.float32)}, {"x": np.array([3, 2, 1], np.float32)}]
    found = ranges(model, feeds, ["x"], moments={"x": (0, 1)})["x"]
    np.testing.assert_array_equal(found.mean, [2, 2, 2])
    np.testing.assert_array_equal(found.mean_square, [5, 4, 5])


def test_channels_that_come_and_go_have_no_moments():
    feeds = [{"x": random(2, m)} for m in (3, 4, 3)]
    found = ranges(made(RELU), feeds, ["x", "y"], moments={"x": (1, 2)})
    assert (found["x"].mean.size, found["x"].mean_square.size) == (0, 0)
    assert found["y"].mean.size == 0  # not asked for
    same_as(found["x"], [feed["x"] for feed in feeds])


def test_scalars_and_tensors_of_one_value():
    model = made("""
    g (float[N] x) => (float y, float[1,1] z) <int64[2] shape = {1, 1}> {
      y = ReduceSum <keepdims = 0> (x)
      z = Reshape (y, shape)
    }""")
    found = ranges(model, [{"x": np.ones(n, np.float32)} for n in (3, 5)], ["y", "z"])
    for name in ("y", "z"):
        assert (found[name].count, found[name].low, found[name].high) == (2, 3, 5)
        assert found[name].extremes.total == 4


def test_empty_tensors_count_nothing():
    shapes = [(0, 3), (2, 0), (2, 3)]
    feeds = [{"x": random(*shape)} for shape in shapes]
    found = ranges(made(RELU), feeds, ["x"], moments={"x": (1, 2)})["x"]
    same_as(found, [feeds[2]["x"]])
    nothing = ranges(made(RELU), feeds[:2], ["x"])["x"]
    assert (nothing.count, nothing.low, nothing.high, nothing.sample.total) == (0, 0, 0, 0)


def test_infinite_and_missing_values_are_counted_and_left_out():
    x = np.array([[-np.inf, -5, 3], [np.nan, 1, 2], [0, 1, np.inf]], np.float32)
    found = ranges(made(RELU), [{"x": x}], ["x"])["x"]
    assert found.not_finite == 3
    assert (found.low, found.high) == (-5, 3)
    assert found.sample.total == 6
    none = ranges(made(RELU), [{"x": np.full((2, 2), -np.inf, np.float32)}], ["x"])["x"]
    assert (none.low, none.high, none.not_finite, none.sample.total) == (0, 0, 4, 0)


@pytest.mark.parametrize("size", [2 * SAMPLED - 1, 2 * SAMPLED, 3 * SAMPLED, 100_000, 1_000_001])
def test_large_tensors_are_sampled_and_their_extremes_are_exact(size):
    x = random(1, size)
    x[0, size // 2] = 99.0
    # An iterator is read once: no second pass.
    found = ranges(made(RELU), iter([{"x": x}]), ["x"])["x"]
    assert (found.count, found.low, found.high) == (size, x.min(), 99.0)
    # The stride is 1 + 2·floor(size / 8192), so a little over 2/3 of 4096 at the least.
    stride = 1 + 2 * (size // (2 * SAMPLED))
    assert found.sample.total == -(-size // stride)
    assert 2 * SAMPLED / 3 <= found.sample.total < 2 * SAMPLED
    np.testing.assert_array_equal(found.sample.counts, counted(x[0, ::stride], found.sample))


def test_every_channel_of_an_even_number_is_sampled():
    x = np.broadcast_to(np.arange(64, dtype=np.float32), (1000, 64)).copy()
    found = ranges(made(RELU), [{"x": x}], ["x"])["x"]
    seen = np.unique(np.floor(found.sample.centers[found.sample.counts > 0]))
    np.testing.assert_array_equal(seen, np.arange(64))


def test_many_rows_keep_few_extremes():
    x = random(50_000, 2)
    found = ranges(made(RELU), [{"x": x}], ["x"])["x"]
    assert (found.low, found.high) == (x.min(), x.max())
    assert SAMPLED <= found.extremes.total <= 2 * SAMPLED


def test_what_is_kept_does_not_grow_with_the_samples():
    model = made(RELU)

    def feeds(count):
        return ({"x": random(64, 4096, seed=seed)} for seed in range(count))

    def peak(count):
        tracemalloc.start()
        ranges(model, feeds(count), ["x", "y"], moments={"x": (1, 2)})
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(1)  # what is made once and kept
    assert peak(12) < peak(2) + 64 * 4096 * 4  # less than one tensor more


def test_averages_are_of_the_samples_with_a_finite_element():
    arrays = [[[1, 5]], [[-3, 2]], [[np.nan, np.inf]], np.zeros((0, 2)), [[2, 2]]]
    feeds = [{"x": np.array(a, np.float32)} for a in arrays]
    found = ranges(made(RELU), feeds, ["x"])["x"]
    assert (found.samples, found.average_low, found.average_high) == (3, 0.0, 3.0)
    assert (found.low, found.high, found.count, found.not_finite) == (-3, 5, 8, 2)


def test_halves_are_the_samples_of_even_and_odd_number():
    feeds = [{"x": random(3, 4, seed=seed)} for seed in range(5)]
    even, odd = streamed(made(RELU), feeds, ["x"])
    same_as(even["x"], [feed["x"] for feed in feeds[::2]])
    same_as(odd["x"], [feed["x"] for feed in feeds[1::2]])
    assert streamed(made(RELU), feeds, []) == ({}, {})


def test_all_values_are_counted_where_the_sample_hides_the_tail():
    x = random(64, 1024)
    x.reshape(-1)[1 : 17 * 200 : 17] = 40.0  # the stride is 17
    hidden = ranges(made(RELU), iter([{"x": x}]), ["x"])["x"]
    assert hidden.sample.total < x.size
    assert not (hidden.sample.centers[hidden.sample.counts > 0] > 39).any()
    found = compared_ranges(made(RELU), [{"x": x}], ["x"])["x"]
    assert found.sample.total == x.size
    np.testing.assert_array_equal(found.sample.counts, counted(x, found.sample))


def test_methods_are_compared_for_what_integer_kernels_read_and_write():
    feeds = [{"x": random(64, 16, seed=seed)} for seed in range(4)]
    found = compared_ranges(made(PRODUCT, w=random(16, 8)), feeds, ["x", "h", "z"])
    assert "its readers' error" in found["x"].reason
    assert found["z"].reason == "not compared"


def test_progress_counts_the_samples():
    told = []
    feeds = [{"x": random(2, 3, seed=seed)} for seed in range(3)]
    ranges(made(RELU), feeds, ["x"], progress=told.append)
    assert told == [1, 2, 3]


def test_the_model_stays_as_it_is():
    model = made(RELU)
    before = ir.to_proto(model).SerializeToString()
    ranges(model, [{"x": random(2, 3)}], ["x", "y"], moments={"y": (1, 2)})
    assert ir.to_proto(model).SerializeToString() == before


def test_nothing_to_watch():
    assert ranges(made(RELU), [{"x": random(2, 3)}], []) == {}


def test_an_old_opset_is_refused():
    model = made(RELU, opset=17)
    with pytest.raises(ValueError, match="calibration needs opset 18 or later, and the model has"):
        ranges(model, [], ["x"])
