"""Pages hold what the package holds: every option, every exit code, only errors that exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import onnxsqueeze
from onnxsqueeze import errors
from onnxsqueeze.cli.commands import group
from onnxsqueeze.config import WIDTHS
from tests.docs.blocks import PAGES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "docs"))

import generated  # noqa: E402 (tools/ is no package)

PLACEHOLDER = "\0"


def texts(tree: ast.AST) -> Iterator[str]:
    """Every literal text of a module; where a value is filled in stands a NUL."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else PLACEHOLDER
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_heading_of_troubleshooting_is_a_text_of_an_error() -> None:
    sources = (ROOT / "onnxsqueeze").rglob("*.py")
    said = "\n".join(
        " ".join(text.split(" "))
        for path in sources
        for text in texts(ast.parse(path.read_text("utf-8")))
    )
    page = (PAGES / "troubleshooting.md").read_text("utf-8")
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert len(headings) > 10
    assert [heading for heading in headings if heading not in said] == []


def test_every_option_is_on_its_page() -> None:
    page = generated.options_page()
    for name, command in group.commands.items():
        section = page.split(f"## onnxsqueeze {name}\n")[1].split("\n## ")[0]
        for one in command.params:
            if isinstance(one, click.Option):
                assert f"`{one.opts[-1]}`" in section, (name, one.opts)
                assert one.help, f"{one.opts[-1]} of {name} is not explained"


def test_every_exit_code_is_on_its_page() -> None:
    page = generated.exit_codes_page()
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    kinds = errors.SqueezeError.__subclasses__()
    assert codes == {0, 1, 2, 70, 130, *(kind.exit_code for kind in kinds)}


def test_every_public_name_is_on_the_page_of_python() -> None:
    page = (PAGES / "api.md").read_text("utf-8")
    named = set(re.findall(r"^::: onnxsqueeze\.(\w+)$", page, re.MULTILINE))
    told = {name for name in onnxsqueeze.__all__ if hasattr(errors, name)} | {"__version__"}
    assert named - {"errors"} == set(onnxsqueeze.__all__) - told


def test_figures_of_forms_are_in_their_place_and_grow_with_the_bits() -> None:
    assert generated.FIGURES_HERE in (PAGES / "forms.md").read_text("utf-8")
    line = re.compile(r"^\| (\w+)(?: bits)? \| ([\d,]+) \|.* (\S+) dB \|$", re.MULTILINE)
    rows = line.findall(generated.figures())
    sizes = [int(size.replace(",", "")) for _, size, _ in rows]
    names = ["float16", *(str(bits) for bits in sorted(WIDTHS, reverse=True) if bits < 16)]
    assert [name for name, *_ in rows] == names
    assert sizes == sorted(set(sizes), reverse=True)
    decibels = [float(kept) for *_, kept in rows[1:]]
    assert decibels == sorted(set(decibels), reverse=True)


def test_pages_link_to_pages_that_exist() -> None:
    names = {path.name for path in PAGES.glob("*.md")} | set(generated.PAGES)
    for path in PAGES.glob("*.md"):
        links = re.findall(r"\]\(([^)#:]+)[^)]*\)", path.read_text("utf-8"))
        assert set(links) <= names
    listed = re.findall(r"(\S+\.md)$", (PAGES.parent / "mkdocs.yml").read_text("utf-8"), re.M)
    assert set(listed) == names


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    for name in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install 'onnxsqueeze[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    subprocess.run([*command, "-f", str(PAGES.parent / "mkdocs.yml")], check=True, cwd=tmp_path)
    assert "max-drop" in (tmp_path / "site" / "options" / "index.html").read_text("utf-8")
