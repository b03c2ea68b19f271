"""The type of every weight's codes, by what the target's kernels make of its readers."""

from __future__ import annotations

import pytest

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.analysis.weight_types import kind_of_node, weight_types
from onnxsqueeze.facts.op_latency import OpKey, OpLatency
from onnxsqueeze.plan.elsewhere import elsewhere
from tests.analysis.test_saturation import EXACT, FASTER, SATURATING
from tests.facts.test_kernels import kernels, speed
from tests.passes.test_insert_qdq import drawn, parsed
from tests.plan.test_in_regions import latency

TEXT = """g (float[1,4,8,8] x) => (float[1,4,8,8] out) {
    y = Conv(x, w)  z = Conv<group=4>(y, d)  a = Conv(z, v)  b = Conv(a, v)  out = Tanh(b) }"""


def network():
    return parsed(TEXT, w=drawn(4, 4, 3, 3), d=drawn(4, 1, 1, 1), v=drawn(4, 4, 1, 1))


def types(facts, latencies=None, **changes):
    model = network()
    found = weight_types(model, integer_candidates(model), facts, latencies or {}, **changes)
    return {name: (one.dtype, one.paired) for name, one in found.items()}


def test_only_what_is_added_in_pairs_is_paired():
    found = types(kernels(*SATURATING, speeds=FASTER), {y: latency() for y in "yzab"})
    assert found == {"w": ("int8", True), "d": ("int8", False), "v": ("int8", True)}
    exact = types(kernels(*EXACT, speeds=FASTER), {y: latency() for y in "yzab"})
    assert exact == dict.fromkeys("wdv", ("int8", False))


@pytest.mark.parametrize(("facts", "portable"), [(None, False), (kernels(*EXACT), True)])
def test_unsigned_where_nothing_is_known_or_all_must_be_right(facts, portable):
    found = types(facts, {y: latency() for y in "yzab"}, portable=portable)
    assert found == dict.fromkeys("wdv", ("uint8", False))


def test_signed_must_pay_for_all_readers():
    slow = latency(uint8=1.0, int8=1.0)
    found = types(kernels(*EXACT), {"y": latency(), "z": latency(), "a": latency(), "b": slow})
    assert found == {"w": ("int8", False), "d": ("int8", False), "v": ("uint8", False)}


def test_kinds_of_nodes_are_those_of_the_probe():
    model = network()
    nodes = {node.outputs[0].name: node for node in model.graph}
    shapes = {"y": (4, 4, 3, 3), "z": (4, 1, 1, 1), "a": (4, 4, 1, 1)}
    found = {y: kind_of_node(nodes[y], shape, None) for y, shape in shapes.items()}
    assert found == {"y": "Conv 3x3", "z": "Conv 3x3 depthwise", "a": "Conv 1x1"}


def test_rows_of_a_matrix_product_decide_its_kind():
    model = parsed(
        "g (float[2,7,4] x) => (float[2,7,4] out) { out = MatMul(x, w) }", w=drawn(4, 4)
    )
    key = OpKey(
        op_type="MatMul",
        attributes={},
        shapes={"A": (2, 7, 4), "B": (4, 4)},
        provider="cpu",
        threads=1,
    )
    measured: OpLatency = latency().model_copy(update={"key": key})
    assert kind_of_node(next(iter(model.graph)), (4, 4), measured) == "MatMul, 16 rows"


def test_another_machine_is_as_fast_as_its_probe_says():
    model = network()
    candidates = integer_candidates(model)
    facts = kernels(*EXACT, speeds=(speed("Conv 1x1", 0.5, 0.25),))  # times over floats
    here = {y: latency(float_ms=2.0) for y in "yzab"}
    found = elsewhere(model, candidates, here, facts)
    assert found["y"] == here["y"]  # its kind was not timed there
    inside = found["a"].inside
    assert inside is not None
    assert inside.float_ms == 2.0
    assert inside.integer_ms == {
        "uint8": 2.0 / speedup(facts, "uint8"),
        "int8": 2.0 / speedup(facts, "int8"),
    }


def speedup(facts, codes):
    found = facts.speedup(codes, "Conv 1x1")
    assert found is not None
    return found
