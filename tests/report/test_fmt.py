from __future__ import annotations

import math

import pytest

from onnxsqueeze.report import fmt


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (12_345_678, "12.3 MB"),
        (3_000_000_000, "3.00 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_size_has_three_digits_and_the_next_unit_in_time(size_bytes, text):
    assert fmt.size(size_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2, "0.200"),
        (-0.2, "−0.200"),
        (123456, "123000"),
        (1e9, "1.00e+09"),
        (1e-9, "1.00e-09"),
        (-1e-9, "−1.00e-09"),
        (-0.0, "0"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
        (999.9, "1000"),
    ],
)
def test_number(value, text):
    assert fmt.number(value) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.00001, "<0.01%"),
        (-0.00001, "−<0.01%"),
        (0.00999, "1.00%"),
        (0.0104, "1.0%"),
        (math.nan, "not a number"),
        (2.0, "200.0%"),
    ],
)
def test_percent(fraction, text):
    assert fmt.percent(fraction) == text


@pytest.mark.parametrize(
    ("value_ms", "text"),
    [(0.5, "500 µs"), (1.0, "1.00 ms"), (999.0, "999 ms"), (1000.0, "1.00 s")],
)
def test_milliseconds(value_ms, text):
    assert fmt.milliseconds(value_ms) == text


def test_nothing_is_called_smaller_than_an_empty_file():
    assert fmt.smaller(0, 10) == fmt.UNKNOWN
    assert fmt.smaller(10, 0) == fmt.UNKNOWN
    assert fmt.smaller(0, 0) == "same size"


def test_plain_removes_what_moves_a_cursor_or_turns_text_around():
    assert fmt.plain("a\x1b[31m\r\n\u202eb\u200b") == "a?[31m???b?"
    assert fmt.plain("größe.重み") == "größe.重み"


@pytest.mark.parametrize("width", [1, 2, 3, 9])
def test_middle_is_never_wider_than_asked(width):
    assert len(fmt.middle("abcdefghijklmnop", width)) == width
    assert fmt.middle("a", width) == "a"


def test_distinct_names_stay_apart_and_narrow():
    names = [f"backbone.stage{k}.depthwise_separable.conv.weight" for k in range(12)]

    short = fmt.distinct(names, 20)

    assert len(set(short)) == 12
    assert max(map(len, short)) <= 20


def test_equal_names_stay_equal():
    assert len(set(fmt.distinct(["x" * 50, "x" * 50], 10))) == 1
