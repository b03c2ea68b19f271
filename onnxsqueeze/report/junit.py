"""The report's promises as JUnit XML, which pipelines show as test cases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from onnxsqueeze.facts.records import Fidelity, Latency, Validation
from onnxsqueeze.report import fmt
from onnxsqueeze.report.types import Report

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, even escaped (section 2.2)."""


@dataclass(frozen=True)
class Promise:
    """One thing that a result has to keep: what was found, and why it is broken, if it is."""

    name: str
    found: str
    broken: str = ""


def promises(report: Report) -> tuple[Promise, ...]:
    """Return what the report's result promises, and whether it keeps to it.

    The budget at the pessimistic end of each provider's drop, a size not over the original's, a
    speed not under it, all planned operators as planned, and nodes on each provider asked for.
    """
    found = [*_size(report)]
    if report.validation is not None:
        found += _budgets(report.validation, report.max_drop)
        found += [_latency(latency) for latency in report.validation.latency]
        found += _placement(report.validation)
    if report.verdict == "unchanged":
        why = "nothing smaller keeps to the budget; the file is the original, cleaned up"
        found.append(Promise("gain", why, why))
    return tuple(found)


def render(report: Report) -> str:
    """Return the report as JUnit XML: one test case per promise, the failure's text the reason."""
    cases = promises(report)
    failures = str(sum(1 for promise in cases if promise.broken))
    counts: dict[str, str] = {"tests": str(len(cases)), "failures": failures, "errors": "0"}
    seconds = f"{sum(report.seconds.values()):.3f}"
    counts |= {"time": seconds}
    root = ET.Element("testsuites", {"name": "onnxsqueeze", **counts})
    name = _text(f"onnxsqueeze {report.kind}: {report.original.path}")
    when = _text(report.created.removesuffix("+00:00"))
    suite = ET.SubElement(root, "testsuite", {"name": name, "timestamp": when, **counts})
    for promise in cases:
        named = {"classname": f"onnxsqueeze.{report.kind}", "name": _text(promise.name)}
        case = ET.SubElement(suite, "testcase", {**named, "time": "0"})
        if promise.broken:
            attributes = {"message": _text(promise.broken), "type": "promise"}
            failure = ET.SubElement(case, "failure", attributes)
            failure.text = _text(promise.broken)
        ET.SubElement(case, "system-out").text = _text(promise.found)
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + text + "\n"


def _text(text: str) -> str:
    return _NOT_XML.sub("?", fmt.plain(text))


def _budgets(validation: Validation, max_drop: float | None) -> Iterator[Promise]:
    for fidelity in validation.fidelity:
        if fidelity.optimization == "default" and max_drop is not None:
            yield _budget(fidelity, max_drop)


def _budget(fidelity: Fidelity, max_drop: float) -> Promise:
    drop = fmt.percent_interval(fidelity.drop)
    found = f"{fidelity.metric}: {drop} lost, {fmt.percent(max_drop)} allowed"
    kept = fidelity.drop.high <= max_drop
    samples = fmt.plural(fidelity.samples, "sample")
    broken = "" if kept else f"{found}; the pessimistic end decides, on {samples}"
    return Promise(f"budget, {fidelity.provider}", found, broken)


def _size(report: Report) -> Iterator[Promise]:
    if report.result is None:
        return
    before, after = report.original.size_bytes, report.result.size_bytes
    found = f"{before} bytes became {after}, {fmt.smaller(before, after)}"
    yield Promise("size", found, found if after > before else "")


def _latency(latency: Latency) -> Promise:
    threads = fmt.plural(latency.threads, "thread")
    found = f"{latency.verdict}, {fmt.times_interval(latency.speedup)}, {threads}"
    broken = found if latency.verdict == "slower" else ""
    return Promise(f"latency, {latency.provider}", found, broken)


def _placement(validation: Validation) -> Iterator[Promise]:
    for coverage in validation.coverage:
        found = f"{coverage.done} of {coverage.planned} are what was planned"
        names = ", ".join(coverage.missing)
        broken = "" if coverage.done >= coverage.planned else f"{found}; not: {names}"
        yield Promise(f"placement, {coverage.form}", found, broken)
    for placed in validation.placements:
        counts = {name: sum(nodes.values()) for name, nodes in placed.result.providers.items()}
        listed = (f"{name}: {fmt.plural(count, 'node')}" for name, count in counts.items())
        yield Promise(f"placement on {placed.provider}", "; ".join(listed))
