"""The report as one HTML file without network; the template only places what is made here."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from onnxsqueeze.facts.records import Fidelity, Latency, Placement
from onnxsqueeze.report import fmt
from onnxsqueeze.report.charts import charts, ranges, spreads
from onnxsqueeze.report.figures import Chart
from onnxsqueeze.report.groups import by_form, by_reason, counted
from onnxsqueeze.report.types import Report

Tone = Literal["good", "bad", "plain"]

_REASONS = 3
_VERDICTS: dict[str, tuple[str, Tone]] = {
    "met": ("budget met", "good"),
    "not met": ("budget not met", "bad"),
    "unchanged": ("nothing gained", "plain"),
    "none": ("no budget", "plain"),
}


@dataclass(frozen=True)
class Card:
    """One headline figure: what it is, its value, and the lines that make it honest."""

    title: str
    value: str
    details: tuple[str, ...]
    tone: Tone = "plain"


@dataclass(frozen=True)
class Sentence:
    """Something that was done, and the most frequent reasons for it."""

    text: str
    reasons: tuple[str, ...] = ()


def render(report: Report) -> str:
    """Return the report as a complete HTML page.

    All text of the report is escaped; names reach scripts only as JSON without ``<``.
    """
    drawn, spread, ends = charts(report), spreads(report), ranges(report)
    shown = (*drawn, *spread, *ends)
    return template("template.html.j2").render(
        report=report,
        fmt=fmt,
        verdict=_VERDICTS[report.verdict],
        cards=tuple(_cards(report)),
        story=tuple(_story(report)),
        charts=drawn,
        spreads=spread,
        ranges=ends,
        left_alone=by_reason(report.left_alone),
        changes=_changes(report),
        speeds=_speeds(report),
        placements=tuple(_placements(report)),
        seconds_total=sum(report.seconds.values()),
        install=_install(report),
        **assets(shown),
    )


def assets(shown: Sequence[Chart]) -> dict[str, Markup | None]:
    """Return what every page carries inside: style, script, plotly and the figures it draws."""
    return {
        "style": Markup(_asset("style.css")),
        "script": Markup(_asset("script.js")),
        "plotly": _plotlyjs() if shown else None,
        "figures": embedded({chart.id: chart.figure for chart in shown}),
    }


def embedded(data: Any) -> Markup:
    """Return data as JSON that is safe inside a script element; NaN and infinity become null.

    >>> "<" in embedded({"</script>": [1.5]}), str(embedded([1.5, float("nan")]))
    (False, '[1.5,null]')
    """
    text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def _asset(name: str) -> str:
    return resources.files("onnxsqueeze.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotlyjs() -> Markup:
    import plotly.offline  # not above: only pages with charts need it

    return Markup(plotly.offline.get_plotlyjs())


@cache
def template(name: str) -> Template:
    """Return a template of this package; what it places is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset(name))


def _cards(report: Report) -> Iterator[Card]:
    original, result = report.original, report.result
    if result is None:
        yield Card("Size", fmt.size(original.size_bytes), (f"{original.size_bytes:,} bytes",))
        yield Card("Parameters", fmt.count(original.parameters), (f"{original.parameters:,}",))
        if original.multiply_adds is not None:
            exact = f"{original.multiply_adds:,} multiply-adds a run"
            yield Card("Work", fmt.count(original.multiply_adds), (exact,))
        kinds = fmt.plural(len(original.operators), "kind")
        yield Card("Graph", fmt.plural(original.nodes, "node"), (f"{kinds} of operator",))
    else:
        before, after = original.size_bytes, result.size_bytes
        tone: Tone = "good" if after < before else "bad" if after > before else "plain"
        details = (
            f"{fmt.size(before)} to {fmt.size(after)}",
            f"{before:,} to {after:,} bytes",
        )
        yield Card("Size", fmt.smaller(before, after), details, tone)
    if report.validation is not None:
        yield from (_speed_card(latency) for latency in report.validation.latency)
        for fidelity in report.validation.fidelity:
            if fidelity.optimization == "default":
                yield _metric_card(fidelity, report.max_drop)


def _speed_card(latency: Latency) -> Card:
    tones: dict[str, Tone] = {"faster": "good", "slower": "bad", "same": "plain"}
    ratio = latency.speedup.value
    words = {
        "faster": f"{fmt.times(ratio)} faster",
        "slower": f"{fmt.times(1 / ratio if ratio else math.inf)} slower",
        "same": "same speed",
    }
    threads, pairs = fmt.plural(latency.threads, "thread"), len(latency.original_ms)
    details = (
        f"{fmt.times_interval(latency.speedup)}, 95% interval",
        f"{latency.provider}, {threads}, {fmt.plural(pairs, 'pair')} of runs",
    )
    return Card("Speed", words[latency.verdict], details, tones[latency.verdict])


