"""Two reports side by side: figures and decisions that differ."""

from __future__ import annotations

from onnxsqueeze.report.diff import Figure, diff
from tests.report import fixture


def test_equal_reports_differ_in_nothing_whenever_and_however_they_were_made():
    later = fixture.full().model_copy(update={"created": "2027", "seconds": {}, "command": "x"})
    found = diff(fixture.full(), later)

    assert found.is_empty
    assert found.same == len(fixture.weights())


def test_figures_that_differ_are_told_in_words():
    result = fixture.summary("small.onnx", 5_428_979)
    found = diff(fixture.compress(), fixture.compress(max_drop=0.02, result=result))

    assert Figure("budget", "1.0%", "2.0%") in found.figures
    assert Figure("smaller", "3.89× smaller", "2.00× smaller") in found.figures
    assert Figure("result's size", "2.79 MB", "5.43 MB") in found.figures
    assert not [one for one in found.figures if one.name.startswith("original")]
    assert found.decisions == ()


def test_weights_that_were_decided_otherwise_are_told_with_both_reasons():
    rows = fixture.weights()
    other = rows[0].model_copy(update={"form": "float16", "bits": 16, "reason": "half is enough"})
    found = diff(fixture.compress(), fixture.compress(weights=(other, *rows[1:-1])))

    changed, gone = found.decisions
    assert (changed.before, changed.after) == ("stored as 8-bit integers", "stored as float16")
    assert changed.reason_after == "half is enough"
    assert (gone.weight, gone.after, gone.bytes_after) == (rows[-1].name, None, None)
    assert found.same == len(rows) - 2


def test_widths_and_missing_validation_are_figures():
    found = diff(fixture.full(), fixture.inspect())

    assert Figure("width of stem.channels", "24 of 32", "") in found.figures
    assert any(one.name.startswith("speed (cpu") and not one.after for one in found.figures)
