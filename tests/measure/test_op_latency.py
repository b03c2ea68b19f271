from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsqueeze.analysis.grids import integer_candidates
from onnxsqueeze.errors import DataError
from onnxsqueeze.facts.op_latency import OpKey, OpLatencies
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.measure.op_latency import op_latencies
from onnxsqueeze.numerics.statistics import median_interval

PAIRS = 3
HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'


def filled(*shape):
    return np.ones(shape, np.float32)


def network():
    """Convolutions that can change (a, c) and cannot (b shares its weight), and a product."""
    return ir.from_onnx_text(
        HEADER
        + """g (float[N,4,8] x) => (float[N,4,8] out, float[N,4,5] m, float[N,4,8] stays) {
        a = Conv<kernel_shape=[1]>(x, wa, ba)  b = Conv<kernel_shape=[1]>(x, wb, bb)
        c = Conv<kernel_shape=[1]>(x, wa)  d = Sum(a, b, c)  out = Tanh(d)
        p = MatMul(x, wm)  m = Add(p, bm)  stays = Conv<kernel_shape=[1]>(x, wb) }""",
        initializers=[
            ir.tensor(filled(*shape), name=name)
            for name, shape in {
                "wa": (4, 4, 1), "wb": (4, 4, 1), "ba": (4,), "bb": (4,), "wm": (8, 5), "bm": (5,),
            }.items()
        ],
    )  # fmt: skip


def measured(model, known=None, shapes=None):
    shapes = shapes or {"x": (2, 4, 8)}
    return op_latencies(
        model, integer_candidates(model), shapes, machine(), known=known, pairs=PAIRS
    )


def test_nodes_that_cannot_be_integer_kernels_are_not_measured():
    model = network()
    before = onnx.printer.to_text(ir.to_proto(model))

    found, records = measured(model)

    # b reads a weight of `stays`, whose output leaves the model, so that both stay float
    assert set(found) == {"a", "c", "p"}
    assert len(records.rows) == 3
    assert onnx.printer.to_text(ir.to_proto(model)) == before


def test_a_record_holds_the_node_and_the_raw_times():
    found, _ = measured(network())

    row = found["a"]
    assert row.key == OpKey(
        op_type="Conv",
        attributes={"kernel_shape": "(1,)"},
        shapes={"X": (2, 4, 8), "W": (4, 4, 1), "B": (4,)},
        provider="cpu",
        threads=1,
    )
    assert {y: set(one.integers) for y, one in found.items()} == {
        "a": {"qdq"}, "c": {"qdq"}, "p": {"qdq", "dynamic"},
    }  # fmt: skip
    for one in found.values():
        assert len(one.float_ms) == PAIRS
        for form in one.integers.values():
            assert len(form.ms) == PAIRS
            assert min(*one.float_ms, *form.ms) > 0
            ratios = [a / b for a, b in zip(one.float_ms, form.ms, strict=True)]
            assert form.speedup.value == median_interval(ratios).value
            assert form.fused


def test_equal_nodes_share_a_record():
    model = ir.from_onnx_text(
        HEADER + "g (float[2,3] x) => (float[2,3] z) { y = MatMul(x, w)  z = MatMul(y, v) }",
        initializers=[ir.tensor(filled(3, 3), name=name) for name in "wv"],
    )

    found, records = measured(model, shapes={"x": (2, 3), "y": (2, 3)})

    assert len(records.rows) == 1
    assert found["y"] is found["z"]


def test_known_records_are_not_measured_again():
    _, records = measured(network())

    found, again = measured(network(), known=records)

    assert again == records
    assert found["a"] in records.rows


def test_another_shape_or_machine_is_measured_anew():
    _, records = measured(network())
    row = records.rows[0]
    other = row.machine.model_copy(update={"versions": {"onnxruntime": "0"}})

    assert records.of(row.key, row.machine) == row
    assert records.of(row.key, other) is None
    assert records.of(row.key.model_copy(update={"threads": 2}), row.machine) is None


def test_a_node_whose_input_shape_is_unknown_is_left_out():
    found, records = measured(network(), shapes={"elsewhere": (1,)})

    assert (found, records.rows) == ({}, ())


def test_progress_counts_the_nodes():
    model, calls = network(), []

    op_latencies(
        model, integer_candidates(model), {"x": (1, 4, 8)}, machine(), pairs=PAIRS,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip

    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_records_survive_the_file(tmp_path):
    _, records = measured(network())
    path = tmp_path / "op_latency.json"

    records.save(path)

    assert OpLatencies.load(path) == records
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert OpLatencies.load(tmp_path / "nothing.json") == OpLatencies()


@pytest.mark.parametrize("text", ["{", '{"rows": [{}]}', '{"schema_number": 1}'])
def test_a_malformed_file_is_refused(tmp_path, text):
    path = tmp_path / "op_latency.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(DataError, match=r"holds no operator latencies: .+\n.*Remove"):
        OpLatencies.load(path)


def product(features):
    return ir.from_onnx_text(
        HEADER + f"g (float[a,{features}] x) => (float[a,48] out) {{"
        " p = MatMul(x, w)  out = Tanh(p) }",
        initializers=[ir.tensor(filled(features, 48), name="w")],
    )


def test_products_are_timed_with_weights_in_blocks_too():
    found, _ = measured(product(192), shapes={"x": (3, 192)})

    timed = found["p"].integers
    assert set(timed) == {"qdq", "dynamic", "blockwise4", "blockwise8"}
    assert all(one.fused for one in timed.values())
    # the largest power of two that divides 192
    assert {form: one.block for form, one in timed.items()} == {
        "qdq": None, "dynamic": None, "blockwise4": 64, "blockwise8": 64,
    }  # fmt: skip


def test_features_that_have_no_blocks_are_timed_without():
    found, _ = measured(product(40), shapes={"x": (3, 40)})

    assert set(found["p"].integers) == {"qdq", "dynamic"}
