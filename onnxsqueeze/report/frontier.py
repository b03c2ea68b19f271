"""Several results of one model, for several budgets: the record, its chart and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from onnxsqueeze.errors import SqueezeError
from onnxsqueeze.facts.records import Interval
from onnxsqueeze.report import fmt
from onnxsqueeze.report.figures import Chart, Figure, axis, log_axis
from onnxsqueeze.report.files import save_text
from onnxsqueeze.report.html import assets, template
from onnxsqueeze.report.types import Data

JSON = "frontier.json"
PAGE = "frontier.html"


class FrontierPoint(Data):
    """One budget and the file that was made for it.

    Attributes:
        max_drop: The budget.
        output: The file; where the budget was not met, the original, cleaned up.
        sha256: Its fingerprint.
        is_met: Whether something was compressed within the budget.
        size_bytes: Its size.
        metric: What the drop is of.
        drop: What was lost, measured on held-out samples.
        speedup: Original's time over its time; None where it was not measured.
        speed: What the speedup's interval says.
        seconds: Wall time that making it took, with what was known from earlier points.
        report: Folder of its own report.
    """

    max_drop: float
    output: str
    sha256: str
    is_met: bool
    size_bytes: int
    metric: str
    drop: Interval
    speedup: Interval | None
    speed: Literal["faster", "same", "slower"] | None
    seconds: float
    report: str


class Frontier(Data):
    """All points that are done, the tightest budget first.

    Attributes:
        key: Fingerprint of model, samples, settings, versions and machine: points are taken over
            only where it is equal.
        wanted: All budgets that were asked for.
    """

    schema_number: Literal[1] = 1
    version: str
    key: str
    command: str
    original: str
    original_bytes: int
    wanted: tuple[float, ...]
    points: tuple[FrontierPoint, ...] = ()

    @property
    def met(self) -> tuple[FrontierPoint, ...]:
        """The points whose budget was met."""
        return tuple(point for point in self.points if point.is_met)

    def better_than(self, point: FrontierPoint) -> FrontierPoint | None:
        """Return a point that is as small and loses no more, and is better in one; or None."""
        for other in self.met:
            no_worse = other.size_bytes <= point.size_bytes and other.drop.high <= point.drop.high
            if no_worse and (
                other.size_bytes < point.size_bytes or other.drop.high < point.drop.high
            ):
                return other
        return None


def load(path: Path) -> Frontier | None:
    """Return the frontier that was written before; None if there is none.

    Raises:
        SqueezeError: If the file is malformed.
    """
    try:
        return Frontier.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise SqueezeError(
            f"{path} is not a valid frontier\n  Remove it, or name another folder: --run FOLDER"
        ) from error


def save(frontier: Frontier, folder: Path) -> None:
    """Write ``frontier.json`` and ``frontier.html``, each moved into place when complete.

    Raises:
        OutputError: If one cannot be written.
    """
    save_text(frontier.model_dump_json(indent=1) + "\n", folder / JSON)
    save_text(render(frontier), folder / PAGE)


def render(frontier: Frontier) -> str:
    """Return the frontier as one HTML page that needs no network; its text is escaped."""
    shown = charts(frontier)
    return template("frontier.html.j2").render(
        frontier=frontier, fmt=fmt, charts=shown, headline=headline(frontier), **assets(shown)
    )


def headline(frontier: Frontier) -> str:
    """Return what the frontier holds, in a sentence."""
    done, wanted = len(frontier.points), len(frontier.wanted)
    count = fmt.plural(wanted, "budget") if done == wanted else f"{done} of {wanted} budgets"
    met = frontier.met
    name = Path(frontier.original).name
    if not met:
        return f"{name}: {count}, none met"
    smallest = min(met, key=lambda point: point.size_bytes)
    most = fmt.smaller(frontier.original_bytes, smallest.size_bytes)
    lost = fmt.percent(smallest.drop.value)
    return f"{name}: {count}, up to {most} for {lost} lost"


def charts(frontier: Frontier) -> tuple[Chart, ...]:
    """Return the chart of size against what is lost; none without a point."""
    if not frontier.points:
        return ()
    met = frontier.met
    others = tuple(point for point in frontier.points if not point.is_met)
    data = [_points(frontier, "met", "--blue", "lines+markers", met)] if met else []
    if others:
        data.append(_points(frontier, "not met", "--red", "markers", others))
    sizes = [frontier.original_bytes / 1e6, *(one.size_bytes / 1e6 for one in frontier.points)]
    original: Figure = {
        "type": "scatter",
        "mode": "markers",
        "name": "original",
        "x": [frontier.original_bytes / 1e6],
        "y": [0.0],
        "hovertemplate": f"original: {fmt.size(frontier.original_bytes)}<extra></extra>",
        "marker": {"color": "--muted", "size": 11, "symbol": "square"},
    }
    layout = {
        "xaxis": log_axis("size (MB)", sizes),
        "yaxis": axis("lost (%)", zeroline=True),
        "showlegend": True,
    }
    figure = {"data": [*data, original], "layout": layout}
    note = "Low and left is best. Bars are the drop's 95% interval; its upper end keeps to the \
budget beside the point."
    return (Chart("frontier", "Size against what is lost", note, 440, figure),)


def _points(
    frontier: Frontier, name: str, color: str, mode: str, points: tuple[FrontierPoint, ...]
) -> Figure:
    drops = [point.drop for point in points]
    smaller = [fmt.smaller(frontier.original_bytes, point.size_bytes) for point in points]
    return {
        "type": "scatter",
        "mode": f"{mode}+text",
        "cliponaxis": False,
        "name": name,
        "x": [point.size_bytes / 1e6 for point in points],
        "y": [100 * drop.value for drop in drops],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [100 * (drop.high - drop.value) for drop in drops],
            "arrayminus": [100 * (drop.value - drop.low) for drop in drops],
            "color": color,
            "thickness": 1.2,
        },
        "text": [fmt.percent(point.max_drop) for point in points],
        # Neighbours are often close to each other.
        "textposition": ["top right" if k % 2 else "bottom left" for k in range(len(points))],
        "hovertext": [
            f"budget {fmt.percent(point.max_drop)}: {words}, {fmt.percent_interval(point.drop)}"
            for point, words in zip(points, smaller, strict=True)
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"color": color, "size": 10},
        "line": {"color": color, "width": 2},
    }
