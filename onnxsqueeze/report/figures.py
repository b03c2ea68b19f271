"""What the charts of a page are made of: plotly figures in plain data, bars, axes, marks.

A colour that starts with ``--`` is the name of a CSS variable: the page looks it up, so that
charts follow the reader's light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxsqueeze.report import fmt

Figure = dict[str, Any]

COLORS = ("--blue", "--orange", "--green", "--purple", "--red", "--teal")


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


@dataclass(frozen=True)
class Series:
    """Bars of one colour: a length and a text for each name."""

    name: str
    color: str
    values: tuple[float, ...]
    texts: tuple[str, ...]


def label(text: str) -> str:
    """Return text that plotly shows as it is; it would read ``<b>`` and ``<a>`` as markup.

    >>> label("<b>w</b>")
    '&lt;b&gt;w&lt;/b&gt;'
    """
    safe = fmt.plain(text).replace("&", "&amp;")
    return safe.replace("<", "&lt;").replace(">", "&gt;")


def axis(title: str, **more: Any) -> Figure:
    """Return an axis with a title."""
    return {"title": {"text": title}, "automargin": True, **more}


def log_axis(title: str, values: Sequence[float]) -> Figure:
    """Return a logarithmic axis marked at powers of ten, under two of them also at 2 and 5.

    It spans a power of ten at least, so that a mark is on it.
    """
    low, high = math.log10(min(values)), math.log10(max(values))
    steps = (1, 2, 5) if high - low < 2 else (1,)
    powers = range(math.floor(low) - 1, math.ceil(high) + 2)
    ticks = [step * 10.0**power for power in powers for step in steps]
    text = [f"{tick:g}" for tick in ticks]
    margin = max(0.06 * (high - low) + 0.1, (1 - (high - low)) / 2)
    limits = [low - margin, high + margin]
    return axis(title, type="log", tickmode="array", tickvals=ticks, ticktext=text, range=limits)


def bars(
    names: Sequence[str], series: Sequence[Series], kind: str, unit: str, *, stacked: bool = False
) -> Figure:
    """Return horizontal bars, the first name on top.

    Args:
        names: What each row of bars is of.
        series: The bars, one of each for each name.
        kind: What the names are.
        unit: What the lengths are.
        stacked: Bars of a row stand behind each other, not below each other.
    """
    # Rows are numbers: plotly puts bars whose names are equal on top of each other.
    rows = list(range(len(names)))
    short = [label(name) for name in fmt.distinct(names, 26)]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(one.name),
            "x": list(one.values),
            "y": rows,
            "text": list(one.texts),
            "hovertext": [label(full) for full in names],
            "hovertemplate": "%{hovertext}<br>" + label(one.name) + ": %{text}<extra></extra>",
            "textposition": "inside" if stacked else "outside",
            "cliponaxis": False,
            "marker": {"color": one.color},
        }
        for one in series
    ]
    columns = list(zip(*(one.values for one in series), strict=True))
    longest = [sum(column) if stacked else max(column) for column in columns]
    # A sixth more than the longest bar, for the number behind it.
    limit = max(longest, default=1.0) * (1 if stacked else 7 / 6) or 1.0
    ticks = {"tickmode": "array", "tickvals": rows, "ticktext": short, "autorange": "reversed"}
    layout = {
        "xaxis": axis(unit, range=[0, limit]),
        "yaxis": axis(kind, showgrid=False, zeroline=False, **ticks),
        "barmode": "stack" if stacked else "group",
        "showlegend": len(series) > 1 or stacked,
    }
    if stacked:  # plotly writes a number smaller and smaller to fit it into its bar
        layout["uniformtext"] = {"minsize": 9, "mode": "hide"}
    return {"data": data, "layout": layout}


def sizes(name: str, color: str, sizes_bytes: Sequence[int]) -> Series:
    """Return bars of bytes, in megabytes."""
    lengths = tuple(size_bytes / 1e6 for size_bytes in sizes_bytes)
    return Series(name, color, lengths, tuple(fmt.size(one) for one in sizes_bytes))


def marks(*places: tuple[float, str, str, str]) -> Figure:
    """Return named vertical lines, each a place, a name, a colour and a dash."""
    rightmost = max(x for x, _, _, _ in places)
    shapes, annotations = [], []
    for x, text, color, dash in places:
        ends = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x}
        shapes.append({**ends, "line": {"color": color, "width": 2, "dash": dash}})
        # Names stand on the outer side of their lines, so that close lines stay readable.
        side = "left" if x == rightmost else "right"
        place = {"x": x, "y": 1.02, "yref": "paper", "yanchor": "bottom", "xanchor": side}
        annotations.append({**place, "text": text, "showarrow": False})
    return {"shapes": shapes, "annotations": annotations}
