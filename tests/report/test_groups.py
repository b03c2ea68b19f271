from __future__ import annotations

from onnxsqueeze.report.groups import by_damage, by_form, by_reason, by_size
from onnxsqueeze.report.types import LeftAlone
from tests.report import fixture


def test_forms_add_up_to_all_weights_most_bytes_first():
    rows = fixture.weights()

    groups = by_form(rows)

    assert sum(group.count for group in groups) == len(rows)
    assert sum(group.bytes_after for group in groups) == sum(row.bytes_after for row in rows)
    before = [group.bytes_before for group in groups]
    assert before == sorted(before, reverse=True)


def test_reasons_are_counted_most_frequent_first():
    rows = fixture.weights(3)
    rows = [row.model_copy(update={"form": "float", "bits": 32}) for row in rows]
    rows = [
        row.model_copy(update={"reason": "rare" if k == 0 else "often"})
        for k, row in enumerate(rows)
    ]

    assert by_form(rows)[0].reasons == (("often", 2), ("rare", 1))


def test_left_alone_by_reason():
    rows = [LeftAlone(subject=name, reason=reason) for name, reason in ("ax", "by", "cy")]

    assert by_reason(rows) == (("y", ("b", "c")), ("x", ("a",)))


def test_damage_decides_the_order_where_it_was_measured():
    report = fixture.compress()

    damages = [row.damage for row in by_damage(report, 5)]

    assert (
        damages == sorted((row.damage for row in report.weights if row.damage), reverse=True)[:5]
    )


def test_size_decides_where_no_damage_was_measured():
    report = fixture.compress()
    blind = tuple(row.model_copy(update={"damage": None}) for row in reversed(report.weights))
    report = report.model_copy(update={"weights": blind})

    assert by_damage(report, 3) == by_size(report, 3)
    assert by_size(report, 1)[0].bytes_before == 1_400_000
