"""Results as one Markdown table: the newest record of each case and method."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
HEADER = (
    *("case (float)", "method", "metric", "SQNR dB", "smaller", "faster"),
    *("compress s", "peak MB"),
)
UNKNOWN = "–"


def read_records(path: Path) -> list[Record]:
    """Return the records of a file of JSON lines."""
    lines = path.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def newest(records: Iterable[Record]) -> list[Record]:
    """Return the last record of each case and method, in the order of their first appearance."""
    latest: dict[tuple[str, str], Record] = {}
    for record in records:
        latest[record["case"], record["method"]] = record
    return list(latest.values())


def number(value: Any, form: str) -> str:
    """Return ``value`` in a format, or a dash where it is missing, or the sign of infinity."""
    if value is None:
        return UNKNOWN
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return format(value, form)


def cell(text: str) -> str:
    """Return text that does not end a cell or a line of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def row(record: Record) -> list[str]:
    """Return the cells of one record; a failure takes the metric's place."""
    metric = f"{number(record.get('metric'), '.4f')} ± {number(record.get('metric_se'), '.4f')}"
    if record.get("metric") is None:
        metric = f"failed: {record.get('reason') or 'no reason given'}"
    elif record.get("reason"):
        metric += f" ({record['reason']})"
    peak_bytes = record.get("peak_bytes")
    return [
        f"{record['case']} ({number(record.get('metric_float'), '.4f')})",
        record["method"],
        cell(metric),
        number(record.get("sqnr_db"), ".1f"),
        number(record.get("size_ratio"), ".2f"),
        number(record.get("speed"), ".2f"),
        number(record.get("compress_s"), ".0f"),
        number(None if peak_bytes is None else peak_bytes / 1e6, ".0f"),
    ]


def with_float_metric(records: Sequence[Record]) -> list[Record]:
    """Return the records, failed ones with the float metric that others of their case have."""
    known = {r["case"]: r["metric_float"] for r in records if r.get("metric_float") is not None}
    return [{"metric_float": known.get(record["case"]), **record} for record in records]


def table(records: Iterable[Record]) -> str:
    """Return a Markdown table; cases stay together, methods as they come.

    ``metric`` is the result's, with the standard error of its paired difference from float's;
    ``smaller`` and ``faster`` are original over result.
    """
    rows = with_float_metric(newest(records))
    order = {case: index for index, case in enumerate(dict.fromkeys(r["case"] for r in rows))}
    lines = [HEADER, ["---"] * 3 + ["---:"] * 5]
    lines += [row(record) for record in sorted(rows, key=lambda record: order[record["case"]])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
