from __future__ import annotations

import io

import pytest
from rich.console import Console

from onnxsqueeze.facts.records import Interval
from onnxsqueeze.report.terminal import render
from onnxsqueeze.report.types import LeftAlone
from tests.report import fixture


def shown(report, width=80, **options):
    stream = io.StringIO()
    Console(file=stream, width=width, **options).print(render(report))
    return stream.getvalue()


def words(text):
    return " ".join(text.split())


def test_every_headline_number_of_compress_appears():
    text = words(shown(fixture.compress()))

    for expected in (
        "3.89× smaller and 1.18× faster, top1 lost 0.23% of an allowed 1%",
        "10.9 MB to 2.79 MB, 3.89× smaller",
        "met (at most 1.0% of top1 lost)",
        "top1 0.9812 to 0.9789, drop 0.23% (0.05% to 0.48%), budget 1.0%, 512 samples",
        "faster, 1.18× (1.17× to 1.20×), 1 thread, 60 pairs",
        "48.6 ms to 61.2 ms",
        "CPUExecutionProvider: 47 nodes",
        "1.23 billion multiply-adds",
        "2.69 million",
        "71.9 s",
        "stored as 8-bit integers 5 1.91 MB 479 kB",
        "2 LSTM has no integer kernel /lstm/LSTM",
        "qdq 5 4 backbone.stem.conv",
        "small.squeeze/report.html",
        "no saving left under the budget: head.weight would lose 2.1%",
        "AMD EPYC 7B12, 2 cores",
    ):
        assert expected in text


def test_most_damaging_weights_come_first_and_only_twelve():
    text = shown(fixture.compress())
    section = text[text.index("Most sensitive weights") : text.index("Left alone")]

    rows = [line for line in section.splitlines() if "backbone" in line]

    assert len(rows) == 12
    assert rows[0].split()[-1] == "0.21"


def test_inspect_shows_where_the_bytes_are():
    text = words(shown(fixture.inspect()))

    assert "Conv weights 6.61 MB 60.9%" in text
    assert "38 Conv, 107 Mul" in text
    assert "Largest weights" in text
    assert "1.40 MB 0% normal" in text
    assert "What was done" not in text
    assert "budget" not in text


def test_validate_shows_measurements_without_decisions():
    report = fixture.compress(kind="validate", weights=(), left_alone=(), changes=(), files={})

    text = shown(report)

    assert "1.17× to 1.20×" in text
    assert "weights are" not in text
    assert "Files" not in text


def test_bare_report_is_headline_and_figures():
    text = shown(fixture.bare())

    assert len(text.splitlines()) == 5
    assert "0 nodes, opset 21" in text


@pytest.mark.parametrize("make", [fixture.compress, fixture.inspect, fixture.bare])
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(make, width):
    assert max(len(line) for line in shown(make(), width).splitlines()) <= width


def test_pipe_gets_no_escape_sequences_and_a_terminal_gets_colour():
    assert "\x1b" not in shown(fixture.compress())
    assert "\x1b" in shown(fixture.compress(), force_terminal=True, color_system="standard")


def test_markup_and_control_characters_in_names_are_text():
    name = "[red]w[/red]\x1b[2J"
    weights = tuple(
        row.model_copy(update={"name": name, "operator": name}) for row in fixture.weights(1)
    )
    report = fixture.compress(
        weights=weights,
        left_alone=(LeftAlone(subject=name, reason=name),),
        headline=name,
        notes=(name,),
        files={name: name},
        original=fixture.summary(name),
    )

    text = shown(report, width=200)

    assert "\x1b" not in text
    assert text.count("[red]w[/red]?[2J") == 9


def test_worse_is_not_called_better():
    validation = fixture.validation()
    slow = validation.latency[0].model_copy(
        update={"speedup": Interval(value=0.8, low=0.7, high=0.9), "verdict": "slower"}
    )
    report = fixture.compress(
        result=fixture.summary("small.onnx", 11_400_856),
        validation=validation.model_copy(update={"latency": (slow,)}),
        verdict="not met",
        headline="nothing gained",
    )

    text = words(shown(report))

    assert "10.9 MB to 11.4 MB, 1.05× larger" in text
    assert "slower, 0.80× (0.70× to 0.90×)" in text
    assert "not met (at most" in text


def test_metric_is_told_once_unless_the_graph_as_written_differs():
    validation = fixture.validation()
    default = validation.fidelity[0]
    same = default.model_copy(update={"optimization": "off"})
    apart = same.model_copy(update={"drop": Interval(value=0.2, low=0.1, high=0.3)})

    def told(*fidelity):
        changed = validation.model_copy(update={"fidelity": fidelity})
        return words(shown(fixture.compress(validation=changed)))

    assert told(default, same).count("metric, cpu") == 1
    assert "as written" not in told(default, same)
    assert "as written drop 20.0% with graph optimization off" in told(default, apart)


@pytest.mark.parametrize("name", ["w", fixture.LONG])
def test_a_thousand_weights_are_told_on_a_few_screens(name):
    text = shown(fixture.sized(1000, name))

    assert len(text.splitlines()) < 200
    assert max(map(len, text.splitlines())) <= 80
    assert "988 988 more reasons see the report" in words(text)
    assert "axes scaled before rounding 1000" in words(text)
