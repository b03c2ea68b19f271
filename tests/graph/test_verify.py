from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.errors import VerificationError
from onnxsqueeze.graph import edit
from onnxsqueeze.graph.verify import verify
from tests import models


@pytest.mark.parametrize("name", models.ALL)
def test_a_whole_model_passes(tmp_path: Path, name: str) -> None:
    verify(models.read(models.ALL[name][0], tmp_path))


def broken(model: ir.Model, how: str) -> None:
    first, second = model.graph[0], model.graph[1]
    w1 = model.graph.initializers["w1"]
    if how == "name":
        second.outputs[0].name = "a"
    elif how == "order":
        model.graph.remove(first)
        model.graph.append(first)
    elif how == "contents":
        w1.const_value = None
    elif how == "shape":
        w1.shape = ir.Shape([4, 3, 3, 2])
    elif how == "type":
        w1.dtype = ir.DataType.FLOAT16
    elif how == "attribute":
        first.attributes.add(ir.AttrString("nonsense", "x"))
    elif how == "stranger":
        first.replace_input_with(2, ir.Value(name="elsewhere"))


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("name", "value name 'a' is used twice"),
        ("order", r"node .* \(Relu\) reads 'a', which nothing before it produces"),
        ("contents", "initializer 'w1' has no contents"),
        ("shape", r"initializer 'w1' is declared .*2\] and holds \[4, 3, 3, 3\]"),
        ("type", "initializer 'w1' is declared FLOAT16 and holds FLOAT"),
        ("attribute", "the ONNX checker refuses the graph: Unrecognized attribute: nonsense"),
        ("stranger", "reads 'elsewhere', which nothing before it produces"),
    ],
)
def test_each_broken_promise_is_named(tmp_path: Path, how: str, match: str) -> None:
    model = models.read(models.RESIDUAL, tmp_path)
    broken(model, how)
    with pytest.raises(VerificationError, match=match):
        verify(model)


def test_a_name_used_again_in_a_branch_is_found(tmp_path: Path) -> None:
    model = models.read(models.SUBGRAPH, tmp_path)
    edit.add_initializer(model.graph, "t", np.zeros(2, np.float32))
    with pytest.raises(VerificationError, match=r"value name 't' is used twice\n  In graphs"):
        verify(model)


def test_a_model_without_declared_shapes_or_types_passes(tmp_path: Path) -> None:
    model = models.read(models.NO_SHAPE, tmp_path)
    model.graph.outputs[0].type = None
    verify(model)
