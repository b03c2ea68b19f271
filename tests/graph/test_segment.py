from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.graph.segment import frontier, reached, segment
from tests.runtime.made import made, random, run

TEXT = """
g (float[N,8] x, bool c) => (float[N,8] y, float[N,8] early) <float[8,8] w, float[8,8] v> {
  a = MatMul (x, w)
  early = Relu (a)
  b = MatMul (a, v)
  d = Add (b, x)
  y = If (c) <
    then_branch = t () => (float[N,8] p) { p = Add (d, a) },
    else_branch = e () => (float[N,8] q) { q = Neg (d) }
  >
}"""
FLOATS = (ir.DataType.FLOAT, 2)


def test_a_frontier_is_what_later_nodes_read_also_from_subgraphs():
    model = made(TEXT)
    found = [sorted(frontier(model, place)) for place in range(6)]
    assert found == [["c", "x"], ["a", "c", "x"], ["a", "c", "x"], ["a", "b", "c", "x"],
                     ["a", "c", "d"], []]  # fmt: skip


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("branch", [True, False])
def test_a_segment_goes_on_from_a_frontier_to_the_same_values(place, branch):
    model = made(TEXT)
    before = ir.to_proto(model).SerializeToString()
    feed = {"x": random(3, 8), "c": np.array(branch)}
    whole = model.clone()
    names = frontier(model, place)
    made_before = [name for name in names if name not in feed]
    outputs = {out.name: out for node in whole.graph for out in node.outputs}
    whole.graph.outputs.extend(outputs[name] for name in made_before)
    known = {**feed, **run(whole, feed, "off")}
    types = {name: (ir.DataType.from_numpy(known[name].dtype), known[name].ndim) for name in names}
    cut = segment(model, types, ["y"])
    assert [value.name for value in cut.graph.inputs] == list(names)
    assert len(list(cut.graph)) <= len(list(model.graph)) - place
    result = run(cut, {name: known[name] for name in names}, "off")["y"]
    np.testing.assert_array_equal(result, known["y"])
    assert ir.to_proto(model).SerializeToString() == before


def test_a_segment_has_only_the_weights_that_it_needs():
    cut = segment(made(TEXT), {"b": FLOATS, "x": FLOATS}, ["d"])
    assert list(cut.graph.initializers) == []
    assert [node.op_type for node in cut.graph] == ["Add"]


def test_a_value_that_the_graph_lacks():
    with pytest.raises(KeyError, match="nowhere"):
        segment(made(TEXT), {"nowhere": FLOATS}, ["y"])


def test_what_depends_on_a_node_is_reached_also_through_subgraphs():
    model = made(TEXT)
    nodes = {node.outputs[0].name: node for node in model.graph}
    assert {value.name for value in reached(model, [nodes["b"]])} == {"b", "d", "y"}
    assert {value.name for value in reached(model, [nodes["early"]])} == {"early"}
