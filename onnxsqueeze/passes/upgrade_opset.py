"""Opset 21: blockwise and 4-bit DequantizeLinear exist from there on."""

from __future__ import annotations

import logging

import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import edit
from onnxsqueeze.passes.change import done, left_alone

OPSET = 21
_IR_VERSION = 10  # the first that may hold opset 21


def upgrade_opset(model: ir.Model) -> tuple[Change, ...]:
    """Convert the model to opset 21; a newer one, or one without standard operators, stays.

    onnxscript's converter starts at opset 18 and hands older models to that of onnx, which drops
    local functions: inline them first.
    """
    before = model.opset_imports.get("", OPSET)
    if before >= OPSET:
        return ()
    # Not above: it takes 40 MB and 0.3 s, and many models need no upgrade.
    from onnxscript import version_converter

    logger = logging.getLogger("onnxscript.version_converter")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns where it uses the older converter
    try:
        version_converter.convert_version(model, OPSET, fallback=True)
    finally:
        logger.setLevel(level)
    edit.set_opsets(model)
    after = model.opset_imports.get("", OPSET)
    if after != OPSET:
        return (
            left_alone("upgrade opset", "model", f"opset {before}", "neither converter knows how"),
        )
    model.ir_version = max(model.ir_version, _IR_VERSION)
    return (done("upgrade opset", "model", f"opset {before}", f"opset {OPSET}"),)
