from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.analysis.saturation import (
    Risk,
    nearest_codes,
    risk,
    risks,
    saturation,
    weight_type,
)
from onnxsqueeze.facts.kernels import SPELLINGS
from onnxsqueeze.measure.kernel_cases import Case, in_rows, model, product, reference
from onnxsqueeze.runtime import ort
from tests.facts.test_kernels import exactness, kernels, speed
from tests.measure.test_kernels import IS_16_BIT

SIGNED = next(one for one in SPELLINGS if one.weight == "int8" and one.per == "channel")


def matmul(k: int, n: int) -> ir.Node:
    return product(Case("", "MatMul", (4, k), (k, n)))[0]


def conv(m: int, c: int, kernel: int, group: int = 1) -> ir.Node:
    x, w = (1, c * group, 5, 5), (m, c, kernel, kernel)
    return product(Case("", "Conv", x, w, attributes={"group": group}))[0]


@pytest.mark.parametrize(
    ("column", "over"),
    [
        ((65, 63), 0),  # 255 · 128 = 32640 fits
        ((65, 64), 1),
        ((-64, -64), 0),
        ((-64, -65), 1),
        ((127, -127), 0),  # unlike signs
        ((0, 127), 0),
        ((0, 127, 127, 0), 0),  # neighbours, and not a pair
        ((127, 127, 127), 1),  # the last one has no partner
        ((127, 127, -127, -127), 2),
    ],
)
def test_a_pair_is_at_risk_from_129_of_one_sign_on(column: tuple[int, ...], over: int) -> None:
    codes = np.array(column, np.int8)[:, np.newaxis]
    found = risk(matmul(len(column), 1), codes)
    assert found == Risk(-(-len(column) // 2), over, int(over > 0))


def test_channels_are_neighbours_in_a_convolution() -> None:
    codes = np.zeros((1, 2, 3, 3), np.int8)
    codes[0, :, 1, 1] = 127
    assert risk(conv(1, 2, 3), codes) == Risk(9, 1, 1)
    along = np.zeros((1, 2, 3, 3), np.int8)
    along[0, 0, 0, :2] = 127
    assert risk(conv(1, 2, 3), along) == Risk(9, 0, 0)


def test_a_depthwise_convolution_has_no_pairs_at_risk() -> None:
    codes = np.full((8, 1, 3, 3), 127, np.int8)
    assert risk(conv(8, 1, 3, group=8), codes).over == 0
    # two outputs per input channel are no depthwise kernel
    assert risk(conv(16, 1, 3, group=8), np.full((16, 1, 3, 3), 127, np.int8)).over == 16 * 4


def test_what_is_no_product_is_refused() -> None:
    with pytest.raises(ValueError, match="'r' is no product with a weight"):
        risk(ir.node("Relu", [ir.Value(name="x")], name="r"), np.zeros((2, 2), np.int8))


def test_saturation_counts_sums_that_were_cut_off() -> None:
    codes = np.array([[127, 1], [127, 1], [127, 1], [-127, 1]], np.int8)
    # unsigned activations (row by row): all 255; 255 and 0; 129 twice fits into 16 bits
    x = np.array([[127, 127, 127, 127], [127, -128, 0, 0], [1, 1, 0, 0]], np.float32)
    found = saturation(matmul(4, 2), codes, x, 1.0, 128)
    # 2 · 255 · 127 = 64770, cut to 32767; 129 · 254 = 32766 fits
    assert found.sums == 3 * 2 * 2
    assert (found.cut, found.outputs, found.wrong) == (1, 6, 1)
    assert found.largest == 64770 - 32767


def test_negative_sums_are_cut_off_too() -> None:
    x = np.full((1, 2), 127, np.float32)
    found = saturation(matmul(2, 1), np.full((2, 1), -127, np.int8), x, 1.0, 128)
    assert (found.cut, found.largest) == (1, 64770 - 32768)


def test_activations_that_stay_small_are_not_cut_off() -> None:
    codes = np.full((8, 4), 127, np.int8)
    x = np.random.default_rng(0).uniform(0, 0.5, (64, 8)).astype(np.float32)
    assert risk(matmul(8, 4), codes).over == 16
    found = saturation(matmul(8, 4), codes, x, 1 / 255, 0)
    assert (found.cut, found.wrong, found.largest) == (0, 0, 0)


def test_at_most_limit_rows_are_looked_at() -> None:
    found = saturation(matmul(2, 1), np.ones((2, 1), np.int8), np.zeros((9, 2)), 1.0, 0, limit=4)
    assert found.outputs == 4


def ran(case: Case, codes: Any, x: Any, step: float) -> Any:
    made = ort.session(model(case, SIGNED, codes, 1.0, step))
    return in_rows(case, ort.run(made, {"x": x})["y"])


@pytest.mark.skipif(not IS_16_BIT, reason="this processor adds products in more than 16 bits")
@pytest.mark.parametrize(("rows", "k"), [(1, 256), (16, 256), (16, 1031), (7, 33)])
def test_counts_are_those_of_the_kernel(rows: int, k: int) -> None:
    case = Case("", "MatMul", (rows, k), (k, 24), "float output")
    rng = np.random.default_rng(5)
    codes = rng.integers(-127, 128, case.w).astype(np.int8)
    x = rng.integers(-128, 128, case.x).astype(np.float32)
    errors = np.abs(ran(case, codes, x, 1.0) - reference(case, x, codes))
    found = saturation(product(case)[0], codes, x, 1.0, 128)
    assert found.largest > 0
    assert (found.wrong, found.largest) == (int((errors > 0).sum()), int(errors.max()))


@pytest.mark.skipif(not IS_16_BIT, reason="this processor adds products in more than 16 bits")
@pytest.mark.parametrize(("channels", "group"), [(4, 1), (3, 1), (3, 2), (5, 1), (1, 1), (1, 4)])
@pytest.mark.parametrize("first", range(0, 9, 2))
def test_pairs_are_those_of_the_convolution(channels: int, group: int, first: int) -> None:
    # Output m has two large weights: neighbours in the order of (kernel, channel), from m on.
    features = channels * 9
    m = (features - 1) // group * group
    case = Case(
        "", "Conv", (1, channels * group, 5, 5), (m, channels, 3, 3), attributes={"group": group}
    )
    ordered = np.zeros((m, features), np.int8)
    where = (np.arange(m) + first) % (features - 1)
    ordered[np.arange(m), where] = ordered[np.arange(m), where + 1] = 127
    codes = np.ascontiguousarray(np.moveaxis(ordered.reshape(m, 3, 3, channels), -1, 1))
    x = np.full(case.x, 127, np.float32)
    sums = reference(case, x, codes)
    step = float(sums.max()) / 126
    wrong = np.abs(ran(case, codes, x, step) - sums) > 2 * step
    expected = (where % 2 == 0).reshape(group, 1, m // group)
    assert np.array_equal(wrong, np.broadcast_to(expected, wrong.shape))
    assert risk(product(case)[0], codes).channels == int(expected.sum())
    assert saturation(product(case)[0], codes, x, 1.0, 128).wrong == int(wrong.sum())


def network() -> ir.Model:
    return ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["": 21]>
        g (float[N,4] x) => (float[N,2] y, float[N,2] z) {
        y = MatMul(x, a)  b = Relu(x)  z = MatMul(b, w) }""",
        initializers=[
            ir.tensor(np.array([[1, 2], [1, 2], [1, -2], [1, 2]], np.float32), name="a"),
            ir.tensor(np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32), name="w"),
        ],
    )


def test_risks_of_candidates_are_by_output() -> None:
    found = network()
    assert risks(found, integer_candidates(found)) == {"y": Risk(4, 3, 2), "z": Risk(4, 0, 0)}
    given = {"a": np.zeros((4, 2), np.int8)}
    assert risks(found, integer_candidates(found), given)["y"] == Risk(4, 0, 0)


def test_a_candidate_with_an_obstacle_has_no_risk() -> None:
    found = network()
    found.graph.initializers["a"].const_value = None
    assert set(risks(found, integer_candidates(found))) == {"z"}


def test_nearest_codes_have_a_scale_per_entry_of_the_axis() -> None:
    w = np.array([[2.0, 0.5], [1.0, 0.25]], np.float32)
    assert nearest_codes(w, axis=1).tolist() == [[127, 127], [64, 64]]


SATURATING = (exactness("uint8", 9), exactness("int8", 5, 0, 4))
EXACT = (exactness("uint8", 9), exactness("int8", 9))
FASTER, EQUAL = (speed("Conv", 1.0, 0.5),), (speed("Conv", 1.0, 1.0),)


@pytest.mark.parametrize(
    ("facts", "portable", "is_single", "dtype", "paired", "reason"),
    [
        (kernels(*EXACT, speeds=FASTER), True, False, "uint8", False, "every x64 and Arm kernel"),
        (None, False, False, "uint8", False, "not probed"),
        (kernels(EXACT[0], speeds=FASTER), False, False, "uint8", False, "no integer kernel for"),
        (kernels(*SATURATING, speeds=FASTER), False, False, "int8", True, "2.00 .* fit in 16 bit"),
        (kernels(*SATURATING, speeds=FASTER), False, True, "int8", False, "2.00 .* are exact"),
        (
            kernels(*SATURATING, speeds=EQUAL),
            False,
            False,
            "uint8",
            False,
            "1.00 times .* no gain",
        ),
        (kernels(*EXACT, speeds=FASTER), False, False, "int8", False, "2.00 times .* are exact"),
        (kernels(*EXACT, speeds=EQUAL), False, False, "uint8", False, "1.00 times .* no gain"),
        (kernels(EXACT[1], speeds=EQUAL), False, False, "int8", False, "they are exact"),
    ],
)
def test_signed_weights_are_for_where_they_are_faster_and_can_be_made_exact(
    facts: Any, portable: bool, is_single: bool, dtype: str, paired: bool, reason: str
) -> None:
    found = weight_type(facts, portable=portable, is_single=is_single, kind="Conv")
    assert (found.dtype, found.paired) == (dtype, paired)
    assert re.search(reason, found.reason)


def test_what_was_measured_of_the_node_goes_before_its_kind() -> None:
    facts = kernels(*EXACT, speeds=FASTER)
    assert weight_type(facts, kind="Conv", gain=1.0).dtype == "uint8"
