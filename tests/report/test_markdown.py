"""The Markdown is short, tells the figures, and shows names as they are."""

from __future__ import annotations

import re

from onnxsqueeze.report.markdown import escaped, render
from onnxsqueeze.report.types import LeftAlone
from tests.report import fixture


def plain(text):
    """Markdown as a reader sees it, without backslashes before special characters."""
    return re.sub(r"\\([^\w\s])", r"\1", text)


def test_headline_verdict_and_figures_are_there():
    lines = plain(render(fixture.full())).splitlines()

    assert lines[0] == "### 3.89× smaller and 1.18× faster, top1 lost 0.23% of an allowed 1%"
    assert "**budget met**" in lines
    for expected in (
        "| size | 10.9 MB | 2.79 MB, 3.89× smaller |",
        "| top1, cpu | 0.9812 | 0.9789: 0.23% (0.05% to 0.48%) lost, 1.0% allowed |",
        "| speed, cpu, 1 thread |  | faster, 1.18× (1.17× to 1.20×) |",
        "| most memory, cpu | 90.0 MB | 90.0 MB |",
        "| stored as 8-bit integers | 5 | 1.91 MB | 479 kB |",
        "- 2 left alone: LSTM has no integer kernel",
    ):
        assert expected in lines
    assert len(lines) < 40
    assert "`onnxsqueeze compress model.onnx --data" in lines[-1]


def test_every_verdict_has_its_words():
    assert "**budget not met**" in render(fixture.compress(verdict="not met"))
    assert "**nothing gained**" in render(fixture.compress(verdict="unchanged"))


def test_inspect_and_bare_reports_are_tables_of_one_row():
    for make in (fixture.inspect, fixture.bare):
        assert "| size | 10.9 MB |  |" in plain(render(make())).splitlines()


def test_hostile_names_become_neither_markup_nor_html():
    bad = f"{fixture.HOSTILE} | [x](javascript:y) **b** `c` @all #1 <!-- -->\n# h"
    report = fixture.compress(
        headline=bad, notes=(bad,), left_alone=(LeftAlone(subject=bad, reason=bad),), command=bad
    )
    text = render(report)

    outside = re.sub(r"``.*``", "", text)  # code shows everything as it is
    for special in "<>[]|*`@#":
        found = [line for line in outside.splitlines() if not line.startswith("|")]
        bare = re.sub(r"\\.", "", "\n".join(found))
        bare = re.sub(r"^### |^\*\*.*\*\*$", "", bare, flags=re.M)
        assert special not in bare
    assert "\n# h" not in text
    assert escaped(bad) in text


def test_table_rows_keep_their_cells():
    report = fixture.compress(
        validation=fixture.validation(
            fidelity=(fixture.validation().fidelity[0].model_copy(update={"metric": "a|b"}),)
        )
    )
    rows = [line for line in render(report).splitlines() if line.startswith("| a")]

    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [4]
