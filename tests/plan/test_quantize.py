from __future__ import annotations

import math
from dataclasses import replace

import pytest

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.config import Limits
from onnxsqueeze.facts.op_latency import IntegerLatency, OpKey, OpLatency
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


def latency(speedup, fused=True, **dynamic):
    """One node, ``speedup`` times as fast as ``qdq``, and so many times as ``dynamic``."""
    return OpLatency(
        key=OpKey(op_type="Conv", attributes={}, shapes={}, provider="cpu", threads=1),
        machine=MACHINE,
        float_ms=(speedup,),
        integers={
            "qdq": integer(speedup, 1.0, fused),
            **{form: integer(value, speedup / value) for form, value in dynamic.items()},
        },
    )


def integer(speedup, ms, fused=True):
    interval = Interval(value=speedup, low=speedup, high=speedup)
    return IntegerLatency(ms=(ms,), speedup=interval, fused=fused)


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
        forms={"w": "qdq", "v": "qdq"},
    )


@pytest.mark.parametrize(
    ("qdq", "dynamic", "form"),
    [
        (2.0, 2.5, "dynamic"),
        (2.0, 1.945, "dynamic"),  # 2.8% slower, which is no difference
        (2.0, 1.9, "qdq"),  # 5.3% slower
        (2.0, 1.04, "qdq"),
        (1.06, 1.049, "qdq"),  # no different, but alone it does not pay
        (1.04, 1.05, "dynamic"),
    ],
)
def test_the_fastest_form_that_pays_is_taken_and_in_doubt_the_one_that_adapts(qdq, dynamic, form):
    found = chosen((MATMUL,), {"z": latency(qdq, dynamic=dynamic)})

    speedup = {"qdq": qdq, "dynamic": dynamic}[form]
    reason = f"its node runs {speedup:.2f} times as fast in integers"
    assert found.weights == {"v": WeightChoice(form=form, bits=8, axis=1, reason=reason)}
    assert set(found.activations) == ({"r"} if form == "qdq" else set())
    assert (found.forms, found.reasons) == ({"v": form}, {})


def test_a_node_without_a_measured_range_takes_the_form_that_needs_none():
    found = chosen((MATMUL,), {"z": latency(3.0, dynamic=1.5)}, ranges={})

    assert (found.forms, found.activations) == ({"v": "dynamic"}, {})


def test_only_forms_that_may_be_used_are():
    latencies = {"z": latency(1.5, dynamic=3.0)}

    found = choose_integer((MATMUL,), latencies, RANGES, Limits(), "latency", ("qdq",))
    nothing = choose_integer((CONV,), FAST, RANGES, Limits(), "latency", ("dynamic",))

    assert found.forms == {"v": "qdq"}
    assert nothing.reasons == {"y": "its latency in integers was not measured"}


def test_both_forms_that_do_not_pay_are_named():
    slow = "integers run at {} of its float speed here, and less than 1.05 does not pay"

    found = chosen((MATMUL,), {"z": latency(0.90, dynamic=1.01)})
    same = chosen((MATMUL,), {"z": latency(0.90, dynamic=0.90)})

    assert found.reasons["z"] == (
        f"on measured grids: {slow.format('0.90')}; on grids of each run: {slow.format('1.01')}"
    )
    assert same.reasons["z"] == slow.format("0.90")


def test_readers_of_one_weight_take_the_form_that_pays_for_all():
    other = replace(MATMUL, node="other", y="z2")
    both, first = latency(2.0, dynamic=1.5), latency(1.5, dynamic=1.0)

    found = chosen((MATMUL, other), {"z": both, "z2": first})
    apart = chosen((MATMUL, other), {"z": latency(1.0, dynamic=1.5), "z2": first})

    assert found.forms == {"v": "qdq"}
    assert apart.weights == {}
    reason = "no form of integers pays for all readers of 'v': ['mm', 'other']"
    assert apart.reasons == {"z": reason, "z2": reason}


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


def in_blocks(qdq=2.0, **speedups):
    made = latency(qdq, **speedups)
    integers = {
        form: one.model_copy(update={"block": 64}) if form.startswith("blockwise") else one
        for form, one in made.integers.items()
    }
    return {"z": made.model_copy(update={"integers": integers})}


@pytest.mark.parametrize(
    ("speedups", "form"),
    [
        ({"blockwise4": 4.0, "blockwise8": 3.0, "dynamic": 2.0}, "blockwise4"),
        ({"blockwise4": 4.0, "blockwise8": 3.9, "dynamic": 2.0}, "blockwise8"),  # 2.5% slower
        ({"blockwise4": 1.0, "blockwise8": 0.9, "dynamic": 2.1}, "dynamic"),
        ({"blockwise8": 2.0, "dynamic": 2.0}, "blockwise8"),  # the mildest
    ],
)
def test_blocks_are_taken_where_they_are_fastest_and_in_doubt_the_mildest(speedups, form):
    found = chosen((MATMUL,), in_blocks(**speedups))

    assert found.forms == {"v": form}


def test_blocks_of_4_bits_have_zero_points_and_the_size_that_was_timed():
    found = chosen((MATMUL,), in_blocks(blockwise4=4.0))

    assert found.weights["v"] == WeightChoice(
        form="blockwise", bits=4, axis=1, block=64, offset=True,
        reason="its node runs 4.00 times as fast in integers, with a scale per 64 values",
    )  # fmt: skip
    assert found.activations == {}


def test_only_widths_that_are_allowed_are_taken():
    latencies = in_blocks(blockwise4=2.0, blockwise8=3.0, dynamic=4.0)

    four = chosen((MATMUL,), latencies, limits=Limits(bits=(4, 16)))
    none = chosen((MATMUL,), latencies, limits=Limits(bits=(16,)))

    assert four.forms == {"v": "blockwise4"}
    assert none.reasons == {"z": "integer kernels need 8 or 4 bits, and [16] are allowed"}
