"""The charts of the HTML report: what was decided, and what was measured."""

from __future__ import annotations

import math

from onnxsqueeze.report import fmt
from onnxsqueeze.report.figures import (
    COLORS,
    Chart,
    Figure,
    Series,
    axis,
    bars,
    label,
    log_axis,
    marks,
    sizes,
)
from onnxsqueeze.report.groups import by_size
from onnxsqueeze.report.measured_charts import measured_charts
from onnxsqueeze.report.tradeoff import Tradeoff, tradeoff
from onnxsqueeze.report.types import ActivationRow, Distribution, Report, WeightRow

_LAYERS = 20
_SPREADS = 6
_FIT_STYLES = {
    "normal": ("--orange", "solid"),
    "laplace": ("--green", "dash"),
    "kernel": ("--text", "dot"),
}


def charts(report: Report) -> tuple[Chart, ...]:
    """Return the charts that the report has numbers for, in reading order."""
    found = [_causes(report), _tradeoff(report), _damage(report), _layers(report)]
    found += [_widths(report), *measured_charts(report)]
    return tuple(chart for chart in found if chart is not None)


def spreads(report: Report) -> tuple[Chart, ...]:
    """Return one chart of the values of each of the largest weights that were described."""
    rows = [row for row in by_size(report, len(report.weights)) if row.distribution is not None]
    return tuple(_spread(row, k) for k, row in enumerate(rows[:_SPREADS]))


def ranges(report: Report) -> tuple[Chart, ...]:
    """Return one chart of each described activation, with the range that was chosen for it."""
    rows = [row for row in report.activations if row.distribution is not None]
    return tuple(_range(row, k) for k, row in enumerate(rows[:_SPREADS]))


def _before_and_after(
    names: list[str], before: list[int], after: list[int] | None, kind: str
) -> Figure:
    series = [sizes("size", "--blue", before)]
    if after is not None:
        series = [sizes("original", "--muted", before), sizes("result", "--blue", after)]
    return bars(names, series, kind, "size (MB)")


def _causes(report: Report) -> Chart | None:
    before = report.original.bytes_by_cause
    after = report.result.bytes_by_cause if report.result else {}
    names = list(dict.fromkeys([*before, *after]))
    if not names:
        return None
    result = [after.get(name, 0) for name in names] if report.result else None
    originals = [before.get(name, 0) for name in names]
    figure = _before_and_after(names, originals, result, "what the bytes are for")
    title = "Bytes by cause, before and after" if report.result else "Bytes by cause"
    return Chart("causes", title, "", 130 + 44 * len(names), figure)


def _layers(report: Report) -> Chart | None:
    rows = by_size(report, _LAYERS)
    if not rows:
        return None
    names, before = [row.name for row in rows], [row.bytes_before for row in rows]
    after = [row.bytes_after for row in rows] if report.result else None
    figure = _before_and_after(names, before, after, "weight")
    title = "Bytes per weight, before and after" if report.result else "Bytes per weight"
    left = len(report.weights) - len(rows)
    note = f"The {len(rows)} largest; {left} smaller ones are in the table." if left else ""
    return Chart("layers", title, note, 130 + 30 * len(rows), figure)


def _tradeoff(report: Report) -> Chart | None:
    found = tradeoff(report.weights)
    if found is None or report.result is None:
        return None
    curve: Figure = {
        "type": "scatter",
        "mode": "lines",
        "name": "best choice of widths",
        "x": [point.saved_bytes / 1e6 for point in found.curve],
        "y": [point.damage for point in found.curve],
        "hovertemplate": "%{x:.3s} MB saved, damage %{y:.2g}<extra></extra>",
        "line": {"color": "--blue", "width": 2},
    }
    damages = [point.damage for point in found.curve]
    data = [curve]
    if found.chosen.damage > 0:
        data.append(_chosen(found))
        damages.append(found.chosen.damage)
    layout = {
        "xaxis": axis("saved (MB)"),
        "yaxis": log_axis("expected damage, all weights", damages),
        "showlegend": True,
    }
    note = "Low and right is best. Expected from the trial of each weight alone, rounded to the \
nearest: what makes up for errors, and scales of blocks and columns, are not in it."
    if report.validation is not None:
        drop = report.validation.fidelity[0].drop
        note += f" Measured in the end: {fmt.percent_interval(drop)} lost."
    figure = {"data": data, "layout": layout}
    return Chart("tradeoff", "Damage against saving", note, 380, figure)


