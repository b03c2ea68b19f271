"""Planned against done: what ONNX Runtime really makes of a compressed file, read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx_ir as ir

from onnxsqueeze.facts.records import Coverage
from onnxsqueeze.graph import walk
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.runtime.ort import optimized

# What ONNX Runtime 1.32 makes of Conv, MatMul and Gemm between grids, as (domain, operator).
INTEGER_KERNELS = frozenset(
    {
        ("", "QLinearConv"),
        ("com.microsoft", "QLinearConv"),
        ("", "ConvInteger"),
        ("com.microsoft", "QGemm"),
        ("", "QLinearMatMul"),
        ("", "MatMulInteger"),
        ("com.microsoft", "MatMulIntegerToFloat"),
    }
)

# What it makes of MatMulInteger behind a DynamicQuantizeLinear: with one reader the two are one.
DYNAMIC_KERNELS = frozenset(
    {("com.microsoft", "DynamicQuantizeMatMul"), ("com.microsoft", "MatMulIntegerToFloat")}
)

# What it makes of a product of a weight in blocks, and of what looks rows up in one.
BLOCK_KERNELS = frozenset(
    {
        ("com.microsoft", "MatMulNBits"),
        ("com.microsoft", "GatherBlockQuantized"),
        ("", "Gather"),
    }
)

KERNELS: Mapping[str, frozenset[tuple[str, str]]] = {
    "qdq": INTEGER_KERNELS,
    "dynamic": DYNAMIC_KERNELS,
    "blockwise": BLOCK_KERNELS,
}
"""The kernels of each form of integers."""


def coverage(plan: Plan, result: Path) -> tuple[Coverage, ...]:
    """Return, per form that the plan has, how many weights came out as planned.

    ``qdq`` and ``dynamic`` are done where an integer kernel reads the weight, and nothing computes
    a float weight from it. ``stored`` and ``float16`` are done where nothing is left that
    computes the weight when the model runs: it was made float while the model was loaded. What is
    missing is named with the operators that read it instead.

    Only names tie the two graphs: everything made of weight ``w`` is called ``w.something``. In a
    portable plan stored weights are computed at every run, as asked for, so they are left out, and
    so is ``qdq`` on grids that only other engines have kernels for.

    Args:
        plan: The plan that ``result`` was made by.
        result: The file, as it is shipped. ONNX Runtime's default optimization is read back.

    Raises:
        ModelError: If ONNX Runtime does not load the file.
    """
    forms: dict[str, list[str]] = {}
    for name, choice in plan.weights.items():
        is_elsewhere = choice.form == "qdq" and plan.grid != "affine"
        is_computed = plan.portable and choice.form not in KERNELS
        if choice.form != "float" and not is_elsewhere and not is_computed:
            forms.setdefault(choice.form, []).append(name)
    if not forms:
        return ()
    graph = optimized(result)
    left = _operators(_constant_nodes(graph), plan.weights.keys())
    read = _operators(walk.nodes(graph), plan.weights.keys())
    return tuple(_row(form, names, left, read) for form, names in sorted(forms.items()))


def fallen_back(plan: Plan, result: ir.Model | Path) -> dict[str, str]:
    """Return the weights planned for integer kernels that ended in none, with what reads them.

    Args:
        plan: The plan that ``result`` was made by.
        result: The model, or its file.

    Raises:
        ModelError: If ONNX Runtime does not load it.
    """
    planned = {name: one.form for name, one in plan.weights.items() if one.form in KERNELS}
    if not planned:
        return {}
    graph = optimized(result)
    left = _operators(_constant_nodes(graph), planned.keys())
    read = _operators(walk.nodes(graph), planned.keys())
    found = {}
    for name, form in planned.items():
        for words in _row(form, [name], left, read).missing:
            found[name] = f"planned in integers, and ONNX Runtime made another kernel: {words}"
    return found


def _row(
    form: str,
    names: list[str],
    left: dict[str, set[tuple[str, str]]],
    read: dict[str, set[tuple[str, str]]],
) -> Coverage:
    missing = []
    for name in names:
        others = left.get(name, set())
        if form in KERNELS:
            if not others and read.get(name, set()) & KERNELS[form]:
                continue
            others = others or read.get(name, set())
        elif not others:
            continue
        missing.append(f"{name} ({', '.join(sorted(op for _, op in others)) or 'not found'})")
    return Coverage(
        form=form, planned=len(names), done=len(names) - len(missing), missing=tuple(missing)
    )


def _constant_nodes(model: ir.Model) -> Iterable[ir.Node]:
    """Yield the nodes that compute from initializers only: what was not folded."""
    constant = {value for _, value in walk.initializers(model) if not value.is_graph_input()}
    for node in walk.nodes(model):
        present = [value for value in node.inputs if value is not None]
        if present and constant.issuperset(present):
            constant.update(node.outputs)
            yield node


def _operators(
    nodes: Iterable[ir.Node], weights: Iterable[str]
) -> dict[str, set[tuple[str, str]]]:
    """Return by weight the operators among ``nodes`` that read an initializer made of it."""
    names = frozenset(weights)
    found: dict[str, set[tuple[str, str]]] = {}
    for node in nodes:
        for value in node.inputs:
            owner = None if value is None else _owner(str(value.name), names)
            if owner is not None and value is not None and value.is_initializer():
                found.setdefault(owner, set()).add((node.domain, node.op_type))
    return found


def _owner(name: str, weights: frozenset[str]) -> str | None:
    """Return the weight with the longest name that ``name`` is, or is ``WEIGHT.something`` of."""
    while name not in weights:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return None
    return name
