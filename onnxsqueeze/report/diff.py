"""What differs between two reports: figures, decisions per weight, and settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnxsqueeze.report import fmt
from onnxsqueeze.report.types import ModelSummary, Report, WeightRow


@dataclass(frozen=True)
class Figure:
    """One figure or setting of both reports, in words; empty where one has none."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Decision:
    """What became of one weight in both; None where one of them does not have it."""

    weight: str
    before: str | None
    after: str | None
    bytes_before: int | None
    bytes_after: int | None
    sqnr_db_before: float | None
    sqnr_db_after: float | None
    reason_before: str
    reason_after: str


@dataclass(frozen=True)
class ReportDiff:
    """All that differs; ``same`` weights were decided alike, and take as many bytes."""

    figures: tuple[Figure, ...]
    decisions: tuple[Decision, ...]
    same: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.figures or self.decisions)


def diff(before: Report, after: Report) -> ReportDiff:
    """Return what differs between two reports, but for times of making them and file names."""
    old, new = dict(_figures(before)), dict(_figures(after))
    names = dict.fromkeys([*old, *new])
    figures = tuple(Figure(name, old.get(name, ""), new.get(name, "")) for name in names)
    rows = {row.name: row for row in before.weights}, {row.name: row for row in after.weights}
    weights = dict.fromkeys([*rows[0], *rows[1]])
    decisions = tuple(_decision(name, *rows) for name in weights if _differs(name, *rows))
    return ReportDiff(
        figures=tuple(figure for figure in figures if figure.before != figure.after),
        decisions=decisions,
        same=len(weights) - len(decisions),
    )


def _figures(report: Report) -> Iterator[tuple[str, str]]:
    yield "verdict", report.verdict
    yield "onnxsqueeze", report.version
    if report.max_drop is not None:
        yield "budget", fmt.percent(report.max_drop)
    yield "metric", report.metric or ""
    yield from _model("original", report.original)
    if report.result is not None:
        yield from _model("result", report.result)
        yield "smaller", fmt.smaller(report.original.size_bytes, report.result.size_bytes)
    yield "samples", f"{report.calibration_samples} and {report.evaluation_samples}"
    if report.validation is not None:
        for fidelity in report.validation.fidelity:
            place = f"{fidelity.provider}, optimization {fidelity.optimization}"
            yield f"drop ({place})", fmt.percent_interval(fidelity.drop)
            for name, ratio in fidelity.sqnr_db.items():
                yield f"SQNR of {name} ({place})", fmt.decibel(ratio)
        for latency in report.validation.latency:
            speed = f"{latency.verdict}, {fmt.times_interval(latency.speedup)}"
            yield f"speed ({latency.provider}, {fmt.plural(latency.threads, 'thread')})", speed
    for row in report.widths:
        yield f"width of {row.name}", f"{row.kept} of {row.count}"
    if report.machine is not None:
        yield "machine", report.machine.processor
        for name, version in report.machine.versions.items():
            yield name, version


def _model(which: str, model: ModelSummary) -> Iterator[tuple[str, str]]:
    yield f"{which}'s SHA-256", model.sha256[:12]
    yield f"{which}'s size", fmt.size(model.size_bytes)
    yield f"{which}'s nodes", str(model.nodes)
    yield f"{which}'s opset", str(model.opset)


def _differs(name: str, old: Mapping[str, WeightRow], new: Mapping[str, WeightRow]) -> bool:
    a, b = old.get(name), new.get(name)
    if a is None or b is None:
        return True
    return (a.form, a.bits, a.bytes_after) != (b.form, b.bits, b.bytes_after)


def _decision(name: str, old: Mapping[str, WeightRow], new: Mapping[str, WeightRow]) -> Decision:
    a, b = old.get(name), new.get(name)
    return Decision(
        weight=name,
        before=None if a is None else fmt.form(a.form, a.bits),
        after=None if b is None else fmt.form(b.form, b.bits),
        bytes_before=None if a is None else a.bytes_after,
        bytes_after=None if b is None else b.bytes_after,
        sqnr_db_before=None if a is None else a.sqnr_db,
        sqnr_db_after=None if b is None else b.sqnr_db,
        reason_before="" if a is None else a.reason,
        reason_after="" if b is None else b.reason,
    )
