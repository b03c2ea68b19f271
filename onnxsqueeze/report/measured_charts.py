"""Charts of what was measured of the two files: speed, operators' times, providers' nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from onnxsqueeze.facts.records import Latency, Placed, Placement
from onnxsqueeze.report import fmt
from onnxsqueeze.report.figures import COLORS, Chart, Series, axis, bars, label, marks
from onnxsqueeze.report.types import Report

_OPERATORS = 12


def measured_charts(report: Report) -> Iterator[Chart]:
    """Yield charts of speed, of operators' times and of nodes by provider, where measured."""
    if report.validation is None:
        return
    for k, latency in enumerate(report.validation.latency):
        if (chart := _speed(latency, k)) is not None:
            yield chart
    for k, placed in enumerate(report.validation.placements):
        if (chart := _operators(placed, k)) is not None:
            yield chart
    yield from _placements(report.validation.placements)


def _speed(latency: Latency, k: int) -> Chart | None:
    pairs = zip(latency.original_ms, latency.result_ms, strict=False)
    ratios = [original / result for original, result in pairs if result > 0]
    if not ratios:
        return None
    median = latency.speedup.value
    counted = {
        "type": "histogram",
        "x": ratios,
        "nbinsx": 30,
        "marker": {"color": "--blue"},
        "hovertemplate": "%{x}: %{y} pairs<extra></extra>",
    }
    layout = {
        "xaxis": axis("original time / result time (over 1 is faster)"),
        "yaxis": axis("number of pairs"),
        "showlegend": False,
        **marks((1.0, "no difference", "--muted", "dash"), (median, "median", "--text", "solid")),
    }
    setting = f"{latency.provider}, {fmt.plural(latency.threads, 'thread')}"
    title = label(f"Speed in {len(ratios)} interleaved pairs of runs ({setting})")
    note = f"Median {fmt.times_interval(latency.speedup)}; thread CPU time."
    return Chart(f"speed{k}", title, note, 320, {"data": [counted], "layout": layout})


def _operators(placed: Placed, k: int) -> Chart | None:
    """Return the time of a run by kernel, of both files; the kernels that take most."""
    before, after = _times(placed.original), _times(placed.result)
    total: Counter[str] = before + after
    names = [name for name, _ in total.most_common(_OPERATORS)]
    if not names:
        return None
    pairs = [("original", "--muted", before), ("result", "--blue", after)]
    series = [_milliseconds(name, color, [ms[one] for one in names]) for name, color, ms in pairs]
    figure = bars(names, series, "kernel", "time of one run (ms)")
    left = len(total) - len(names)
    note = (
        f"All kernels: {fmt.milliseconds(sum(before.values()))} became "
        f"{fmt.milliseconds(sum(after.values()))}, by ONNX Runtime's own profile of one run, "
        "which disturbs small kernels; speed above is measured without it."
    )
    note += f" {fmt.plural(left, 'smaller kernel')} not shown." if left else ""
    title = f"Time by kernel, before and after ({placed.provider})"
    return Chart(f"operators{k}", fmt.plain(title), note, 130 + 44 * len(names), figure)


def _times(placement: Placement) -> Counter[str]:
    found: Counter[str] = Counter()
    for times in placement.milliseconds.values():
        found.update(times)
    return found


def _milliseconds(name: str, color: str, times_ms: list[float]) -> Series:
    return Series(name, color, tuple(times_ms), tuple(fmt.milliseconds(one) for one in times_ms))


def _placements(placements: tuple[Placed, ...]) -> Iterator[Chart]:
    """Yield the nodes of both files by the provider that was given them."""
    rows = [
        (f"{kind}, {placed.provider} asked for", placement)
        for placed in placements
        for kind, placement in (("original", placed.original), ("result", placed.result))
        if placement.providers
    ]
    if not rows:
        return
    providers = dict.fromkeys(name for _, placement in rows for name in placement.providers)
    series = []
    for k, provider in enumerate(providers):
        nodes = [sum(placement.providers.get(provider, {}).values()) for _, placement in rows]
        shares = [placement.time_shares.get(provider) for _, placement in rows]
        texts = tuple(
            "" if not count else str(count) if share is None else _share(count, share)
            for count, share in zip(nodes, shares, strict=True)
        )
        color = COLORS[k % len(COLORS)]
        series.append(Series(provider, color, tuple(float(count) for count in nodes), texts))
    names = [name for name, _ in rows]
    figure = bars(names, series, "file", "nodes of the optimized graph", stacked=True)
    note = "Nodes as ONNX Runtime assigned them, with the part of the run's time where profiled."
    yield Chart("placement", "Which provider runs what", note, 150 + 44 * len(rows), figure)


def _share(count: int, share: float) -> str:
    return f"{count} ({fmt.percent(share)} of the time)"
