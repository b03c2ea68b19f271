"""What nodes cost among integers: which parts of a profile are counted as what; no times."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.analysis.regions import joints
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.measure.op_latency import op_latencies
from onnxsqueeze.measure.op_profile import profiled
from onnxsqueeze.measure.region_latency import joint_latencies
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.analysis.test_regions import silu, typed
from tests.passes.test_insert_qdq import drawn, parsed, plan_for
from tests.passes.test_joined import BETWEEN, network


def between_grids(node: str) -> ir.Model:
    return ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["": 21]>
        g (float[1,4,8,8] x) => (float[1,4,8,8] out) {{
        q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = {node}
        p = QuantizeLinear(y, s, z)  out = DequantizeLinear(p, s, z) }}""",
        initializers=[
            ir.tensor(np.array(0.05, np.float32), name="s"),
            ir.tensor(np.array(128, np.uint8), name="z"),
        ],
    )


@pytest.mark.parametrize(
    ("node", "is_integer"),
    [
        ("Sigmoid(d)", True),
        ("Add(d, d)", True),
        ("Transpose<perm=[0,1,3,2]>(d)", True),
        ("Tanh(d)", False),
    ],
)
def test_a_kernel_is_integer_where_nothing_is_made_float_before_it(node, is_integer):
    found = profiled(between_grids(node), {"x": drawn(1, 4, 8, 8)}, runs=2)
    assert found.is_integer == is_integer
    assert min(found.before_ms, found.kernel_ms, found.after_ms) >= 0


def test_changes_of_order_are_no_part_of_the_kernel():
    model = parsed(
        "g (float[1,8,8,8] x) => (float[1,8,8,8] out) { out = Conv(x, w) }", w=drawn(8, 8, 1, 1)
    )
    found = profiled(model, {"x": drawn(1, 8, 8, 8)}, runs=2)
    assert not found.is_integer or found.kernel_ms > 0


def test_products_are_measured_in_both_types_of_codes():
    model = typed(silu())
    shapes = {"x": (1, 4, 8, 8), "p": (1, 4, 8, 8)}
    found, _ = op_latencies(model, integer_candidates(model), shapes, machine(), pairs=3)
    for one in found.values():
        assert one.inside is not None
        assert set(one.inside.integer_ms) == {"uint8", "int8"}


def measured_joints(model, feed):
    shapes = measured_shapes(model, feed)
    found = joints(model, integer_candidates(model))
    return found, joint_latencies(model, found, shapes, machine())


@pytest.mark.parametrize("kind", BETWEEN)
def test_nodes_without_a_weight_are_measured_in_integers(kind):
    model, feed = network(BETWEEN[kind][0])
    found, latencies = measured_joints(model, feed)
    assert set(latencies) == {one.y for one in found}
    for one in latencies.values():
        assert one.integers == {}
        assert one.inside is not None
        assert set(one.inside.integer_ms) == {"uint8"}


def test_nodes_whose_shape_or_constants_are_unknown_are_left_out():
    model = typed(silu())
    found = joints(model, integer_candidates(model))
    assert joint_latencies(model, found, {}, machine()) == {}
    known = joint_latencies(model, found, {"y": (1, 4, 8, 8), "s": (1, 4, 8, 8)}, machine())
    assert set(known) == {"s", "m"}


def test_the_model_stays_as_it_is():
    model = typed(silu())
    feed = {"x": drawn(1, 4, 8, 8)}
    before = ir.to_proto(model).SerializeToString()
    measured_joints(model, feed)
    assert ir.to_proto(model).SerializeToString() == before
    assert plan_for(model, feed).weights.keys() == {"w", "v"}
