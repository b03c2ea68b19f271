"""Rows of a report put together by what they share, for both views."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from onnxsqueeze.report import fmt
from onnxsqueeze.report.types import LeftAlone, Report, WeightRow


@dataclass(frozen=True)
class FormGroup:
    """All weights that were given the same form.

    Attributes:
        form: The form in words.
        count: Number of weights.
        bytes_before: Their bytes in the original.
        bytes_after: Their bytes in the result.
        reasons: Reasons given, most frequent first, with how often.
    """

    form: str
    count: int
    bytes_before: int
    bytes_after: int
    reasons: tuple[tuple[str, int], ...]


def by_form(weights: Iterable[WeightRow]) -> tuple[FormGroup, ...]:
    """Return the weights by form, most bytes first."""
    members: defaultdict[str, list[WeightRow]] = defaultdict(list)
    for row in weights:
        members[fmt.form(row.form, row.bits)].append(row)
    groups = [
        FormGroup(
            form,
            len(rows),
            sum(row.bytes_before for row in rows),
            sum(row.bytes_after for row in rows),
            counted(row.reason for row in rows),
        )
        for form, rows in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: -group.bytes_before))


def by_reason(left_alone: Iterable[LeftAlone]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return what was left alone by reason, the reason with most subjects first."""
    subjects: defaultdict[str, list[str]] = defaultdict(list)
    for row in left_alone:
        subjects[row.reason].append(row.subject)
    ordered = sorted(subjects.items(), key=lambda item: -len(item[1]))
    return tuple((reason, tuple(names)) for reason, names in ordered)


def by_damage(report: Report, limit: int) -> tuple[WeightRow, ...]:
    """Return the rows with most measured damage; the largest where none was measured."""
    measured = [row for row in report.weights if row.damage is not None]
    if measured:
        return tuple(sorted(measured, key=lambda row: -(row.damage or 0.0))[:limit])
    return by_size(report, limit)


def by_size(report: Report, limit: int) -> tuple[WeightRow, ...]:
    """Return the rows with most bytes in the original."""
    return tuple(sorted(report.weights, key=lambda row: -row.bytes_before)[:limit])


def counted(reasons: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Return each reason once with how often it is given, the most frequent first."""
    counts: defaultdict[str, int] = defaultdict(int)
    for reason in reasons:
        counts[reason] += 1
    return tuple(sorted(counts.items(), key=lambda item: -item[1]))
