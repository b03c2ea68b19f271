"""The small clean-up passes: no-ops, dead nodes, duplicates, names, opsets, ONNX Runtime's own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.graph import edit, io, walk
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.passes.clean_by_runtime import clean_by_runtime
from onnxsqueeze.passes.merge_duplicates import merge_duplicates
from onnxsqueeze.passes.remove_dead import remove_dead, trim_opsets
from onnxsqueeze.passes.remove_no_ops import remove_no_ops
from onnxsqueeze.passes.unique_names import unique_names
from onnxsqueeze.passes.upgrade_opset import upgrade_opset
from tests import models


def graph(body: str, weights: str = "float[4,4] w") -> str:
    return f"g (float[N,4] x) => (float[N,4] y) <{weights}> {{ {body} }}"


# --- no-ops ---

NO_OPS = {
    "identity": graph("a = Identity (x) y = MatMul (a, w)"),
    "identity at the end": graph("a = MatMul (x, w) y = Identity (a)"),
    "identities in a row": graph("a = MatMul (x, w) b = Identity (a) y = Identity (b)"),
    "cast of an input to its own type": graph("a = Cast <to = 1> (x) y = MatMul (a, w)"),
    "dropout": graph("a, m = Dropout (x) y = MatMul (a, w)"),
    "transpose to the same order": graph("a = Transpose <perm = [0,1]> (x) y = MatMul (a, w)"),
    "concat of one": graph("a = Concat <axis = 0> (x) y = MatMul (a, w)"),
}


@pytest.mark.parametrize("name", NO_OPS)
def test_no_ops_go(tmp_path: Path, name: str) -> None:
    model = models.read(NO_OPS[name], tmp_path)
    given = models.feed(x=(3, 4))
    before = models.outputs(model, given)["y"]

    (change,) = remove_no_ops(model)

    assert change.outcome == "done"
    assert models.operators(model) == ["MatMul"]
    verify(model)
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before)
    assert remove_no_ops(model) == ()


def test_a_second_reshape_to_the_same_shape_goes(tmp_path: Path) -> None:
    body = "a = Reshape (x, s) b = Reshape (a, s) y = MatMul (b, w)"
    model = models.read(graph(body, "float[4,4] w, int64[2] s = {-1, 4}"), tmp_path)
    remove_no_ops(model)
    verify(model)
    assert models.operators(model) == ["Reshape", "MatMul"]


KEPT = {
    "input straight to output": graph("y = Identity (x)", "float unused").replace(
        "<float unused>", ""
    ),
    "weight straight to output": graph("y = Identity (w)"),
    "cast to another type": graph("a = Cast <to = 11> (x) y = Cast <to = 1> (a)").replace(
        "<float[4,4] w>", ""
    ),
    "dropout whose mask is read": graph(
        "a, m = Dropout (x) c = Cast <to = 1> (m) y = Mul (a, c)"
    ).replace("<float[4,4] w>", ""),
    "transpose": graph("a = Transpose <perm = [1,0]> (w) y = MatMul (x, a)"),
    "reshape with zeros": graph(
        "a = Reshape (x, s) b = Reshape (a, s) y = MatMul (b, w)",
        "float[4,4] w, int64[2] s = {0, 4}",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_does_something_or_holds_two_names_stays(tmp_path: Path, name: str) -> None:
    model = models.read(KEPT[name], tmp_path)
    before = models.operators(model)
    assert remove_no_ops(model) == ()
    assert models.operators(model) == before


def test_one_value_for_two_outputs_keeps_both_names(tmp_path: Path) -> None:
    text = "g (float[N,4] x) => (float[] y, float[] z) { y = Relu (x) z = Identity (y) }"
    model = models.read(text, tmp_path)
    assert remove_no_ops(model) == ()
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_no_ops_in_branches_go_but_for_the_outer_value_that_is_their_output(
    tmp_path: Path,
) -> None:
    through = "a = Identity (x) t = MatMul (a, w)"
    text = models.SUBGRAPH.replace("t = MatMul (x, w)", through).replace(
        "e = Add (x, k)", "e = Identity (x)"
    )  # fmt: skip
    model = models.read(text, tmp_path)
    (change,) = remove_no_ops(model)
    verify(model)
    assert change.before == "1 node(s)"
    assert models.operators(model) == ["If", "MatMul", "Constant", "Identity"]


# --- dead ---


def test_dead_nodes_and_weights_go(tmp_path: Path) -> None:
    model = models.read(graph("a = Neg (v) y = MatMul (x, w)", "float[4,4] w, float v"), tmp_path)

    (change,) = remove_dead(model)

    assert change.before == "2 that nothing needs"
    assert (models.operators(model), list(models.constants(model))) == (["MatMul"], ["w"])
    assert remove_dead(model) == ()


def test_unused_opset_imports_go(tmp_path: Path) -> None:
    proto = models.build(models.RESIDUAL)
    proto.opset_import.add(domain="com.example", version=1)
    model = io.read(models.saved(proto, tmp_path))

    (change,) = trim_opsets(model)

    assert (change.subject, model.opset_imports) == ("com.example", {"": 17})
    assert trim_opsets(model) == ()


# --- duplicates ---


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[merge_duplicates.__module__]
    monkeypatch.setattr(module, "SMALLEST_BYTES", 1)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (np.arange(256), 1),
        (np.arange(255), 2),
        (np.zeros(256), 2),
    ],
)
def test_small_and_uniform_duplicates_stay_apart(
    tmp_path: Path, values: np.ndarray, count: int
) -> None:
    model = models.read(
        "g (float[1] x) => (float[] y) { a = Add (x, x) y = Add (x, a) }", tmp_path
    )
    for name, node in zip("bd", model.graph, strict=True):
        node.replace_input_with(0, edit.add_initializer(model.graph, name, np.float32(values)))
    merge_duplicates(model)
    assert len(models.constants(model)) == count


@pytest.mark.usefixtures("any_size")
def test_equal_weights_become_one(tmp_path: Path) -> None:
    body = "a = Add (x, b) c = Add (a, d) y = Add (c, e)"
    equal = "float[2] b = {1, 2}, float[2] d = {1, 2}, float[2] e = {1, 3}"
    model = models.read(graph(body, equal).replace("[N,4]", "[N,2]"), tmp_path)
    given = models.feed(x=(3, 2))
    before = models.outputs(model, given)["y"]

    (change,) = merge_duplicates(model)

    assert (change.subject, change.before) == ("1 initializer(s)", "8 bytes stored again")
    assert list(models.constants(model)) == ["b", "e"]
    verify(model)
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before)
    assert merge_duplicates(model) == ()


@pytest.mark.usefixtures("any_size")
def test_equal_weights_of_two_branches_move_to_the_graph_that_both_see(tmp_path: Path) -> None:
    model = models.read(models.SUBGRAPH, tmp_path)
    then, other = walk.subgraphs(model.graph[0])
    for inner, name in ((then, "p"), (other, "q")):
        value = edit.add_initializer(inner, name, np.float32([1, 2, 3, 4]))
        inner[-1].replace_input_with(0, value) if inner is other else None
        if inner is then:
            node = ir.Node("", "Add", [inner.outputs[0], value], outputs=[ir.Value(name="u")])
            inner.append(node)
            node.outputs[0].type, node.outputs[0].shape = inner.outputs[0].type, None
            inner.outputs[0] = node.outputs[0]
    given = {**models.feed(x=(3, 4)), "c": np.array(True)}
    before = models.outputs(model, given)["y"]

    merge_duplicates(model)

    verify(model)
    assert [(g.name, v.name) for g, v in walk.initializers(model)] == [("g", "w"), ("g", "p")]
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before)


DIFFERENT = {
    "type": "float[2] b = {0, 1}, int32[2] d = {0, 1065353216}",
    "shape": "float[2] b = {0, 1}, float[1,2] d = {0, 1}",
    "sign of zero": "float[2] b = {0.0, 1.0}, float[2] d = {-0.0, 1.0}",
}


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("name", DIFFERENT)
def test_weights_that_differ_in_anything_stay_apart(tmp_path: Path, name: str) -> None:
    body = "c = Cast <to = 1> (d) a = Add (x, b) y = Add (a, c)"
    model = models.read(graph(body, DIFFERENT[name]).replace("[N,4]", "[N,2]"), tmp_path)
    assert merge_duplicates(model) == ()
    assert len(models.constants(model)) == 2


@pytest.mark.usefixtures("any_size")
def test_what_dequantize_reads_stays_apart(tmp_path: Path) -> None:
    body = "a = DequantizeLinear (p, s) b = DequantizeLinear (q, t) c = Add (a, b) y = Add (x, c)"
    equal = "int8[4] p = {1,2,3,4}, int8[4] q = {1,2,3,4}, float s = {0.5}, float t = {0.5}"
    model = models.read(graph(body, equal), tmp_path)
    assert merge_duplicates(model) == ()
    assert len(models.constants(model)) == 4


# --- names ---


def test_names_become_unique_over_branches_and_ports_keep_theirs(tmp_path: Path) -> None:
    text = models.SUBGRAPH.replace("t = MatMul (x, w)", "y = MatMul (x, w)").replace(
        "(float[N,4] t)", "(float[N,4] y)"
    )  # fmt: skip
    model = models.read(text, tmp_path)
    given = {**models.feed(x=(3, 4)), "c": np.array(True)}
    before = models.outputs(model, given)["y"]

    (change,) = unique_names(model)

    verify(model)
    assert "'y' -> 'y.2'" in change.subject
    assert model.graph.outputs[0].name == "y"
    assert [node.name for node in walk.nodes(model)] == ["If", "MatMul", "Constant", "Add"]
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before)
    assert unique_names(model) == ()


# --- opset ---


def test_the_opset_goes_to_21_and_no_further(tmp_path: Path) -> None:
    model = models.read(models.RESIDUAL, tmp_path, opset=11)
    given = models.feed(x=(2, 3, 8, 8))
    before = models.outputs(model, given)["y"]

    (change,) = upgrade_opset(model)

    assert (change.before, change.after) == ("opset 11", "opset 21")
    assert (model.opset_imports[""], model.ir_version) == (21, 10)
    np.testing.assert_array_equal(models.outputs(model, given)["y"], before)
    assert upgrade_opset(model) == ()


def test_a_newer_opset_stays(tmp_path: Path) -> None:
    model = models.read(models.RESIDUAL, tmp_path, opset=22, ir_version=10)
    assert upgrade_opset(model) == ()
    assert model.opset_imports[""] == 22


# --- ONNX Runtime ---


def test_the_runtime_folds_and_keeps_names(tmp_path: Path) -> None:
    model = models.read(graph("a = Neg (w) b = Identity (x) y = MatMul (b, a)"), tmp_path)

    (change,) = clean_by_runtime(model)

    assert (change.before, change.after) == ("3 nodes", "1 nodes")
    assert (models.operators(model), model.opset_imports) == (["MatMul"], {"": 17})
    assert clean_by_runtime(model) == ()


def test_half_floats_are_not_given_to_the_runtime(tmp_path: Path) -> None:
    model = models.read(models.FLOAT16, tmp_path)
    (change,) = clean_by_runtime(model)
    assert (change.outcome, change.after) == (
        "left alone", "'w' is FLOAT16: it would be stored as 32 bits")  # fmt: skip
    assert models.operators(model) == ["Cast", "MatMul"]


def test_a_model_too_large_for_one_file_is_not_given_to_the_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.read(graph("a = Identity (x) y = MatMul (a, w)"), tmp_path)
    monkeypatch.setattr(io, "LARGEST_FILE_BYTES", 10)
    (change,) = clean_by_runtime(model)
    assert change.outcome == "left alone"
    assert "too many for the one file" in change.after
