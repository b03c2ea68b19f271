from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxsqueeze.numerics.pruning_widths import STEPS, Curve, narrowed


def total(widths: Mapping[str, int]) -> float:
    return float(sum(widths.values()))


def test_widths_are_multiples_under_the_whole() -> None:
    assert Curve(np.zeros(33), 8).widths() == [32, 24, 16, 8]
    assert Curve(np.zeros(13), 1).widths() == list(range(12, 0, -1))
    assert Curve(np.zeros(8), 8).widths() == [7]
    many = Curve(np.zeros(1537), 1).widths()
    assert len(many) <= STEPS + 1
    assert many[0] == 1536


def test_the_group_that_loses_least_for_what_it_saves_goes_first() -> None:
    curves = {"cheap": Curve(np.arange(9) * 1.0, 1), "dear": Curve(np.arange(9) * 2.0, 1)}
    assert narrowed(curves, total, [0.75]) == [{"cheap": 4, "dear": 8}]
    # Where the dear one saves three times as much, it is the cheap one.
    weighed = narrowed(curves, lambda w: w["cheap"] + 3.0 * w["dear"], [0.75])
    assert weighed[0]["cheap"] == 8
    assert weighed[0]["dear"] < 8


def test_a_hump_in_a_curve_is_passed_over() -> None:
    hump = np.array([0.0, 4.0, 4.0, 4.0, 4.0])  # the first unit costs as much as all four
    plain = np.array([0.0, 2.0, 4.0, 6.0, 8.0])
    curves = {"hump": Curve(hump, 1), "plain": Curve(plain, 1)}
    assert narrowed(curves, total, [5 / 8]) == [{"hump": 1, "plain": 4}]


def test_goals_go_on_from_each_other_and_end_at_the_narrowest() -> None:
    curves = {"a": Curve(np.arange(5.0), 1), "b": Curve(np.arange(5.0), 1)}
    found = narrowed(curves, total, [1.0, 0.5, 0.01])
    assert found[0] == {"a": 4, "b": 4}
    assert total(found[1]) <= 4
    assert found[2] == {"a": 1, "b": 1}


def test_what_saves_nothing_stays_whole() -> None:
    curves = {"a": Curve(np.zeros(5), 1)}
    assert narrowed(curves, lambda _: 1.0, [0.5]) == [{"a": 4}]
