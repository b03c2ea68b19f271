"""Nodes that run on integers together, as a plan's choices."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.analysis.regions import Joint, Link
from onnxsqueeze.analysis.saturation import WeightType
from onnxsqueeze.config import Limits
from onnxsqueeze.facts.op_latency import InRegion, OpKey, OpLatency
from onnxsqueeze.plan.in_regions import Region, apart, choose_regions, saved_ms
from onnxsqueeze.plan.types import ActivationChoice
from tests.plan.test_quantize import MACHINE

INF = math.inf


def product(number: int, **changes) -> Candidate:
    """The product that makes ``t1`` of ``t0``, and so on."""
    return replace(
        Candidate(
            node=f"n{number}", op_type="Conv", x=f"t{number - 1}", weight=f"w{number}",
            weight_index=1, axis=0, channels=4, bias=None, bias_reader=f"t{number}",
            y=f"t{number}", closes=f"t{number}", low=-INF, high=INF, reason="",
        ),
        **changes,
    )  # fmt: skip


def mover(number: int) -> Joint:
    return Joint(
        f"n{number}", "MaxPool", (f"t{number - 1}",), f"t{number}", f"t{number}", -INF, INF, True,
        "",
    )  # fmt: skip


def latency(float_ms=2.0, uint8=1.5, int8=0.5, border_ms=0.5) -> OpLatency:
    return OpLatency(
        key=OpKey(op_type="Conv", attributes={}, shapes={}, provider="cpu", threads=1),
        machine=MACHINE,
        float_ms=(float_ms,),
        integers={},
        inside=InRegion(
            float_ms=float_ms,
            integer_ms={"uint8": uint8, "int8": int8},
            enter_ms=border_ms,
            leave_ms=border_ms,
        ),
    )


def region(*nodes: Candidate | Joint, types=(), **latencies: OpLatency) -> Region:
    """Nodes in a row, each beside the next; the last is read in floats."""
    count = len(nodes)
    links = {
        f"t{k}": Link(
            f"t{k}" if k else None, (f"t{k + 1}",) if k < count else (), has_others=k == count
        )
        for k in range(count + 1)
    }
    return Region(
        candidates=[one for one in nodes if isinstance(one, Candidate)],
        joints=[one for one in nodes if isinstance(one, Joint)],
        links=links,
        latencies={one.y: latencies.get(one.y, latency()) for one in nodes},
        ranges={f"t{k}": (-1.0, float(k + 1)) for k in range(count + 1)},
        types=dict(types),
    )


def chosen(found: Region, limits: Limits | None = None):
    return choose_regions(found, limits or Limits(), "latency")


SIGNED = WeightType("int8", "faster here", paired=True)


def test_the_type_of_the_codes_decides_what_pays():
    nodes = (product(1), product(2))
    unsigned = chosen(region(*nodes))  # saves 0.5 each, and borders cost 1
    assert unsigned.weights == {}
    assert unsigned.reasons["t1"] == "its region, borders included, is no faster in integers"
    signed = chosen(region(*nodes, types=[("w1", SIGNED), ("w2", SIGNED)]))
    assert set(signed.weights) == {"w1", "w2"}
    one = signed.weights["w1"]
    assert (one.form, one.codes, one.paired, one.axis) == ("qdq", "int8", True, 0)
    assert "4.00 times as fast" in one.reason
    assert "faster here" in one.reason
    assert signed.forms == {"w1": "qdq", "w2": "qdq"}


def test_a_mover_shares_the_grid_of_what_it_moves():
    types = [("w1", SIGNED), ("w3", SIGNED)]
    found = chosen(region(product(1), mover(2), product(3), types=types))
    assert set(found.joined) == {"t2"}
    ends = {name: (grid.low, grid.high) for name, grid in found.activations.items()}
    assert ends == {"t0": (-1, 1), "t1": (-1, 2), "t2": (-1, 2), "t3": (-1, 4)}
    assert found.activations["t2"] == ActivationChoice(low=-1, high=2, reason="moved by n2")


@pytest.mark.parametrize(
    ("change", "limits", "reason"),
    [
        ({"reason": "no kernel"}, Limits(), "no kernel"),
        ({}, Limits(keep=("n1",)), "named by --keep"),
        ({}, Limits(operator_bits={"Conv": (4,)}), r"need 8 bits, and \[4\] are allowed"),
        ({"x": "t9"}, Limits(), "range of 't9' was not measured"),
        ({"low": 0.0}, Limits(), "reaches -1, below its clamp at 0"),
    ],
)
def test_what_cannot_be_stays_with_its_reason(change, limits, reason):
    found = chosen(region(product(1, **change), types=[("w1", SIGNED)]), limits)
    assert found.weights == {}
    assert re.search(reason, found.reasons["t1"])


def test_a_weight_changes_with_all_its_readers():
    nodes = (product(1), product(2, weight="w1", reason="no kernel"))
    found = chosen(region(*nodes, types=[("w1", SIGNED)]))
    assert found.reasons["t1"] == "weight 'w1' is shared with 'n2', which stays float"


def test_no_float_weight_stays_between_integers():
    found = region(*(product(k) for k in (1, 2, 3, 4)))
    # the engine would quantize w2 by itself, so what reads it stays float
    assert apart(found, {"t1", "t3", "t4"}) == {"t1", "t4"}
    assert apart(found, {"t2", "t3", "t4"}) == {"t2", "t3", "t4"}
    assert apart(found, {"t1", "t2", "t3", "t4"}) == {"t1", "t2", "t3", "t4"}


def test_a_mover_goes_with_the_kernels_beside_it():
    found = region(product(1), mover(2), product(3))
    assert apart(found, {"t1", "t2", "t3"}) == {"t1", "t2", "t3"}
    assert apart(found, {"t1", "t2"}) == {"t1"}
    assert apart(found, {"t2", "t3"}) == {"t3"}


def test_time_saved_is_the_kernels_own():
    found = region(product(1), mover(2), types=[("w1", SIGNED)])
    assert saved_ms(found, "t1") == 1.5
    assert saved_ms(found, "t2") == 0.5
    assert saved_ms(found, "nosuch") == 0.0
