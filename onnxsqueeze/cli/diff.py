"""``onnxsqueeze diff``: what changed between two models, or between two reports."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxsqueeze import api
from onnxsqueeze.analysis.diff import ModelDiff, Stored, TensorChange
from onnxsqueeze.cli.options import FILE
from onnxsqueeze.cli.show import display
from onnxsqueeze.graph import io
from onnxsqueeze.measure.difference import difference
from onnxsqueeze.report import diff as reports
from onnxsqueeze.report import fmt
from onnxsqueeze.report.diff import ReportDiff
from onnxsqueeze.report.tables import new_table

_ROWS = 40


@click.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def diff(before: Path, after: Path, as_json: bool) -> int:
    """Say what changed from BEFORE to AFTER: two models, or two reports.

    Reports are report.json files or run folders. The exit code is 0 also where they differ.
    """
    kinds = {_is_report(before), _is_report(after)}
    if len(kinds) > 1:
        raise click.UsageError("give two models or two reports, not one of each")
    if kinds == {True}:
        found: ModelDiff | ReportDiff = reports.diff(
            api.read_report(before), api.read_report(after)
        )
    else:
        found = difference(before, after)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
    elif found.is_empty:
        click.echo("nothing differs")
    elif isinstance(found, ReportDiff):
        display(_reports(found))
    else:
        display(_models(found, io.size_bytes(before), io.size_bytes(after)))
    return 0


def _is_report(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".json"


def _models(found: ModelDiff, before: int, after: int) -> RenderableType:
    size = f"{fmt.size(before)} to {fmt.size(after)}, {fmt.smaller(before, after)}"
    parts: list[RenderableType] = [Text(size, style="bold")]
    rows = [*found.opsets, *found.interface, *found.operators]
    if rows:
        named = ((row.name, row.before or fmt.UNKNOWN, row.after or fmt.UNKNOWN) for row in rows)
        parts += [Text(""), _table("Opsets, interface, operators", named, "", "before", "after")]
    if found.tensors:
        shown = (_tensor(change) for change in found.tensors[:_ROWS])
        heads = ("name", "before", "after", ">SQNR")
        parts += [Text(""), _table("Stored tensors", shown, *heads)]
        left = len(found.tensors) - _ROWS
        if left > 0:
            parts.append(Text(f"  and {left} smaller ones (--json lists all)"))
    parts += [Text(""), Text(f"{fmt.plural(found.same, 'stored tensor')} the same")]
    return Group(*parts)


def _tensor(change: TensorChange) -> tuple[str, str, str, str]:
    name = fmt.middle(fmt.plain(change.name), 40)
    return name, _stored(change.before), _stored(change.after), fmt.decibel(change.sqnr_db)


def _stored(stored: Stored | None) -> str:
    if stored is None:
        return fmt.UNKNOWN
    text = f"{stored.dtype} {fmt.shape(stored.shape)}, {fmt.size(stored.size_bytes)}"
    return f"{text} in {fmt.plural(len(stored.parts), 'part')}" if stored.parts else text


def _reports(found: ReportDiff) -> RenderableType:
    figures = ((row.name, row.before, row.after) for row in found.figures)
    parts: list[RenderableType] = []
    if found.figures:
        parts += [_table("Figures", figures, "", "before", "after"), Text("")]
    if found.decisions:
        shown = [
            (
                fmt.middle(fmt.plain(row.weight), 40),
                _decided(row.before, row.bytes_before),
                _decided(row.after, row.bytes_after),
            )
            for row in found.decisions[:_ROWS]
        ]
        parts += [_table("Weights", shown, "name", "before", "after"), Text("")]
        left = len(found.decisions) - _ROWS
        if left > 0:
            parts.append(Text(f"  and {left} more (--json lists all)"))
    parts.append(Text(f"{fmt.plural(found.same, 'weight')} decided the same"))
    return Group(*parts)


def _decided(form: str | None, size_bytes: int | None) -> str:
    if form is None or size_bytes is None:
        return fmt.UNKNOWN
    return f"{form}, {fmt.size(size_bytes)}"


def _table(title: str, rows: Iterable[tuple[str, ...]], *columns: str) -> Table:
    """Return a table of plain text; columns whose name starts with ``>`` hold numbers."""
    made = new_table(title, *columns)
    for row in rows:
        made.add_row(*(Text(fmt.plain(cell)) for cell in row))
    return made
