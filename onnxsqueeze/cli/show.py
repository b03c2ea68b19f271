"""How a command ends: its report in the terminal or as JSON, and in the files asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType

from onnxsqueeze.cli.options import FILE
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import OutputError
from onnxsqueeze.outcome import check_output
from onnxsqueeze.report.files import save_html, save_junit, save_markdown
from onnxsqueeze.report.terminal import render
from onnxsqueeze.report.types import Report

Save = Callable[[Report, Path], None]

SAVERS: dict[str, Save] = {"html": save_html, "markdown": save_markdown, "junit": save_junit}

html_option = click.option("--html", type=FILE, help="Write the report as an HTML page, too.")
markdown_option = click.option(
    "--markdown", type=FILE, help="Write it as short Markdown, for a pull request."
)
junit_option = click.option(
    "--junit",
    type=FILE,
    help="Write its promises (budget, size, latency, placement) as JUnit XML, for a pipeline.",
)


def checked_files(
    models: tuple[Path, ...], data: DataSettings | None, values: dict[str, Any]
) -> dict[str, Path]:
    """Return the report files that were asked for, by what they are.

    Raises:
        OutputError: If one cannot be written, or is a model or the samples, before any work.
    """
    asked = {kind: values.pop(kind, None) for kind in SAVERS}
    files = {kind: path for kind, path in asked.items() if path is not None}
    for path in files.values():
        for model in models:
            if path.absolute() == model.absolute():
                raise OutputError(
                    f"{path} is a model that is read, and never written to\n"
                    "  Choose another place."
                )
            check_output(model, path, data)
    return files


def save_files(report: Report, files: dict[str, Path]) -> None:
    """Write a report to the files that ``checked_files`` found."""
    for kind, path in files.items():
        SAVERS[kind](report, path)


def show(report: Report, *, quiet: bool, as_json: bool) -> None:
    """Print a report."""
    if as_json:
        click.echo(report.model_dump_json(indent=1))
    elif not quiet:
        display(render(report))


def display(shown: RenderableType) -> None:
    """Print tables, at least 100 columns wide in a pipe."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 100))
    console.print(shown)
