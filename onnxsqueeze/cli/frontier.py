"""``onnxsqueeze compress --frontier``: several budgets, one run folder, one chart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxsqueeze import frontier as walked
from onnxsqueeze.cli import options
from onnxsqueeze.cli.option_types import FractionType
from onnxsqueeze.cli.progress import Bars
from onnxsqueeze.cli.show import display
from onnxsqueeze.errors import BudgetError
from onnxsqueeze.outcome import default_run
from onnxsqueeze.report import fmt
from onnxsqueeze.report import frontier as record
from onnxsqueeze.report.frontier import Frontier

MOST = 20
"""Points that may be asked for by their number."""

Budgets = tuple[float, ...] | int


class FrontierType(click.ParamType[Any]):
    """Budgets, ``0.5%,1%,2%``, or their number, up to ``--max-drop``."""

    name = "budgets"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Budgets:
        """Return the budgets, or their number."""
        if isinstance(value, tuple | int):
            return value
        if isinstance(value, list):
            value = ",".join(str(one) for one in value)
        text = str(value).strip()
        if re.fullmatch(r"\d+", text):
            count = int(text)
            if not 2 <= count <= MOST:
                self.fail(f"{count} points are not from 2 to {MOST}", param, ctx)
            return count
        read = FractionType()
        return tuple(read.convert(part, param, ctx) for part in text.split(","))


frontier_option = click.option(
    "--frontier",
    type=FrontierType(),
    metavar="BUDGETS",
    help="Write one model per budget (0.5%,1%,2%, or how many up to --max-drop), as "
    "NAME-0.5%.onnx, with one chart; measurements are shared.",
)


def compress_for(
    model: Path,
    output: Path,
    run: Path | None,
    budgets: Budgets,
    command: str,
    *,
    quiet: bool,
    as_json: bool,
    values: dict[str, Any],
) -> int:
    """Write the models of a frontier; the exit code is 9 where no budget was met."""
    if isinstance(budgets, int):
        budgets = walked.spread(budgets, values["max_drop"])
    if len({walked.percent(one) for one in budgets}) < len(set(budgets)):
        raise click.UsageError("--frontier: budgets must differ by 0.0001% or more")
    run = run or default_run(output)
    with Bars(is_shown=not quiet and not as_json) as progress:
        made = walked.compress_for(
            model,
            output,
            options.data_settings(values),
            budgets=budgets,
            metric=values["metric"],
            target=options.target(values),
            limits=options.limits(values),
            run=run,
            command=command,
            progress=progress,
        )
    if as_json:
        click.echo(made.model_dump_json(indent=1))
    elif not quiet:
        display(_table(made, run / record.PAGE))
    if made.met:
        return 0
    click.echo(
        f"error: none of {fmt.plural(len(made.wanted), 'budget')} is met\n"
        "  The files written are the original, cleaned up. Allow more, or give more samples.",
        err=True,
    )
    return BudgetError.exit_code


def _table(made: Frontier, page: Path) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("budget", "size", "smaller", "lost", "speed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("file", overflow="fold")
    for point in made.points:
        speed = fmt.UNKNOWN if point.speedup is None else fmt.times(point.speedup.value)
        table.add_row(
            fmt.percent(point.max_drop),
            fmt.size(point.size_bytes),
            fmt.smaller(made.original_bytes, point.size_bytes) if point.is_met else "not met",
            fmt.percent_interval(point.drop),
            "the same" if point.speed == "same" else speed,
            Text(fmt.plain(point.output)),
            style="" if point.is_met else "yellow",
        )
    title = Text(fmt.plain(record.headline(made)), style="bold")
    return Group(title, table, Text(""), Text(f"  chart: {fmt.plain(str(page))}"))
