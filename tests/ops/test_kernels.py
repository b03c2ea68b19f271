"""Every torch kernel of the operator table is held against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.errors import ModelError
from onnxsqueeze.gradients.executor import Executor
from onnxsqueeze.ops import OP_TABLE, row_of
from tests.ops.example import Example
from tests.ops.examples import EXAMPLES
from tests.ops.kernel_examples import KERNEL_EXAMPLES
from tests.ops.running import Array, run

pytest.importorskip("torch")

TERMS = 64
"""No entry of an example is a sum of more terms."""
BOUND = TERMS * float(np.finfo(np.float32).eps)
"""Of such a sum in float32 the error is at most half of this times the sum of sizes, per side."""
WITHOUT = {"RandomNormalLike", "RandomUniformLike", "NonMaxSuppression", "RoiAlign"}
"""Two that no other library draws alike, and two of boxes."""


def same(found: Array, wanted: Array) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if wanted.dtype.kind == "f":
        size = float(np.abs(wanted).max(initial=0))
        np.testing.assert_allclose(found, wanted, rtol=BOUND, atol=BOUND * size)
    else:
        np.testing.assert_array_equal(found, wanted)


def has_kernel(example: Example) -> bool:
    row = row_of(example.model().graph[0])
    return row is not None and row.kernel is not None


def test_only_these_operators_have_no_kernel() -> None:
    assert {row.op_type for row in OP_TABLE if row.kernel is None} == WITHOUT


@pytest.mark.parametrize(
    "example", [e for e in [*EXAMPLES, *KERNEL_EXAMPLES] if has_kernel(e)], ids=str
)
def test_kernel_agrees_with_onnx_runtime(example: Example) -> None:
    model, arrays = example.model(), example.arrays()
    wanted = run(model, arrays)
    found = Executor(model).run({str(v.name): arrays[str(v.name)] for v in model.graph.inputs})
    for value, expected in zip(found.values(), wanted, strict=True):
        same(value.numpy(), expected)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not has_kernel(e)], ids=str)
def test_an_operator_without_kernel_is_named(example: Example) -> None:
    with pytest.raises(ModelError, match=f"operator {example.op_type} .* has no torch kernel"):
        Executor(example.model())