def _chosen(found: Tradeoff) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "chosen",
        "x": [found.chosen.saved_bytes / 1e6],
        "y": [found.chosen.damage],
        "hovertemplate": "chosen: %{x:.3s} MB saved, damage %{y:.2g}<extra></extra>",
        "marker": {"color": "--orange", "size": 13, "symbol": "diamond"},
    }


def _damage(report: Report) -> Chart | None:
    measured = [row for row in report.weights if row.damage is not None]
    # Both axes are logarithmic.
    shown = [row for row in measured if 0 < (row.damage or 0.0) < math.inf and row.bytes_before]
    if not shown:
        return None
    forms = list(dict.fromkeys(fmt.form(row.form, row.bits) for row in shown))
    data = [_points(shown, form, COLORS[k % len(COLORS)]) for k, form in enumerate(forms)]
    before = [row.bytes_before / 1e3 for row in shown]
    damages = [row.damage or 0.0 for row in shown]
    layout = {
        "xaxis": log_axis("size in the original (kB)", before),
        "yaxis": log_axis("damage of 4 bits (relative output error)", damages),
        "showlegend": True,
    }
    note = "Low and right saves most at least cost. Damage is the energy of the output's error \
when only this weight is rounded to 4 bits, relative to the output's."
    if len(measured) > len(shown):
        hidden = fmt.plural(len(measured) - len(shown), "weight")
        note += f" {hidden}, of no or infinite damage, not shown."
    figure = {"data": data, "layout": layout}
    return Chart("damage", "Size against damage, per weight", note, 420, figure)


def _points(shown: list[WeightRow], form: str, color: str) -> Figure:
    rows = [row for row in shown if fmt.form(row.form, row.bits) == form]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": label(form),
        "x": [row.bytes_before / 1e3 for row in rows],
        "y": [row.damage for row in rows],
        "text": [label(f"{row.name} ({row.operator})") for row in rows],
        "hovertemplate": "%{text}<br>%{x:.3s} kB, damage %{y:.2g}<extra></extra>",
        "marker": {"color": color, "size": 9, "opacity": 0.85},
    }


def _widths(report: Report) -> Chart | None:
    rows = sorted(report.widths, key=lambda row: row.kept / row.count)[:_LAYERS]
    if not rows:
        return None
    kept = tuple(float(row.kept) for row in rows)
    counts = tuple(float(row.count) for row in rows)
    series = [
        Series("in the original", "--muted", counts, tuple(str(row.count) for row in rows)),
        Series("kept", "--blue", kept, tuple(str(row.kept) for row in rows)),
    ]
    figure = bars([row.name for row in rows], series, "group", "channels, neurons or heads")
    left = len(report.widths) - len(rows)
    note = f"The {len(rows)} that lost most; {left} more are in the table." if left else ""
    return Chart("widths", "Kept widths", note, 130 + 40 * len(rows), figure)


def _spread(row: WeightRow, k: int) -> Chart:
    spread = row.distribution
    assert spread is not None  # spreads() picked it for having one
    layout = _density_layout("value of a weight")
    note = (
        f"{fmt.shape(row.shape)}, {row.operator}, {fmt.size(row.bytes_before)}, "
        f"{fmt.percent(row.zeros_fraction)} zeros, best fit: {spread.best_fit}"
    )
    figure = {"data": _densities(spread), "layout": layout}
    return Chart(f"spread{k}", fmt.plain(row.name), fmt.plain(note), 300, figure)


def _range(row: ActivationRow, k: int) -> Chart:
    spread = row.distribution
    assert spread is not None  # ranges() picked it for having one
    ends = ((row.low, "from", "--red", "solid"), (row.high, "to", "--red", "solid"))
    layout = {**_density_layout("value of the activation"), **marks(*ends)}
    # The names of the lines stand where the legend would.
    layout["legend"] = {"orientation": "h", "x": 0, "y": 1.14, "yanchor": "bottom"}
    layout["margin"] = {"l": 8, "r": 12, "t": 72, "b": 8}
    note = (
        f"Grid from {fmt.number(row.low)} to {fmt.number(row.high)}; seen from "
        f"{fmt.number(row.minimum)} to {fmt.number(row.maximum)}; {row.reason}"
    )
    figure = {"data": _densities(spread), "layout": layout}
    return Chart(f"range{k}", fmt.plain(row.name), fmt.plain(note), 320, figure)


def _density_layout(values: str) -> Figure:
    return {
        "xaxis": axis(values),
        "yaxis": axis("density (1 / value)", rangemode="tozero"),
        "bargap": 0,
        "showlegend": True,
    }


def _densities(spread: Distribution) -> list[Figure]:
    """Return the histogram as bars and the fitted densities as lines."""
    counted: Figure = {
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
    return [counted, *lines]
