"""The architecture: who may import whom, what may stand where, and how long things may be.

A package imports only itself and packages on lines above its own in ``LAYERS``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset({"numerics", "config", "progress"}),
    frozenset({"ops", "graph", "facts"}),
    frozenset({"analysis", "runtime", "gradients", "learned", "data"}),
    frozenset({"plan"}),
    frozenset({"passes"}),
    frozenset({"measure"}),
    frozenset({"report"}),
    frozenset({"search"}),
    frozenset({"outcome"}),
    frozenset({"stages"}),
    frozenset({"api"}),
    frozenset({"frontier"}),
    frozenset({"cli"}),
    frozenset({"__init__", "__main__"}),
)
NEVER = {"plan": {"runtime"}, "report": {"runtime", "passes", "measure"}}
FENCES = {
    "onnxruntime": ("runtime/",),
    "torch": ("gradients/", "ops/torch_call.py", "learned/"),
    "onnx": ("ops/row.py", "graph/"),
}
FORBIDDEN_WORDS = {"utils", "helpers", "common", "base", "manager", "factory", "context"}
FILE_LINES = 500
FUNCTION_LINES = 80


def layer(package: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if package in names)


def package_of(path: PurePosixPath) -> str:
    """The part of ``path`` (below onnxsqueeze/) that has a layer: a folder, or a file's stem."""
    return path.parts[0].removesuffix(".py")


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def import_faults(path: PurePosixPath, tree: ast.Module) -> Iterator[str]:
    here = package_of(path)
    for line, name in imports(tree):
        top, *rest = name.split(".")
        if top == "":
            yield f"{line}: relative import"
        for fenced, homes in FENCES.items():
            if top == fenced and not str(path).startswith(homes):
                yield f"{line}: imports {fenced}, which only {' and '.join(homes)} may"
        if top != "onnxsqueeze" or rest[:1] == ["__version__"]:
            continue
        there = rest[0] if rest else "__init__"
        if not any(there in names for names in LAYERS):
            yield f"{line}: imports {name}, which has no layer"
        elif there in NEVER.get(here, set()):
            yield f"{line}: {here} must never import {there}"
        elif there != here and layer(there) >= layer(here):
            yield f"{line}: {here} (line {layer(here) + 1}) imports {there} ({layer(there) + 1})"


def reads_op_type(node: ast.expr) -> bool:
    return any(
        (isinstance(part, ast.Attribute) and part.attr == "op_type")
        or (isinstance(part, ast.Name) and part.id == "op_type")
        for part in ast.walk(node)
    )


def content_faults(path: PurePosixPath, tree: ast.Module) -> Iterator[str]:
    here = package_of(path)
    for node in ast.walk(tree):
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if isinstance(node, ast.Match):
            compared = [node.subject]
        if here != "ops" and any(map(reads_op_type, compared)):
            yield f"{node.lineno}: compares an op_type, which only ops/ may"
        is_print = isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
        if here != "cli" and is_print:
            yield f"{node.lineno}: prints, which only cli/ may"


def size_faults(path: PurePosixPath, text: str, tree: ast.Module) -> Iterator[str]:
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"1: {lines} lines, and {FILE_LINES} are the limit"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {length} lines of {FUNCTION_LINES} allowed"
    for part in path.with_suffix("").parts:
        for word in FORBIDDEN_WORDS.intersection(part.split("_")):
            yield f"1: a module named {part} says nothing ({word!r})"


def faults(path: str, text: str) -> list[str]:
    """What the source ``text`` at ``path`` (below onnxsqueeze/) does against the rules."""
    place = PurePosixPath(path)
    if not any(package_of(place) in names for names in LAYERS):
        return [f"{path}:1: no layer for {package_of(place)}"]
    tree = ast.parse(text)
    found = [
        *import_faults(place, tree),
        *content_faults(place, tree),
        *size_faults(place, text, tree),
    ]
    return [f"{path}:{fault}" for fault in found]


