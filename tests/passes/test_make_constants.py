from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxsqueeze.graph import io, walk
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes.make_constants import fix_defaults, inline_functions, lift_constants
from tests import models

CONSTANTS = """
g (float[N,2] x) => (float[N,2] y, float[2] z) {
  a = Constant <value_float = 2.0> ()
  b = Constant <value_floats = [1.0, 3.0]> ()
  c = Constant <value_ints = [1, 2]> ()
  d = Constant <value_int = 7> ()
  z = Constant <value = float[2] {5, 6}> ()
  m = Mul (x, a)
  s = Add (m, b)
  f = Cast <to = 1> (c)
  e = Cast <to = 1> (d)
  t = Mul (f, e)
  y = Add (s, t)
}"""


def test_functions_are_inlined(tmp_path: Path) -> None:
    model = models.read(models.LOCAL_FUNCTION, tmp_path)
    given = models.feed(x=(3, 4))
    before = models.outputs(model, given)

    (change,) = inline_functions(model)

    assert (change.outcome, change.subject) == ("done", "twice")
    assert models.operators(model) == ["MatMul", "Add"]
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before["y"])
    assert inline_functions(model) == ()


def test_constants_of_every_spelling_become_initializers(tmp_path: Path) -> None:
    model = models.read(CONSTANTS, tmp_path)
    given = models.feed(x=(3, 2))
    before = models.outputs(model, given)

    alone, done = lift_constants(model)

    verify(model)
    found = {name: values.tolist() for name, values in models.constants(model).items()}
    assert found == {"a": 2.0, "b": [1.0, 3.0], "c": [1, 2], "d": 7}
    assert (alone.subject, alone.outcome, alone.after) == (
        "z", "left alone", "it is an output of its graph")  # fmt: skip
    assert (done.subject, done.outcome) == ("4 value(s)", "done")
    after = models.outputs(model, given)
    np.testing.assert_array_equal(after["y"], before["y"])
    np.testing.assert_array_equal(after["z"], before["z"])
    assert [change.outcome for change in lift_constants(model)] == ["left alone"]


def test_constants_of_a_branch_stay_in_the_branch(tmp_path: Path) -> None:
    model = models.read(models.SUBGRAPH, tmp_path)
    lift_constants(model)

    verify(model)
    assert [(g.name, v.name) for g, v in walk.initializers(model)] == [("g", "w"), ("else_g", "k")]
    given = {**models.feed(x=(3, 4)), "c": np.array(False)}
    expected = given["x"] + np.float32([1, 2, 3, 4])
    np.testing.assert_array_equal(models.outputs(model, given)["y"], expected)


def test_inputs_with_a_default_become_constants_also_in_old_files(tmp_path: Path) -> None:
    proto = models.build(models.SHARED_WEIGHT, opset=7, ir_version=3)
    value = proto.graph.input.add()
    value.CopyFrom(proto.graph.input[0])
    value.name = "w"
    for dim in value.type.tensor_type.shape.dim:
        dim.dim_value = 4
    model = io.read(models.saved(proto, tmp_path))
    given = models.feed(x=(3, 4))
    before = models.outputs(tmp_path / "model.onnx", given)["y"]

    (change,) = fix_defaults(model)

    assert (change.subject, change.after) == ("w", "constant: they can no longer be fed")
    assert [value.name for value in model.graph.inputs] == ["x"]
    verify(model)
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before)
    assert fix_defaults(model) == ()
