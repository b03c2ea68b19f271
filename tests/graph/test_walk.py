from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from onnxsqueeze.graph import walk
from tests import models


def test_graphs_come_outer_before_inner_and_functions_last(tmp_path: Path) -> None:
    inner = models.read(models.SUBGRAPH, tmp_path)
    assert [graph.name for graph in walk.graphs(inner)] == ["g", "then_g", "else_g"]
    calls = models.read(models.LOCAL_FUNCTION, tmp_path)
    assert [graph.name for graph in walk.graphs(calls)] == ["g", "twice"]


def test_nodes_of_branches_and_functions_count(tmp_path: Path) -> None:
    assert models.operators(models.read(models.SUBGRAPH, tmp_path)) == [
        "If", "MatMul", "Constant", "Add"]  # fmt: skip
    assert walk.node_count(models.read(models.LOCAL_FUNCTION, tmp_path)) == 3


def test_a_branch_captures_what_it_reads_from_outside(tmp_path: Path) -> None:
    model = models.read(models.SUBGRAPH, tmp_path)
    then, other = walk.subgraphs(model.graph[0])

    assert {value.name for value in walk.captures(then)} == {"x", "w"}
    assert {value.name for value in walk.captures(other)} == {"x"}
    assert walk.captures(model.graph) == ()


def test_readers_are_found_inside_branches_each_once(tmp_path: Path) -> None:
    model = models.read(models.SUBGRAPH, tmp_path)
    assert [n.op_type for n in walk.readers(model.graph.initializers["w"])] == ["MatMul"]

    square = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 17]>g (float[2] x) => (float[2] y) { y = Mul (x, x) }'
    )
    assert [n.op_type for n in walk.readers(square.graph.inputs[0])] == ["Mul"]


def test_value_names_are_those_of_all_graphs(tmp_path: Path) -> None:
    model = models.read(models.SUBGRAPH, tmp_path)
    assert walk.value_names(model) == {"x", "c", "w", "y", "t", "k", "e"}


def test_every_initializer_comes_with_its_graph(tmp_path: Path) -> None:
    model = models.read(models.RESIDUAL, tmp_path)
    found = [(graph.name, value.name) for graph, value in walk.initializers(model)]
    assert found == [("g", "w1"), ("g", "b1"), ("g", "w2"), ("g", "w3"), ("g", "b3")]