def test_package_keeps_to_the_architecture() -> None:
    package = ROOT / "onnxsqueeze"
    sources = sorted(package.rglob("*.py"))
    assert len(sources) > 10
    found = [
        fault
        for source in sources
        for fault in faults(source.relative_to(package).as_posix(), source.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("ops/a.py", "import onnxsqueeze.passes.fold", "1: ops (line 3) imports passes (6)"),
        ("ops/a.py", "from onnxsqueeze import passes", "1: ops (line 3) imports passes (6)"),
        ("ops/a.py", "from onnxsqueeze.graph import io", "1: ops (line 3) imports graph (3)"),
        ("config.py", "from onnxsqueeze.api import f", "1: config (line 2) imports api (12)"),
        ("api.py", "def f():\n    import onnxsqueeze.cli", "2: api (line 12) imports cli (14)"),
        ("api.py", "from onnxsqueeze import load", "1: imports onnxsqueeze.load, which has no la"),
        ("api.py", "import onnxsqueeze", "1: api (line 12) imports __init__ (15)"),
        (
            "plan/a.py",
            "from onnxsqueeze.runtime.ort import f",
            "1: plan must never import runtime",
        ),
        ("report/a.py", "import onnxsqueeze.measure", "1: report must never import measure"),
        ("report/a.py", "from onnxsqueeze import passes", "1: report must never import passes"),
        ("graph/a.py", "from .io import load", "1: relative import"),
        ("measure/a.py", "import onnxruntime as ort", "1: imports onnxruntime, which only runtim"),
        ("data/a.py", "from torch import nn", "1: imports torch, which only gradients/ and op"),
        ("ops/linear.py", "import onnx", "1: imports onnx, which only ops/row.py and graph/ may"),
        ("runtime/a.py", "from onnx import helper", "1: imports onnx, which only ops/row.py and"),
        ("passes/a.py", "if node.op_type == 'Conv': ...", "1: compares an op_type"),
        ("passes/a.py", "x = node.op_type in {'Conv'}", "1: compares an op_type"),
        ("plan/a.py", "x = 'Conv' != op_type.lower()", "1: compares an op_type"),
        ("plan/a.py", "match n.op_type:\n    case 'Conv': ...", "1: compares an op_type"),
        ("report/a.py", "print('x')", "1: prints, which only cli/ may"),
        ("graph/graph_utils.py", "", "1: a module named graph_utils says nothing ('utils')"),
        ("graph/context/a.py", "", "1: a module named context says nothing ('context')"),
        ("graph/a.py", "\n" * (FILE_LINES + 1), "1: 501 lines, and 500 are the limit"),
        ("graph/a.py", LONG_FUNCTION, "1: f has 81 lines of 80 allowed"),
        ("frontend/a.py", "", "1: no layer for frontend"),
    ],
)
def test_planted_fault_is_found(path: str, text: str, fault: str) -> None:
    (found,) = faults(path, text)
    assert found.startswith(f"{path}:{fault}")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ops/a.py", "from onnxsqueeze.ops.row import Row\nfrom onnxsqueeze.errors import X"),
        ("ops/a.py", "if node.op_type == 'Conv': ..."),
        ("passes/a.py", "row = TABLE[node.op_type]\nimport onnx_ir as ir"),
        ("runtime/a.py", "import onnxruntime as ort"),
        ("gradients/a.py", "import torch"),
        ("ops/row.py", "import onnx"),
        ("graph/io.py", "import onnx.external_data_helper"),
        ("cli/a.py", "print('x')\nfrom onnxsqueeze import __version__, api"),
        ("graph/a.py", "\n" * FILE_LINES),
        ("graph/database.py", ""),
        ("graph/a.py", LONG_FUNCTION.removesuffix("    x = 1\n")),
    ],
)
def test_what_is_allowed_is_not_reported(path: str, text: str) -> None:
    assert faults(path, text) == []
