"""ONNX Runtime's own basic clean-up: constants folded, no-ops removed, standard operators only."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

import onnx_ir as ir

from onnxsqueeze.analysis.integers import integer_weights
from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import edit, io, walk
from onnxsqueeze.graph.mapped import inlined
from onnxsqueeze.ops import integer_role
from onnxsqueeze.passes.change import done, left_alone
from onnxsqueeze.passes.make_constants import lift_constants
from onnxsqueeze.passes.merge_duplicates import merge_duplicates
from onnxsqueeze.runtime import ort

_HALF = {ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}


def clean_by_runtime(model: ir.Model) -> tuple[Change, ...]:
    """Replace the graph by the one that ONNX Runtime makes of it at its basic level.

    Left alone: models with 16-bit floats, which ONNX Runtime would store as 32-bit ones, models
    whose integer weights or QuantizeLinear and DequantizeLinear would not stay as they are, and
    models of over 1.9 GB. Initializers that it copied into the branches of an If are merged again.
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
    if io.weight_bytes(model) > io.LARGEST_FILE_BYTES:
        reason = "its weights are too many for the one file that it would be written to"
        return (left_alone("clean by runtime", "model", f"{before} nodes", reason),)
    with inlined(model):
        cleaned = ort.optimized(model, "basic")
    if _outline(cleaned) == _outline(model):
        return ()
    if _integers(cleaned) != _integers(model):
        reason = "it would change integers, or make some of float weights between integers"
        return (left_alone("clean by runtime", "model", f"{before} nodes", reason),)
    # It imports every domain it knows; keep what the model imported and what its nodes use now.
    used = {*model.opset_imports, *(node.domain for node in walk.nodes(cleaned))}
    imports = {domain: v for domain, v in cleaned.opset_imports.items() if domain in used}
    imports.update(model.opset_imports)
    _map_again(model, cleaned)
    model.graph = cleaned.graph
    model.functions.clear()
    model.functions.update(cleaned.functions)
    model.opset_imports.clear()
    model.opset_imports.update(imports)
    lift_constants(model)
    merge_duplicates(model)
    edit.set_opsets(model)
    after = walk.node_count(model)
    return (done("clean by runtime", "model", f"{before} nodes", f"{after} nodes"),)


def _map_again(model: ir.Model, cleaned: ir.Model) -> None:
    """Let unchanged weights that were memory-mapped be so again, instead of held in memory."""
    mapped = {
        value.name: value.const_value
        for _, value in walk.initializers(model)
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    for _, value in walk.initializers(cleaned):
        old, new = mapped.get(value.name), value.const_value
        if old is None or new is None or old.dtype != new.dtype or old.shape != new.shape:
            continue
        if old.tobytes() == new.tobytes():
            value.const_value = old


def _outline(model: ir.Model) -> list[tuple[str, ...]]:
    """What each node is, reads and makes: equal outlines mean that nothing was cleaned."""
    return sorted(
        (node.op_type, *(str(v and v.name) for v in (*node.inputs, *node.outputs)))
        for node in walk.nodes(model)
    )


def _integers(model: ir.Model) -> tuple[Counter[str], Counter[bytes]]:
    """What a clean-up must leave as it is: nodes at and among integers, and integer weights."""
    kinds = Counter(node.op_type for node in walk.nodes(model) if integer_role(node) is not None)
    tensors = (value.const_value for value in integer_weights(model))
    contents = Counter(sha256(tensor.tobytes()).digest() for tensor in tensors if tensor)
    return kinds, contents


def _half_value(model: ir.Model) -> ir.Value | None:
    values = (value for _, value in walk.initializers(model))
    return next((v for v in (*model.graph.inputs, *values) if v.dtype in _HALF), None)
