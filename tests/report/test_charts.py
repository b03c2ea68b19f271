from __future__ import annotations

import re

import pytest

from onnxsqueeze.report.charts import charts, ranges, spreads
from onnxsqueeze.report.figures import log_axis
from tests.report import fixture


def drawn(report):
    return {chart.id: chart for chart in charts(report)}


def test_compress_has_every_chart():
    found = drawn(fixture.compress())

    assert list(found) == ["causes", "tradeoff", "damage", "layers", "speed0"]
    assert len(spreads(fixture.compress())) == 6


def test_inspect_has_one_series_and_no_speed():
    found = drawn(fixture.inspect())

    assert list(found) == ["causes", "damage", "layers"]
    assert [len(found[name].figure["data"]) for name in ("causes", "layers")] == [1, 1]


def test_bare_report_has_no_charts():
    assert charts(fixture.bare()) == ()
    assert spreads(fixture.bare()) == ()


def test_every_chart_has_a_title_and_named_axes():
    report = fixture.full()
    for chart in (*charts(report), *spreads(report), *ranges(report)):
        assert chart.title
        for axis in ("xaxis", "yaxis"):
            assert chart.figure["layout"][axis]["title"]["text"]


def test_bytes_by_cause_are_the_reports_in_megabytes():
    original, result = drawn(fixture.compress())["causes"].figure["data"]

    assert original["x"] == [6.60712, 4.1016, 0.053068, 0.09617]
    assert result["x"] == [1.65178, 1.0254, 0.013267, 0.099667]


def test_cause_that_only_the_result_has_is_shown():
    report = fixture.compress(
        result=fixture.summary("small.onnx", 100, bytes_by_cause={"new": 2_000_000})
    )
    figure = drawn(report)["causes"].figure

    assert figure["layout"]["yaxis"]["ticktext"][-1] == "new"
    assert [series["x"][-1] for series in figure["data"]] == [0.0, 2.0]


def test_damage_leaves_out_what_a_logarithm_cannot_show_and_says_so():
    rows = fixture.weights(4)
    rows = (rows[0].model_copy(update={"damage": 0.0}), *rows[1:])
    chart = drawn(fixture.compress(weights=rows))["damage"]

    assert sum(len(series["x"]) for series in chart.figure["data"]) == 3
    assert "1 weight, of no or infinite damage, not shown" in chart.note


@pytest.mark.parametrize("damage", [None, 0.0, float("inf"), float("nan")])
def test_no_damage_no_chart(damage):
    rows = tuple(row.model_copy(update={"damage": damage}) for row in fixture.weights(3))

    assert "damage" not in drawn(fixture.compress(weights=rows))


def test_one_point_still_has_an_axis():
    low, high = drawn(fixture.compress(weights=fixture.weights(1)))["damage"].figure["layout"][
        "xaxis"
    ]["range"]

    assert low < high


def test_speed_shows_the_paired_ratios():
    latency = fixture.validation().latency[0]
    chart = drawn(fixture.compress())["speed0"]
    expected = [a / b for a, b in zip(latency.original_ms, latency.result_ms, strict=True)]

    assert chart.figure["data"][0]["x"] == expected
    assert "60 interleaved pairs of runs (cpu, 1 thread)" in chart.title
    notes = chart.figure["layout"]["annotations"]
    assert [(note["x"], note["text"], note["xanchor"]) for note in notes] == [
        (1.0, "no difference", "right"),
        (1.184, "median", "left"),
    ]


def test_spreads_are_of_the_largest_first():
    assert "1.40 MB" in spreads(fixture.compress())[0].note
    figure = spreads(fixture.compress())[0].figure
    names = [series["name"] for series in figure["data"]]
    assert [re.sub(r", off by .*%", "", name) for name in names] == [
        "values",
        "normal",
        "laplace",
        "kernel",
    ]


def test_names_are_no_markup_for_plotly():
    row = fixture.weights(1)[0].model_copy(update={"name": "<a href='x'>&w</a>"})
    figure = drawn(fixture.compress(weights=(row,)))["layers"].figure

    assert figure["data"][0]["hovertext"] == ["&lt;a href='x'&gt;&amp;w&lt;/a&gt;"]


def test_full_report_has_charts_of_widths_kernels_and_providers():
    found = drawn(fixture.full())

    assert [name for name in found if name not in drawn(fixture.compress())] == [
        "widths",
        "operators0",
        "placement",
    ]


def test_kept_widths_stand_beside_the_original_ones_those_that_lost_most_first():
    before, kept = drawn(fixture.full())["widths"].figure["data"]

    assert (before["x"], kept["x"]) == ([256.0, 32.0], [96.0, 24.0])


def test_charts_of_many_weights_are_no_higher_than_a_screen():
    report = fixture.sized(1000)
    found = [*charts(report), *spreads(report), *ranges(report)]

    assert len(found) == len([*drawn(fixture.full())]) + 6 + 6
    assert max(chart.height for chart in found) <= 1000
    assert drawn(report)["widths"].note == "The 20 that lost most; 980 more are in the table."


@pytest.mark.parametrize("values", [[3.0], [1.3e-7, 1.4e-7], [0.6, 0.9], [1e-5, 30.0]])
def test_logarithmic_axis_has_marks_around_all_values(values):
    found = log_axis("a test", values)
    low, high = (10**end for end in found["range"])

    assert low < min(values) <= max(values) < high
    assert any(low <= tick <= high for tick in found["tickvals"])


def test_kernels_are_of_both_files_the_slowest_first_over_all_providers():
    chart = drawn(fixture.full())["operators0"]
    before, after = chart.figure["data"]

    assert chart.figure["layout"]["yaxis"]["ticktext"] == ["Conv", "QLinearConv", "Softmax"]
    assert (before["x"], after["x"]) == ([11.0, 0, 0.5], [5.75, 2.0, 0.25])
    assert "All kernels: 11.5 ms became 8.00 ms" in chart.note


def test_placement_counts_nodes_by_provider_with_their_share_of_time():
    cpu, gpu = drawn(fixture.full())["placement"].figure["data"]

    assert (cpu["name"], cpu["x"]) == ("CPUExecutionProvider", [39.0, 10.0])
    assert cpu["text"] == ["39 (100% of the time)", "10 (25.0% of the time)"]
    assert (gpu["name"], gpu["x"]) == ("CUDAExecutionProvider", [0.0, 29.0])
    assert gpu["text"] == ["", "29 (75.0% of the time)"]


def test_chosen_range_is_marked_in_the_activations_values():
    (chart,) = ranges(fixture.full())

    assert [shape["x0"] for shape in chart.figure["layout"]["shapes"]] == [-1.5, 6.25]
    assert [one["name"].split(",")[0] for one in chart.figure["data"]] == [
        "values",
        "normal",
        "laplace",
        "kernel",
    ]
    assert ranges(fixture.compress()) == ()


def test_tradeoff_says_what_was_measured_in_the_end():
    chart = drawn(fixture.compress())["tradeoff"]

    assert [one["name"] for one in chart.figure["data"]] == ["best choice of widths", "chosen"]
    assert "0.23% (0.05% to 0.48%) lost" in chart.note
