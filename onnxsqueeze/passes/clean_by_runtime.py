"""ONNX Runtime's own basic clean-up: constants folded, no-ops removed, standard operators only."""

from __future__ import annotations

import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.passes.change import done, left_alone
from onnxsqueeze.passes.make_constants import lift_constants
from onnxsqueeze.passes.merge_duplicates import merge_duplicates
from onnxsqueeze.runtime import ort

_HALF = {ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}


def clean_by_runtime(model: ir.Model) -> tuple[Change, ...]:
    """Replace the graph by the one that ONNX Runtime makes of it at its basic level.

    Left alone: models with 16-bit floats, which ONNX Runtime would store as 32-bit ones.
    Initializers that it copied into the branches of an If are merged again.
    """
    half = _half_value(model)
    if half is not None:
        return (
            left_alone(
                "clean by runtime",
                "model",
                f"{walk.node_count(model)} nodes",
                f"{half.name!r} is {half.dtype}: it would be stored as 32 bits",
            ),
        )
    before = walk.node_count(model)
    cleaned = ort.optimized(model, "basic")
    imports = dict(model.opset_imports)
    model.graph = cleaned.graph
    model.functions.clear()
    model.functions.update(cleaned.functions)
    model.opset_imports.update(imports)
    lift_constants(model)
    merge_duplicates(model)
    edit.set_opsets(model)
    after = walk.node_count(model)
    return (done("clean by runtime", "model", f"{before} nodes", f"{after} nodes"),)


def _half_value(model: ir.Model) -> ir.Value | None:
    values = (value for _, value in walk.initializers(model))
    return next((v for v in (*model.graph.inputs, *values) if v.dtype in _HALF), None)
