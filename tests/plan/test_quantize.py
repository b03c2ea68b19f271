from __future__ import annotations

import math
from dataclasses import replace

import pytest

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.config import Limits
from onnxsqueeze.facts.op_latency import OpKey, OpLatency
from onnxsqueeze.facts.records import Interval, Machine
from onnxsqueeze.plan.quantize import IntegerChoices, choose_integer
from onnxsqueeze.plan.types import ActivationChoice, WeightChoice

CONV = Candidate(
    node="conv", op_type="Conv", x="x", weight="w", weight_index=1, axis=0, channels=4, bias="b",
    bias_reader="y", y="y", closes="r", low=0.0, high=6.0, reason="",
)  # fmt: skip
MATMUL = replace(
    CONV, node="mm", op_type="MatMul", x="r", weight="v", axis=1, bias=None, y="z", closes=None,
    low=-math.inf, high=math.inf,
)  # fmt: skip
MACHINE = Machine(
    processor="p", features=(), cores=1, memory_bytes=1, system="s", versions={}, providers=()
)
RANGES = {"x": (-1.0, 2.0), "r": (0.0, 6.5)}


def latency(speedup, fused=True):
    return OpLatency(
        key=OpKey(op_type="Conv", attributes={}, shapes={}, provider="cpu", threads=1),
        machine=MACHINE,
        float_ms=(speedup,),
        integer_ms=(1.0,),
        speedup=Interval(value=speedup, low=speedup, high=speedup),
        fused=fused,
    )


FAST = {"y": latency(1.5), "z": latency(2.0)}


def chosen(candidates=(CONV, MATMUL), latencies=FAST, ranges=RANGES, limits=None, goal="latency"):
    return choose_integer(candidates, latencies, ranges, limits or Limits(), goal)


@pytest.mark.parametrize("objective", ["latency", "balanced"])
def test_nodes_that_pay_get_grids_that_end_with_their_clamp(objective):
    assert chosen(goal=objective) == IntegerChoices(
        weights={
            "w": WeightChoice(
                form="qdq", bits=8, axis=0, reason="its node runs 1.50 times as fast in integers"
            ),
            "v": WeightChoice(
                form="qdq", bits=8, axis=1, reason="its node runs 2.00 times as fast in integers"
            ),
        },
        activations={
            "x": ActivationChoice(low=-1.0, high=2.0, reason="read by conv"),
            "r": ActivationChoice(low=0.0, high=6.0, reason="made by conv"),
        },
        reasons={},
    )


REASONS = {
    "integers run at 1.04 of its float speed here, and less than 1.05 does not pay": (
        {"latencies": {"y": latency(1.04)}}
    ),
    "its latency in integers was not measured": {"latencies": {}},
    "ONNX Runtime makes no integer kernel of it here": {
        "latencies": {"y": latency(9, fused=False)}
    },
    "named by --keep": {"limits": Limits(keep=("conv",))},
    "integer kernels need 8 bits, and [4] are allowed": {"limits": Limits(bits=(4,))},
    "made for size, and weights stored in 8 bits are as small as integer kernels": (
        {"goal": "size"}
    ),
    "the range of 'r' was not measured": {"ranges": {"x": (0.0, 1.0)}},
    "'x' has no finite range: [-inf, 1]": {"ranges": {"x": (-math.inf, 1.0), "r": (0.0, 1.0)}},
    "'r' reaches -0.5, below its clamp at 0": {"ranges": {"x": (0.0, 1.0), "r": (-0.5, 1.0)}},
    "no kernel": {"candidates": (replace(CONV, reason="no kernel"),)},
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_to_stay_float(reason):
    found = chosen(**{"candidates": (CONV,), **REASONS[reason]})

    assert found == IntegerChoices({}, {}, {"y": reason})


def test_exactly_the_least_speedup_pays():
    assert chosen((CONV,), {"y": latency(1.05)}).reasons == {}


@pytest.mark.parametrize("name", ["conv", "w", "b"])
def test_node_weight_and_bias_can_be_kept(name):
    found = chosen(limits=Limits(keep=(name,)))

    assert (set(found.weights), found.reasons) == ({"v"}, {"y": "named by --keep"})


def test_a_shared_weight_stays_float_with_the_slower_node():
    other = replace(CONV, node="other", y="y2", closes="r")

    found = chosen((CONV, other), {"y": latency(2.0), "y2": latency(0.5)})

    assert found.weights == {}
    assert found.reasons["y"] == "weight 'w' is shared with 'other', which stays float"
    assert set(found.reasons) == {"y", "y2"}


def test_a_grid_is_only_made_for_nodes_that_change():
    found = chosen(latencies={"y": latency(0.5), "z": latency(2.0)})

    assert found.activations == {"r": ActivationChoice(low=0.0, high=6.5, reason="read by mm")}
