"""Conv, ConvTranspose, Gemm and MatMul: im2col rows, weight matrices, multiply-adds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.im2col import drawn
from onnxsqueeze.ops.row import Linear, WeightPort
from tests.ops.running import Array, make, run

FLOAT32_STEP = 2.0**-24


def _random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def _check(op_type: str, arrays: dict[str, Array], limit: int | None = None, **attributes) -> None:
    """The rows times the matrix are the output, and the matrix goes back to the weight."""
    model = make(op_type, arrays, constant=("W",) if "W" in arrays else ("B",), **attributes)
    node = model.graph[0]
    linear = row_of(node).linear(node)
    assert isinstance(linear, Linear)
    x, w = arrays[linear.x], arrays[linear.w]
    matrix = linear.matrix(node, w)
    np.testing.assert_array_equal(linear.tensor(node, matrix, w.shape), w)
    y = run(model, arrays)[0]
    groups, out, features = matrix.shape
    expected = np.moveaxis(y, 1, -1) if op_type == "Conv" else y
    expected = expected.reshape(-1, groups, out).swapaxes(0, 1)
    total = expected.shape[1]
    limit = total if limit is None else limit
    rows = linear.rows(node, x, w.shape, limit, np.random.default_rng(7))
    places = drawn(total, limit, np.random.default_rng(7))
    assert rows.shape == (groups, min(limit, total), features)
    assert rows.dtype == x.dtype
    # Values are at most 1 (alpha: 2), so a sum of n products errs by at most n * n roundings.
    bound = 4 * features**2 * FLOAT32_STEP
    product = rows.astype(np.float64) @ matrix.astype(np.float64).swapaxes(1, 2)
    np.testing.assert_allclose(product, expected[:, places], rtol=0, atol=bound)


SPATIAL = {1: (9,), 2: (7, 8), 3: (5, 4, 6)}
KERNEL = {1: (3,), 2: (3, 2), 3: (3, 2, 1)}
PADS = {1: [2, 1], 2: [1, 0, 2, 1], 3: [1, 0, 1, 0, 1, 2]}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"])
def test_conv_rows_times_matrix_are_the_output(dims, group, stride, padding):
    arrays = {
        "X": _random(2, 4, *SPATIAL[dims]),
        "W": _random(8, 4 // group, *KERNEL[dims], seed=1),
    }
    attributes = {"strides": [stride] * dims, "group": group}
    if padding == "pads":
        attributes["pads"] = PADS[dims]
    elif padding != "none":
        attributes["auto_pad"] = padding
    _check("Conv", arrays, **attributes)


@pytest.mark.parametrize("dilation", [(2, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("padding", [{}, {"pads": [2, 1, 0, 3]}])
def test_dilated_conv_rows_times_matrix_are_the_output(dilation, padding):
    arrays = {"X": _random(2, 3, 9, 11), "W": _random(5, 3, 3, 3, seed=1)}
    _check("Conv", arrays, dilations=dilation, strides=[2, 3], **padding)


def test_conv_rows_are_limited_to_drawn_positions():
    arrays = {"X": _random(3, 4, 10, 10), "W": _random(6, 2, 3, 3, seed=1)}
    _check("Conv", arrays, limit=17, group=2, pads=[1, 1, 1, 1])


@pytest.mark.parametrize("shape", [(5, 6), (6,), (2, 3, 6), (2, 1, 3, 6)])
@pytest.mark.parametrize("limit", [None, 3])
def test_matmul_rows_times_matrix_are_the_output(shape, limit):
    _check("MatMul", {"A": _random(*shape), "B": _random(6, 4, seed=1)}, limit=limit)


@pytest.mark.parametrize(
    ("trans_a", "trans_b", "alpha"), list(itertools.product([0, 1], [0, 1], [1.0, 2.0]))
)
def test_gemm_rows_times_matrix_are_the_output(trans_a, trans_b, alpha):
    a, b = _random(5, 6), _random(6, 4, seed=1)
    arrays = {"A": a.T if trans_a else a, "B": b.T if trans_b else b}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    _check("Gemm", arrays, transA=trans_a, transB=trans_b, alpha=alpha)


def test_matmul_with_a_batched_weight_is_no_matrix_product():
    node = make("MatMul", {"A": _random(2, 3, 4), "B": _random(2, 4, 5)}, constant=("B",)).graph[0]
    assert row_of(node).linear(node) is None


def test_gemm_bias_is_a_channel_bias_only_as_an_unscaled_vector():
    def bias(c: Array, **attributes) -> str | None:
        arrays = {"A": _random(3, 4), "B": _random(4, 5), "C": c}
        node = make("Gemm", arrays, constant=("B", "C"), **attributes).graph[0]
        return row_of(node).linear(node).bias

    assert bias(_random(5)) == "C"
    assert bias(_random(5), beta=0.5) is None
    assert bias(_random(3, 1)) is None


def test_drawn_positions_are_distinct_ascending_and_repeatable():
    first = drawn(1000, 50, np.random.default_rng(3))
    assert len(first) == 50
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(first, drawn(1000, 50, np.random.default_rng(3)))


@pytest.mark.parametrize(
    ("op_type", "shapes", "attributes", "expected"),
    [
        ("Conv", {"X": (1, 3, 8), "W": (6, 3, 3)}, {}, [("W", 0)]),
        ("ConvTranspose", {"X": (1, 3, 8), "W": (3, 6, 3)}, {}, [("W", 1)]),
        ("Gemm", {"A": (2, 3), "B": (3, 4)}, {}, [("B", 1)]),
        ("Gemm", {"A": (2, 3), "B": (4, 3)}, {"transB": 1}, [("B", 0)]),
        ("MatMul", {"A": (2, 3), "B": (3, 4)}, {}, [("B", 1), ("A", 0)]),
        ("MatMul", {"A": (3,), "B": (5, 3, 4)}, {}, [("B", 2)]),
    ],
)
def test_weight_axis_is_that_of_the_output_channels(op_type, shapes, attributes, expected):
    arrays = {name: _random(*shape) for name, shape in shapes.items()}
    node = make(op_type, arrays, **attributes).graph[0]
    assert row_of(node).weights(node) == tuple(WeightPort(*port, "linear") for port in expected)


@pytest.mark.parametrize(
    ("op_type", "shapes", "attributes", "expected"),
    [
        # 2 images, 6 of 4/2 channels in, 3x3, 5x5 places.
        ("Conv", {"W": (6, 2, 3, 3), "Y": (2, 6, 5, 5)}, {"group": 2}, 2 * 25 * 6 * 2 * 9),
        # Each of 4 x 25 inputs meets 3 outputs at 9 places.
        ("ConvTranspose", {"X": (1, 4, 5, 5), "W": (4, 3, 3, 3)}, {}, 4 * 25 * 3 * 9),
        ("Gemm", {"A": (7, 2), "Y": (2, 3)}, {"transA": 1}, 2 * 3 * 7),
        ("MatMul", {"A": (2, 5, 7), "Y": (2, 5, 3)}, {}, 2 * 5 * 7 * 3),
        ("MatMul", {"A": (2, 5, 7)}, {}, 0),  # the node did not run
    ],
)
def test_macs_are_the_products_that_are_summed(op_type, shapes, attributes, expected):
    ports = {"X": 1, "W": 1} if op_type.startswith("Conv") else {"A": 1, "B": 1}
    node = make(op_type, dict.fromkeys(ports, _random(1, 1, 1)), **attributes).graph[0]
    assert row_of(node).macs(node, shapes) == expected
