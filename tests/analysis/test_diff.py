"""Two models side by side: what differs is told by name, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from onnxsqueeze.analysis.diff import Change, Computed, Stored, diff, restorable
from tests.models import build, dotted

NETWORK = """
g (float[N,8] x) => (float[N,6] y) <float[8,64] w1, float[64,6] w2> {
  a = MatMul (x, w1)
  r = Relu (a)
  y = MatMul (r, w2)
}"""
STORED = """
g (float[N,8] x) => (float[N,6] y) <float[8,64] w1_int, float[64] w1_scale, float[64,6] w2> {
  w1_0 = Cast <to = 1> (w1_int)
  w1_1 = Mul (w1_0, w1_scale)
  a = MatMul (x, w1_1)
  r = Relu (a)
  y = MatMul (r, w2)
}"""


def model(text=NETWORK, opset=17, **initializers):
    proto = dotted(build(text, opset=opset))
    for tensor in proto.graph.initializer:
        if tensor.name in initializers:
            tensor.CopyFrom(numpy_helper.from_array(initializers[tensor.name], tensor.name))
    return ir.from_proto(proto)


def weight(name):
    (found,) = [one for one in build(NETWORK).graph.initializer if one.name == name]
    return numpy_helper.to_array(found)


def test_equal_models_differ_in_nothing():
    found = diff(model(), model())

    assert found.is_empty
    assert found.same == 2


def test_values_are_compared_by_their_ratio():
    found = diff(model(), model(w1=weight("w1") * np.float32(1.125)))

    (change,) = found.tensors
    assert change.name == "w1"
    assert change.before == change.after == Stored("FLOAT", (8, 64), 8 * 64 * 4)
    # An error of an eighth is 20 log10(8) dB under the signal; floats are off by 2^-24, relative.
    assert abs(change.sqnr_db - 20 * np.log10(8)) < 1e-4
    assert found.same == 1


def test_narrower_type_is_a_change_with_its_bytes():
    half = weight("w2").astype(np.float16)
    (change,) = diff(model(), model(w2=half)).tensors

    assert change.after == Stored("FLOAT16", (64, 6), 64 * 6 * 2)
    # Half a unit in the last of 11 places, relative: 2^-12 at most, so at least 72 dB.
    assert 72 < change.sqnr_db < 999


def test_same_values_in_another_type_are_told_as_exact():
    ones = np.ones((64, 6), np.float32)
    (change,) = diff(model(w2=ones), model(w2=ones.astype(np.float16))).tensors

    assert change.sqnr_db == 999


def test_other_shape_has_no_ratio():
    (change,) = diff(model(), model(w2=np.ones((64, 3), np.float32))).tensors

    assert (change.after.shape, change.sqnr_db) == ((64, 3), None)


def test_nan_in_both_is_no_change_and_in_one_has_no_ratio():
    spoiled = weight("w2").copy()
    spoiled[0, 0] = np.nan

    assert diff(model(w2=spoiled), model(w2=spoiled.copy())).is_empty
    (change,) = diff(model(), model(w2=spoiled)).tensors
    assert change.sqnr_db is None


def test_added_and_removed_tensors_operators_and_outputs_are_told():
    smaller = """
    g (float[M,8] x) => (float[M,64] r) <float[8,64] w1> {
      a = MatMul (x, w1)
      r = Relu (a)
    }"""
    found = diff(model(), model(smaller, opset=18))

    assert found.opsets == (Change("ai.onnx", "17", "18"),)
    assert found.operators == (Change("MatMul", "2", "1"),)
    assert found.interface == (
        Change("input x", "FLOAT [N, 8]", "FLOAT [M, 8]"),
        Change("output y", "FLOAT [N, 6]", ""),
        Change("output r", "", "FLOAT [M, 64]"),
    )
    assert [(one.name, one.after) for one in found.tensors] == [("w2", None)]


def test_what_is_computed_from_parts_counts_as_the_tensor_they_are_named_after():
    stored = model(STORED)

    assert restorable(stored, {"w1", "w2"}) == {"w1": Computed("w1.1", ("w1.int", "w1.scale"))}
    made = weight("w1") * np.float32(0.5)
    found = diff(model(), stored, restored_after={"w1": made}).tensors
    (change,) = [one for one in found if one.name != "w2"]
    parts = ("w1.int", "w1.scale")
    assert change.after == Stored("FLOAT", (8, 64), 4 * (8 * 64 + 64), parts)
    assert abs(change.sqnr_db - 20 * np.log10(2)) < 1e-4
    assert {one.name for one in diff(model(), stored).tensors} - {"w2"} == {"w1", *parts}


def test_what_depends_on_an_input_is_not_restored():
    text = STORED.replace("(float[N,8] x)", "(float[N,8] x, float[64] w1_scale)")
    text = text.replace(", float[64] w1_scale, float[64,6]", ", float[64,6]")

    assert restorable(model(text), {"w1"}) == {}


def test_strings_are_compared_without_a_ratio():
    def labelled(*names):
        proto = build(NETWORK)
        tensor = onnx.helper.make_tensor("names", onnx.TensorProto.STRING, [2], names)
        proto.graph.initializer.append(tensor)
        return ir.from_proto(proto)

    assert diff(labelled(b"a", b"b"), labelled(b"a", b"b")).is_empty
    (change,) = diff(labelled(b"a", b"b"), labelled(b"a", b"c")).tensors
    assert (change.name, change.sqnr_db) == ("names", None)