def _metric_card(fidelity: Fidelity, max_drop: float | None) -> Card:
    drop = fidelity.drop
    budget = "" if max_drop is None else f", {fmt.percent(max_drop)} allowed"
    word = "lost" if drop.value > 0 else "gained"
    value = "no loss" if drop.value == 0 else f"{fmt.percent(abs(drop.value))} {word}"
    tone: Tone = "plain"
    if max_drop is not None:
        tone = "good" if drop.high <= max_drop else "bad"
    interval = f"{fmt.percent(drop.low)} to {fmt.percent(drop.high)} lost, 95% interval{budget}"
    levels = f"{fmt.number(fidelity.original, 4)} to {fmt.number(fidelity.result, 4)}"
    samples = f"{fidelity.provider}, {fmt.plural(fidelity.samples, 'sample')}"
    return Card(fidelity.metric, value, (interval, f"{levels}, {samples}"), tone)


def _story(report: Report) -> Iterator[Sentence]:
    if report.result is None:
        return
    if report.max_drop is not None:
        metric, allowed = report.metric or "the metric", fmt.percent(report.max_drop)
        calibrated = fmt.plural(report.calibration_samples, "sample")
        samples = f"planned with {calibrated}, measured on {report.evaluation_samples}"
        yield Sentence(f"The budget: at most {allowed} of {metric} may be lost; {samples}.")
    yield from _form_sentences(report)
    if report.activations:
        count = len(report.activations)
        verb = "is" if count == 1 else "are"
        yield Sentence(f"{fmt.plural(count, 'activation')} {verb} on 8-bit grids.")
    if report.scalings:
        count = len(report.scalings)
        verb = "is" if count == 1 else "are"
        axes = f"{count} {'axis' if count == 1 else 'axes'} {verb} scaled before rounding."
        yield Sentence(axes, _some(counted(row.reason for row in report.scalings)))
    done = Counter(change.step for change in report.changes if change.outcome == "done")
    undone = Counter(change.step for change in report.changes if change.outcome == "undone")
    for step in dict.fromkeys([*done, *undone]):
        parts = [f"{done[step]} done"] if done[step] else []
        parts += [f"{undone[step]} undone after a failed check"] if undone[step] else []
        yield Sentence(f"Step “{step}”: {', '.join(parts)}.")
    if report.left_alone:
        reasons = [(reason, len(names)) for reason, names in by_reason(report.left_alone)]
        places = fmt.plural(len(report.left_alone), "place")
        yield Sentence(f"Left alone: {places}.", _some(reasons))


def _form_sentences(report: Report) -> Iterator[Sentence]:
    for group in by_form(report.weights):
        verb = "is" if group.count == 1 else "are"
        before, after = fmt.size(group.bytes_before), fmt.size(group.bytes_after)
        sizes = f"{before} became {after}" if group.bytes_before != group.bytes_after else before
        text = f"{fmt.plural(group.count, 'weight')} {verb} {group.form}: {sizes}."
        yield Sentence(text, _some(group.reasons))


def _some(reasons: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """Return the first reasons, with how often each is given, and how many more there are."""
    found = [
        reason if count == 1 else f"{reason} ({count} times)"
        for reason, count in reasons[:_REASONS]
    ]
    if len(reasons) > _REASONS:
        more = fmt.plural(len(reasons) - _REASONS, "more reason")
        found.append(f"{more}, in the table")
    return tuple(found)


def _changes(report: Report) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    outcomes = ("done", "undone", "left alone")
    groups = (
        (outcome, tuple(change for change in report.changes if change.outcome == outcome))
        for outcome in outcomes
    )
    return tuple((outcome, found) for outcome, found in groups if found)


def _speeds(report: Report) -> tuple[tuple[Latency, str, str], ...]:
    """Return each latency with the medians of both sides in words."""
    latencies = report.validation.latency if report.validation else ()
    return tuple((row, _median(row.original_ms), _median(row.result_ms)) for row in latencies)


def _placements(report: Report) -> Iterator[tuple[str, str, Placement]]:
    """Yield each placement with the provider asked for and which model it is of."""
    if report.validation is None:
        return
    for placed in report.validation.placements:
        yield placed.provider, "original", placed.original
        yield placed.provider, "result", placed.result
    if not report.validation.placements:  # a report of an older version
        yield fmt.UNKNOWN, "original", report.validation.placement_original
        yield fmt.UNKNOWN, "result", report.validation.placement_result


def _median(times_ms: Sequence[float]) -> str:
    return fmt.milliseconds(statistics.median(times_ms)) if times_ms else fmt.UNKNOWN


def _install(report: Report) -> str:
    """Return the command that installs what was used; what pip does not install is a comment."""
    pins = {"onnxsqueeze": report.version}
    if report.machine is not None:
        pins.update(report.machine.versions)
    python = pins.pop("python", None)
    line = "pip install " + " ".join(f'"{name}=={version}"' for name, version in pins.items())
    return line if python is None else f"# Python {python}\n{line}"
