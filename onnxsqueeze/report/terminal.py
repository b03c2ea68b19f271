"""The report in a terminal: what fits on a screen or two, readable at 80 columns and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxsqueeze.facts.records import Fidelity, Latency, Memory, Placement
from onnxsqueeze.report import fmt
from onnxsqueeze.report.groups import by_damage, by_form, by_reason, by_size
from onnxsqueeze.report.tables import new_table
from onnxsqueeze.report.types import ModelSummary, Report, WeightRow

_ROWS = 12
_SUBJECTS = 3
_APART = 0.005
"""Drops as run and as written whose intervals lie further apart are both told."""
_NAME_WIDTH = 32
_STYLES = {
    "met": "bold green",
    "not met": "bold red",
    "unchanged": "bold yellow",
    "none": "bold",
    "faster": "green",
    "slower": "red",
    "same": "",
}


def render(report: Report) -> Group:
    """Return the report for rich's console: headline, figures, tables, files and notes.

    Names are shown as they are, without markup; control characters in them become ``?``.
    """
    parts: list[RenderableType] = [Text(fmt.plain(report.headline), style=_STYLES[report.verdict])]
    parts.append(_figures(report))
    for part in (
        _forms(report) if report.result else _causes(report.original),
        _weights(report),
        _left_alone(report),
        _coverage(report),
        _listed("Files", (f"{kind}: {path}" for kind, path in report.files.items())),
        _listed("Notes", report.notes),
    ):
        if part is not None:
            parts += [Text(""), part]
    return Group(*parts)


def _figures(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value, style in _figure_rows(report):
        table.add_row(name, Text(fmt.plain(value), style=style))
    return table


def _figure_rows(report: Report) -> Iterator[tuple[str, str, str]]:
    original, result = report.original, report.result
    yield "model", original.path, ""
    if result is None:
        yield "size", fmt.size(original.size_bytes), ""
    else:
        before, after = original.size_bytes, result.size_bytes
        change = f"{fmt.size(before)} to {fmt.size(after)}, {fmt.smaller(before, after)}"
        yield "size", change, "green" if after < before else ""
    if report.max_drop is not None and report.verdict != "none":
        allowed = f"at most {fmt.percent(report.max_drop)} of {report.metric or 'the metric'} lost"
        yield "budget", f"{report.verdict} ({allowed})", _STYLES[report.verdict]
    if report.validation is not None:
        for fidelity in report.validation.fidelity:
            if fidelity.optimization == "default":
                yield f"metric, {fidelity.provider}", _fidelity(fidelity, report.max_drop), ""
            elif _is_apart(fidelity, report.validation.fidelity[0]):
                drop = fmt.percent(fidelity.drop.value)
                yield "as written", f"drop {drop} with graph optimization off", "yellow"
        for latency in report.validation.latency:
            yield f"speed, {latency.provider}", _latency(latency), _STYLES[latency.verdict]
        load = (report.validation.original_load_ms, report.validation.result_load_ms)
        yield "load", " to ".join(fmt.milliseconds(ms) for ms in load), ""
        for memory in report.validation.memory:
            yield f"memory, {memory.provider}", _memory(memory), ""
        for placed in report.validation.placements:
            yield f"runs on {placed.provider}", _placement(placed.result), ""
        if not report.validation.placements:  # a report of an older version
            yield "runs on", _placement(report.validation.placement_result), ""
    shown = result or original
    yield "parameters", fmt.count(shown.parameters), ""
    if shown.multiply_adds is not None:
        yield "work", f"{fmt.count(shown.multiply_adds)} multiply-adds a run", ""
    yield "graph", f"{fmt.plural(shown.nodes, 'node')}, opset {shown.opset}", ""
    if report.result is None and original.operators:
        most = list(original.operators.items())[:8]
        yield "operators", ", ".join(f"{count} {name}" for name, count in most), ""
    if report.machine is not None:
        cores = fmt.plural(report.machine.cores, "core")
        yield "machine", f"{report.machine.processor}, {cores}", ""
    if report.seconds:
        yield "took", f"{fmt.number(sum(report.seconds.values()))} s", ""


def _is_apart(as_written: Fidelity, default: Fidelity) -> bool:
    """Return whether the graph as it is written gives clearly other results than as it is run."""
    low, high = default.drop.low - _APART, default.drop.high + _APART
    return as_written.drop.low > high or as_written.drop.high < low


def _fidelity(fidelity: Fidelity, max_drop: float | None) -> str:
    budget = "" if max_drop is None else f", budget {fmt.percent(max_drop)}"
    before, after = fmt.number(fidelity.original, 4), fmt.number(fidelity.result, 4)
    return (
        f"{fidelity.metric} {before} to {after}, "
        f"drop {fmt.percent_interval(fidelity.drop)}{budget}, "
        f"{fmt.plural(fidelity.samples, 'sample')}"
    )


def _latency(latency: Latency) -> str:
    return (
        f"{latency.verdict}, {fmt.times_interval(latency.speedup)}, "
        f"{fmt.plural(latency.threads, 'thread')}, {fmt.plural(len(latency.original_ms), 'pair')}"
    )


def _placement(placement: Placement) -> str:
    """Return nodes and share of time per provider, with the operators where there are several."""
    shares, parts = placement.time_shares, []
    for provider, nodes in placement.providers.items():
        share = f", {fmt.percent(shares[provider])} of the time" if provider in shares else ""
        names = ""
        if len(placement.providers) > 1:
            most = [fmt.middle(n, _NAME_WIDTH) for n in sorted(nodes, key=lambda n: -nodes[n])]
            more = [f"{len(most) - _SUBJECTS} more"] if len(most) > _SUBJECTS else []
            names = f" ({', '.join([*most[:_SUBJECTS], *more])})"
        parts.append(f"{provider}: {fmt.plural(sum(nodes.values()), 'node')}{names}{share}")
    return "; ".join(parts)


def _memory(memory: Memory) -> str:
    before, after = memory.original, memory.result
    resident = f"{fmt.size(before.resident_bytes)} to {fmt.size(after.resident_bytes)}"
    return (
        f"{resident} loaded, {fmt.size(before.peak_bytes)} to {fmt.size(after.peak_bytes)} at most"
    )


def _forms(report: Report) -> Table | None:
    groups = by_form(report.weights)
    if not groups:
        return None
    table = new_table("What was done", "weights are", ">count", ">before", ">after")
    for group in groups:
        after = fmt.size(group.bytes_after)
        table.add_row(group.form, str(group.count), fmt.size(group.bytes_before), after)
    if report.activations:
        table.add_row("activations on 8-bit grids", str(len(report.activations)), "", "")
    if report.scalings:
        table.add_row("axes scaled before rounding", str(len(report.scalings)), "", "")
    return table


def _causes(model: ModelSummary) -> Table | None:
    if not model.bytes_by_cause:
        return None
    table = new_table("Where the bytes are", "cause", ">size", ">share")
    for cause, size_bytes in model.bytes_by_cause.items():
        share = fmt.percent(size_bytes / model.size_bytes if model.size_bytes else 0.0)
        table.add_row(Text(fmt.plain(cause)), fmt.size(size_bytes), share)
    return table


def _weights(report: Report) -> Table | None:
    if not report.weights:
        return None
    if report.result is None:
        table = new_table("Largest weights", "name", "operator", ">size", ">zeros", "spread")
        for row, head in _with_names(by_size(report, _ROWS)):
            spread = row.distribution.best_fit if row.distribution else fmt.UNKNOWN
            zeros = fmt.percent(row.zeros_fraction)
            table.add_row(*head, fmt.size(row.bytes_before), zeros, spread)
        return table
    measured = any(row.damage is not None for row in report.weights)
    title = "Most sensitive weights" if measured else "Largest weights"
    table = new_table(title, "name", "operator", ">bits", ">before", ">after", ">damage")
    for row, head in _with_names(by_damage(report, _ROWS)):
        before, after = fmt.size(row.bytes_before), fmt.size(row.bytes_after)
        table.add_row(*head, str(row.bits), before, after, fmt.number(row.damage, 2))
    return table


def _with_names(rows: Sequence[WeightRow]) -> Iterator[tuple[WeightRow, tuple[Text, Text]]]:
    names = fmt.distinct((fmt.plain(row.name) for row in rows), _NAME_WIDTH)
    for row, name in zip(rows, names, strict=True):
        yield row, (Text(name), Text(fmt.middle(fmt.plain(row.operator), _NAME_WIDTH)))


def _left_alone(report: Report) -> Table | None:
    reasons = by_reason(report.left_alone)
    if not reasons:
        return None
    table = new_table("Left alone", ">count", "reason", "what")
    for reason, subjects in reasons[:_ROWS]:
        names = [fmt.middle(fmt.plain(name), 26) for name in subjects[:_SUBJECTS]]
        more = [f"and {len(subjects) - _SUBJECTS} more"] if len(subjects) > _SUBJECTS else []
        what = Text("\n".join(names + more))
        table.add_row(str(len(subjects)), Text(fmt.plain(reason)), what)
    if rest := reasons[_ROWS:]:
        count = str(sum(len(subjects) for _, subjects in rest))
        table.add_row(count, fmt.plural(len(rest), "more reason"), "see the report")
    return table


def _coverage(report: Report) -> Table | None:
    if report.validation is None or not report.validation.coverage:
        return None
    table = new_table("Planned and done", "form", ">planned", ">done", "missing")
    for row in report.validation.coverage:
        style = "" if row.done == row.planned else "yellow"
        missing = Text("\n".join(fmt.middle(fmt.plain(name), 30) for name in row.missing[:_ROWS]))
        table.add_row(fmt.plain(row.form), str(row.planned), str(row.done), missing, style=style)
    return table


def _listed(title: str, lines: Iterable[str]) -> Group | None:
    found = [Text(f"  {fmt.plain(line)}", overflow="fold") for line in lines]
    return Group(Text(title, style="bold"), *found) if found else None
