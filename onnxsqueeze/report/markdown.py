"""The report as short Markdown, for a pull request or a job's summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from onnxsqueeze.report import fmt
from onnxsqueeze.report.groups import by_form, by_reason
from onnxsqueeze.report.types import Report

_REASONS = 5
_VERDICTS = {
    "met": "budget met",
    "not met": "budget not met",
    "unchanged": "nothing gained",
    "none": "no budget",
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~<>&$@:-])")


def render(report: Report) -> str:
    """Return the report as Markdown: headline and verdict, figures, forms, notes.

    Text of the report is escaped: a name becomes neither markup, link, mention nor HTML.
    """
    parts = [f"### {escaped(report.headline)}", f"**{_VERDICTS[report.verdict]}**"]
    parts.append(_table(("", "original", "result"), _figures(report)))
    forms = [
        (group.form, str(group.count), fmt.size(group.bytes_before), fmt.size(group.bytes_after))
        for group in by_form(report.weights)
    ]
    if forms and report.result is not None:
        parts.append(_table(("weights are", "count", "before", "after"), forms))
    left = by_reason(report.left_alone)
    lines = [f"- {len(names)} left alone: {escaped(reason)}" for reason, names in left[:_REASONS]]
    lines += [f"- {escaped(note)}" for note in report.notes]
    if lines:
        parts.append("\n".join(lines))
    if report.command:
        parts.append(f"{_code(report.command)}, onnxsqueeze {escaped(report.version)}")
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    r"""Return text that Markdown shows as it is, on one line.

    >>> escaped("<b>w*</b> | @all")
    '\\<b\\>w\\*\\</b\\> \\| \\@all'
    """
    return _SPECIAL.sub(r"\\\1", fmt.plain(text))


def _code(text: str) -> str:
    """Return text as code, between more backticks than it holds in a row."""
    plain = fmt.plain(text)
    runs = [len(run) for run in re.findall(r"`+", plain)]
    fence = "`" * (max(runs, default=0) + 1)
    return f"{fence} {plain} {fence}" if runs else f"{fence}{plain}{fence}"


def _figures(report: Report) -> Iterator[tuple[str, str, str]]:
    original, result = report.original, report.result
    if result is None:
        yield "size", fmt.size(original.size_bytes), ""
        return
    smaller = fmt.smaller(original.size_bytes, result.size_bytes)
    yield "size", fmt.size(original.size_bytes), f"{fmt.size(result.size_bytes)}, {smaller}"
    if report.validation is None:
        return
    allowed = "" if report.max_drop is None else f", {fmt.percent(report.max_drop)} allowed"
    for fidelity in report.validation.fidelity:
        if fidelity.optimization == "default":
            name = f"{fidelity.metric}, {fidelity.provider}"
            lost = f"{fmt.percent_interval(fidelity.drop)} lost{allowed}"
            after = f"{fmt.number(fidelity.result, 4)}: {lost}"
            yield name, fmt.number(fidelity.original, 4), after
    for latency in report.validation.latency:
        threads = fmt.plural(latency.threads, "thread")
        speed = f"{latency.verdict}, {fmt.times_interval(latency.speedup)}"
        yield f"speed, {latency.provider}, {threads}", "", speed
    for memory in report.validation.memory:
        peaks = fmt.size(memory.original.peak_bytes), fmt.size(memory.result.peak_bytes)
        yield f"most memory, {memory.provider}", *peaks


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head)]
    lines += [tuple(escaped(cell) for cell in row) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
