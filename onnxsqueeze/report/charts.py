"""The charts of the HTML report, as plotly figures in plain data.

A colour that starts with ``--`` is the name of a CSS variable: the page looks it up, so that
charts follow the reader's light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxsqueeze.facts.records import Latency
from onnxsqueeze.report import fmt
from onnxsqueeze.report.groups import by_size
from onnxsqueeze.report.types import Report, WeightRow

Figure = dict[str, Any]

_LAYERS = 20
_SPREADS = 6
_FORM_COLORS = ("--blue", "--orange", "--green", "--purple", "--red", "--teal")
_FIT_STYLES = {
    "normal": ("--orange", "solid"),
    "laplace": ("--green", "dash"),
    "kernel": ("--text", "dot"),
}


@dataclass(frozen=True)
class Chart:
    """One chart: ``title`` and ``note`` are text for the page, ``figure`` is for plotly.

    Attributes:
        id: Identity of the element that the chart is drawn in.
        title: What the chart shows.
        note: How to read it; empty where it explains itself.
        height: Height in pixels.
        figure: ``data`` and ``layout``.
    """

    id: str
    title: str
    note: str
    height: int
    figure: Figure


def charts(report: Report) -> tuple[Chart, ...]:
    """Return the charts that the report has numbers for, in reading order."""
    found = [_causes(report), _damage(report), _layers(report)]
    latencies = report.validation.latency if report.validation else ()
    found += [_speed(latency, k) for k, latency in enumerate(latencies)]
    return tuple(chart for chart in found if chart is not None)


def spreads(report: Report) -> tuple[Chart, ...]:
    """Return one chart of the values of each of the largest weights that were described."""
    rows = [row for row in by_size(report, len(report.weights)) if row.distribution is not None]
    return tuple(_spread(row, k) for k, row in enumerate(rows[:_SPREADS]))


def label(text: str) -> str:
    """Return text that plotly shows as it is; it would read ``<b>`` and ``<a>`` as markup.

    >>> label("<b>w</b>")
    '&lt;b&gt;w&lt;/b&gt;'
    """
    safe = fmt.plain(text).replace("&", "&amp;")
    return safe.replace("<", "&lt;").replace(">", "&gt;")


def _axis(title: str, **more: Any) -> Figure:
    return {"title": {"text": title}, "automargin": True, **more}


def _log_axis(title: str, values: Sequence[float]) -> Figure:
    """Return a logarithmic axis marked at powers of ten, under two of them also at 2 and 5."""
    low, high = math.log10(min(values)), math.log10(max(values))
    steps = (1, 2, 5) if high - low < 2 else (1,)
    powers = range(math.floor(low) - 1, math.ceil(high) + 2)
    ticks = [step * 10.0**power for power in powers for step in steps]
    text = [f"{tick:g}" for tick in ticks]
    margin = 0.06 * (high - low) + 0.1
    limits = [low - margin, high + margin]
    return _axis(title, type="log", tickmode="array", tickvals=ticks, ticktext=text, range=limits)


def _megabytes(sizes: Sequence[int]) -> list[float]:
    return [size_bytes / 1e6 for size_bytes in sizes]


def _pairs_of_bars(
    names: Sequence[str], before: Sequence[int], after: Sequence[int] | None
) -> Figure:
    """Return horizontal bars of bytes, the first name on top."""
    # Rows are numbers: plotly puts bars whose names are equal on top of each other.
    rows = list(range(len(names)))
    short = [label(name) for name in fmt.distinct(names, 26)]
    series = [("size", before, "--blue")]
    if after is not None:
        series = [("original", before, "--muted"), ("result", after, "--blue")]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": _megabytes(sizes),
            "y": rows,
            "text": [fmt.size(size_bytes) for size_bytes in sizes],
            "hovertext": [label(full) for full in names],
            "hovertemplate": "%{hovertext}<br>" + name + ": %{text}<extra></extra>",
            "textposition": "outside",
            "cliponaxis": False,
            "marker": {"color": color},
        }
        for name, sizes, color in series
    ]
    ticks = {"tickmode": "array", "tickvals": rows, "ticktext": short, "autorange": "reversed"}
    # A sixth more than the longest bar, for the number behind it.
    limit = max([1, *before, *(after or [])]) / 1e6 * 7 / 6
    layout = {
        "xaxis": _axis("size (MB)", range=[0, limit]),
        "yaxis": _axis("", showgrid=False, zeroline=False, **ticks),
        "barmode": "group",
        "showlegend": len(series) > 1,
    }
    return {"data": data, "layout": layout}


def _causes(report: Report) -> Chart | None:
    before = report.original.bytes_by_cause
    after = report.result.bytes_by_cause if report.result else {}
    names = list(dict.fromkeys([*before, *after]))
    if not names:
        return None
    result = [after.get(name, 0) for name in names] if report.result else None
    figure = _pairs_of_bars(names, [before.get(name, 0) for name in names], result)
    figure["layout"]["yaxis"]["title"]["text"] = "what the bytes are for"
    title = "Bytes by cause, before and after" if report.result else "Bytes by cause"
    return Chart("causes", title, "", 130 + 44 * len(names), figure)


def _layers(report: Report) -> Chart | None:
    rows = by_size(report, _LAYERS)
    if not rows:
        return None
    after = [row.bytes_after for row in rows] if report.result else None
    figure = _pairs_of_bars([row.name for row in rows], [row.bytes_before for row in rows], after)
    figure["layout"]["yaxis"]["title"]["text"] = "weight"
    title = "Bytes per weight, before and after" if report.result else "Bytes per weight"
    left = len(report.weights) - len(rows)
    note = f"The {len(rows)} largest; {left} smaller ones are in the table." if left else ""
    return Chart("layers", title, note, 130 + 30 * len(rows), figure)


def _damage(report: Report) -> Chart | None:
    measured = [row for row in report.weights if row.damage is not None]
    # Both axes are logarithmic.
    shown = [row for row in measured if 0 < (row.damage or 0.0) < math.inf and row.bytes_before]
    if not shown:
        return None
    forms = list(dict.fromkeys(fmt.form(row.form, row.bits) for row in shown))
    data = []
    for k, form in enumerate(forms):
        rows = [row for row in shown if fmt.form(row.form, row.bits) == form]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": label(form),
                "x": [row.bytes_before / 1e3 for row in rows],
                "y": [row.damage for row in rows],
                "text": [label(f"{row.name} ({row.operator})") for row in rows],
                "hovertemplate": "%{text}<br>%{x:.3s} kB, damage %{y:.2g}<extra></extra>",
                "marker": {
                    "color": _FORM_COLORS[k % len(_FORM_COLORS)],
                    "size": 9,
                    "opacity": 0.85,
                },
            }
        )
    sizes = [row.bytes_before / 1e3 for row in shown]
    damages = [row.damage or 0.0 for row in shown]
    layout = {
        "xaxis": _log_axis("size in the original (kB)", sizes),
        "yaxis": _log_axis("damage of 4 bits (relative output error)", damages),
    }
    note = "Low and right saves most at least cost. Damage is the energy of the output's error \
when only this weight is rounded to 4 bits, relative to the output's."
    if len(measured) > len(shown):
        hidden = fmt.plural(len(measured) - len(shown), "weight")
        note += f" {hidden}, of no or infinite damage, not shown."
    figure = {"data": data, "layout": layout}
    return Chart("damage", "Size against damage, per weight", note, 420, figure)


def _speed(latency: Latency, k: int) -> Chart | None:
    pairs = zip(latency.original_ms, latency.result_ms, strict=False)
    ratios = [original / result for original, result in pairs if result > 0]
    if not ratios:
        return None
    median = latency.speedup.value
    bars = {
        "type": "histogram",
        "x": ratios,
        "nbinsx": 30,
        "marker": {"color": "--blue"},
        "hovertemplate": "%{x}: %{y} pairs<extra></extra>",
    }
    layout = {
        "xaxis": _axis("original time / result time (over 1 is faster)"),
        "yaxis": _axis("number of pairs"),
        "showlegend": False,
        **_marks((1.0, "no difference", "--muted", "dash"), (median, "median", "--text", "solid")),
    }
    setting = f"{latency.provider}, {fmt.plural(latency.threads, 'thread')}"
    title = label(f"Speed in {len(ratios)} interleaved pairs of runs ({setting})")
    note = f"Median {fmt.times_interval(latency.speedup)}; thread CPU time."
    return Chart(f"speed{k}", title, note, 320, {"data": [bars], "layout": layout})


def _marks(*marks: tuple[float, str, str, str]) -> Figure:
    """Return named vertical lines, each a place, a name, a colour and a dash."""
    rightmost = max(x for x, _, _, _ in marks)
    shapes, annotations = [], []
    for x, text, color, dash in marks:
        ends = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x}
        shapes.append({**ends, "line": {"color": color, "width": 2, "dash": dash}})
        # Names stand on the outer side of their lines, so that close lines stay readable.
        side = "left" if x == rightmost else "right"
        place = {"x": x, "y": 1.02, "yref": "paper", "yanchor": "bottom", "xanchor": side}
        annotations.append({**place, "text": text, "showarrow": False})
    return {"shapes": shapes, "annotations": annotations}


def _spread(row: WeightRow, k: int) -> Chart:
    spread = row.distribution
    assert spread is not None  # spreads() picked it for having one
    bars: Figure = {
        "type": "bar",
        "name": "values",
        "x": spread.centers,
        "y": spread.density,
        "marker": {"color": "--fill", "line": {"width": 0}},
        "hovertemplate": "%{x:.3g}: %{y:.3g}<extra></extra>",
    }
    lines = []
    for name, density in spread.fits.items():
        color, dash = _FIT_STYLES.get(name, ("--purple", "solid"))
        off = f", off by {fmt.percent(spread.distances[name])}" if name in spread.distances else ""
        line = {"color": color, "dash": dash, "width": 2}
        common = {"type": "scatter", "mode": "lines", "x": spread.centers, "hoverinfo": "skip"}
        lines.append({**common, "name": label(name + off), "y": density, "line": line})
    layout = {
        "xaxis": _axis("value of a weight"),
        "yaxis": _axis("density (1 / value)", rangemode="tozero"),
        "bargap": 0,
    }
    note = (
        f"{fmt.shape(row.shape)}, {row.operator}, {fmt.size(row.bytes_before)}, "
        f"{fmt.percent(row.zeros_fraction)} zeros, best fit: {spread.best_fit}"
    )
    figure = {"data": [bars, *lines], "layout": layout}
    return Chart(f"spread{k}", fmt.plain(row.name), note, 300, figure)
