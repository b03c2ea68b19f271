"""``onnxsqueeze report``: a report once more, in another form; and the schema of all reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxsqueeze import api
from onnxsqueeze.cli.options import FILE
from onnxsqueeze.cli.show import checked_files as checked
from onnxsqueeze.cli.show import html_option, junit_option, markdown_option, save_files, show
from onnxsqueeze.report.schema import schema_text


@click.command()
@click.argument("source", type=FILE, required=False)
@html_option
@markdown_option
@junit_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of report.json instead.")
def report(source: Path | None, as_json: bool, schema: bool, **values: Any) -> int:
    """Show a report again: SOURCE is a report.json or a run folder."""
    if schema:
        click.echo(schema_text(), nl=False)
        return 0
    if source is None:
        raise click.UsageError("name a report.json or a run folder, or ask for --schema")
    found = api.read_report(source)
    save_files(found, checked((source,), None, values))
    show(found, quiet=False, as_json=as_json)
    return 0
