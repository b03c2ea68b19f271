from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.runtime.shapes import measured_shapes
from tests.runtime.made import made, random


def test_every_value_has_the_shape_of_the_run():
    model = made("""
    g (float[N,3,8,8] x) => (float[N,5] y) <float[4,3,3,3] w, float[4,5] v> {
      a = Conv (x, w)
      p = GlobalAveragePool (a)
      f = Flatten (p)
      y = MatMul (f, v)
    }""")
    before = ir.to_proto(model).SerializeToString()
    assert measured_shapes(model, {"x": random(2, 3, 8, 8)}) == {
        "x": (2, 3, 8, 8),
        "w": (4, 3, 3, 3),
        "v": (4, 5),
        "a": (2, 4, 6, 6),
        "p": (2, 4, 1, 1),
        "f": (2, 4),
        "y": (2, 5),
    }
    assert ir.to_proto(model).SerializeToString() == before


def test_declared_shapes_are_not_believed():
    model = made("g (float[N,4] x) => (float[M,4] y) { y = Concat <axis = 0> (x, x) }")
    assert measured_shapes(model, {"x": random(3, 4)})["y"] == (6, 4)


def test_scalars_empty_tensors_and_missing_outputs():
    model = made("""
    g (float[5,1,4] x) => (float[] y) <int64[1] k = {0}, float[1,8,4] w, float[1,8,2] r> {
      s = ReduceSum <keepdims = 0> (x)
      t, i = TopK (x, k)
      o, h = LSTM <hidden_size = 2> (x, w, r)
      y = Add (s, h)
    }""")
    model.graph[2].outputs[0].name = ""
    found = measured_shapes(model, {"x": random(5, 1, 4)})
    assert (found["s"], found["i"], found["h"], found["y"]) == (
        (), (5, 1, 0), (1, 1, 2), (1, 1, 2))  # fmt: skip
    assert "" not in found


def test_an_operator_without_a_kernel_has_the_shape_of_the_run():
    """ONNX Runtime runs these as the nodes that ONNX defines them by."""
    model = made(
        """
    g (float[N,4] x) => (float[] y) <float[4,2] w> {
      k = MatMul (x, w)
      s = HardSwish (k)
      t = Swish (s)
      y = Relu (t)
    }""",
        opset=24,
    )
    found = measured_shapes(model, {"x": random(3, 4)})
    assert (found["k"], found["s"], found["t"], found["y"]) == ((3, 2),) * 4


def test_sequences_have_no_shape():
    model = made("""
    g (float[N,4] x) => (float[] y) {
      s = SplitToSequence <axis = 1> (x)
      y = ConcatFromSequence <axis = 1> (s)
    }""")
    found = measured_shapes(model, {"x": random(3, 4)})
    assert found == {"x": (3, 4), "y": (3, 4)}


def test_only_the_branch_that_was_taken_has_shapes():
    model = made("""
    g (float[N,4] x, bool c) => (float[] y) <float[4,2] w> {
      y = If (c) <
        then_branch = t () => (float[] a) { k = MatMul (x, w) a = Relu (k) },
        else_branch = e () => (float[] b) { m = Relu (x) b = Neg (m) }
      >
    }""")
    taken = measured_shapes(model, {"x": random(3, 4), "c": np.array(True)})
    assert (taken["k"], taken["a"], taken["y"], taken["c"]) == ((3, 2), (3, 2), (3, 2), ())
    assert {"m", "b"}.isdisjoint(taken)
    other = measured_shapes(model, {"x": random(3, 4), "c": np.array(False)})
    assert (other["m"], other["b"], other["y"]) == ((3, 4), (3, 4), (3, 4))
    assert {"k", "a"}.isdisjoint(other)


def test_a_value_of_a_loop_has_its_last_shape():
    model = made("""
    g (float[N] x) => (float[] y) <int64 n = {3}, bool go = {1}> {
      y = Loop (n, go, x) <
        body = b (int64 i, bool c, float[] s) => (bool d, float[] t) {
          d = Identity (c)
          t = Concat <axis = 0> (s, x)
        }
      >
    }""")
    found = measured_shapes(model, {"x": random(2)})
    assert (found["t"], found["y"], found["x"]) == ((8,), (8,), (2,))


def test_nodes_without_or_with_equal_names_are_told_apart():
    model = made("g (float[N,4] x) => (float[] y) { a = Concat <axis = 0> (x, x) y = Relu (a) }")
    for node in model.graph:
        node.name = "same"
    found = measured_shapes(model, {"x": random(1, 4)})
    assert (found["a"], found["y"]) == ((2, 4), (2, 4))
