from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.graph import edit, walk
from onnxsqueeze.graph.verify import verify
from tests import models


def halved(model: ir.Model, weight: str) -> ir.Value:
    """Read a weight through ``w * 0.5``."""
    value = model.graph.initializers[weight]
    factor = edit.add_initializer(model.graph, f"{weight}.factor", np.float32([0.5]))
    node = ir.Node("", "Mul", [value, factor], outputs=[ir.Value(name=f"{weight}.half")])
    return edit.read_through(model.graph, value, [node])


def test_all_readers_of_a_shared_weight_read_the_chain(tmp_path: Path) -> None:
    model = models.read(models.SHARED_WEIGHT, tmp_path)
    given = models.feed(x=(3, 4))
    w = model.graph.initializers["w"].const_value.numpy()

    halved(model, "w")

    verify(model)
    assert models.operators(model) == ["Mul", "MatMul", "Relu", "MatMul"]
    expected = np.maximum(given["x"] @ (w / 2), 0) @ (w / 2)
    np.testing.assert_allclose(models.outputs(model, given)["y"], expected, rtol=0, atol=1e-6)


def test_a_reader_inside_a_branch_gets_the_chain_before_the_if(tmp_path: Path) -> None:
    model = models.read(models.SUBGRAPH, tmp_path)
    given = {**models.feed(x=(3, 4)), "c": np.array(True)}
    before = models.outputs(model, given)["y"]

    halved(model, "w")

    verify(model)
    assert models.operators(model)[:2] == ["Mul", "If"]
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before / 2)


def test_reading_through_nothing_is_an_error(tmp_path: Path) -> None:
    model = models.read(models.SHARED_WEIGHT, tmp_path)
    w = model.graph.initializers["w"]
    lone = edit.add_initializer(model.graph, "lone", np.zeros(2, np.float32))
    node = ir.Node("", "Neg", [lone])

    with pytest.raises(ValueError, match="there are no nodes to read through"):
        edit.read_through(model.graph, w, [])
    with pytest.raises(ValueError, match="nothing reads initializer 'lone'"):
        edit.read_through(model.graph, lone, [node])


def test_names_of_new_initializers(tmp_path: Path) -> None:
    model = models.read(models.SHARED_WEIGHT, tmp_path)
    values = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="has an initializer 'w' already"):
        edit.add_initializer(model.graph, "w", values)
    taken = walk.value_names(model)
    assert edit.add_initializer(model.graph, "w", values, taken).name == "w.2"
    assert edit.add_initializer(model.graph, "a", values, taken).name == "a.2"


def test_set_value_changes_shape_and_type_and_keeps_the_name(tmp_path: Path) -> None:
    model = models.read(models.SHARED_WEIGHT, tmp_path)
    w = model.graph.initializers["w"]
    edit.set_value(w, np.zeros((2, 3), np.int8))
    assert (w.name, list(w.shape), w.dtype) == ("w", [2, 3], ir.DataType.INT8)


def test_replacing_a_graph_output_keeps_its_name(tmp_path: Path) -> None:
    model = models.read(models.NO_SHAPE, tmp_path)
    matmul, relu = model.graph
    edit.replace_value(relu.outputs[0], matmul.outputs[0])
    edit.remove_node(relu)

    verify(model)
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert models.operators(model) == ["MatMul"]


def test_unused_things_go_in_branches_too_and_a_second_time_nothing(tmp_path: Path) -> None:
    model = models.read(models.SUBGRAPH, tmp_path)
    then = next(walk.subgraphs(model.graph[0]))
    then.append(
        ir.Node("", "Neg", [model.graph.inputs[0]], outputs=[ir.Value(name="n")], name="dead")
    )
    edit.add_initializer(then, "idle", np.zeros(2, np.float32))
    edit.add_initializer(model.graph, "idle.too", np.zeros(2, np.float32))

    removed = edit.remove_unused(model)

    assert sorted(removed) == ["Neg 'dead'", "initializer 'idle'", "initializer 'idle.too'"]
    assert edit.remove_unused(model) == ()
    verify(model)


def test_new_values_of_another_type_leave_clones_alone():
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float16[2] x) => (float16[2] y) <float16[2] w = {1, 2}> { y = Mul (x, w) }"""
    model = ir.from_onnx_text(text)
    copy = model.clone()

    edit.set_value(copy.graph.initializers["w"], np.zeros(2, np.float32))

    assert copy.graph.initializers["w"].dtype == ir.DataType.FLOAT
    assert model.graph.initializers["w"].dtype == ir.DataType.FLOAT16
