"""What no output needs goes: nodes, initializers, opset imports."""

from __future__ import annotations

import onnx_ir as ir

from onnxsqueeze.facts.records import Change
from onnxsqueeze.graph import edit, walk
from onnxsqueeze.passes.change import done, listed


def remove_dead(model: ir.Model) -> tuple[Change, ...]:
    """Remove nodes and initializers that no output needs, in subgraphs too."""
    removed = edit.remove_unused(model)
    if not removed:
        return ()
    return (done("remove dead", listed(removed), f"{len(removed)} that nothing needs", "removed"),)


def trim_opsets(model: ir.Model) -> tuple[Change, ...]:
    """Keep only the opset imports that some node uses, and the standard one."""
    used = {"", *(node.domain for node in walk.nodes(model))}
    unused = sorted(set(model.opset_imports) - used)
    for domain in unused:
        del model.opset_imports[domain]
    edit.set_opsets(model)
    if not unused:
        return ()
    return (done("trim opsets", ", ".join(unused), "imported", "no node uses it"),)
