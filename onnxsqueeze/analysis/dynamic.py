"""Which nodes can become integer kernels whose activations get their grid anew in each run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import onnx_ir as ir

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.ops import row_of


def without_ranges(model: ir.Model, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates as integer kernels without measured ranges would see them.

    Those that write integers, and those that multiply by the columns of their input, have a reason
    against them: DynamicQuantizeLinear keeps its input's axes, and MatMulInteger transposes none.

    Args:
        model: The model that the candidates are of.
        candidates: As ``integer_candidates`` returns them; their own reasons stay.
    """
    nodes = {out.name: node for node in model.graph for out in node.outputs}
    return [
        one if one.reason else replace(one, reason=_obstacle(nodes[one.y])) for one in candidates
    ]


def _obstacle(node: ir.Node) -> str:
    row = row_of(node)
    grid = None if row is None or row.grid is None else row.grid(node)
    linear = None if row is None or row.linear is None else row.linear(node)
    assert grid is not None  # a candidate without a reason has an integer kernel
    assert linear is not None  # and is a product
    if not grid.float_output:
        return "its kernel writes integers, which needs a measured range"
    return "its input is transposed" if linear.x_axis == 0 else ""
