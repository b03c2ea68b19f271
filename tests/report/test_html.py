from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from onnxsqueeze.facts.records import Change, Interval
from onnxsqueeze.report.html import render
from onnxsqueeze.report.types import LeftAlone
from tests.report import fixture

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """What a browser would see: elements with attributes, visible text and scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self.words.append(data)


def page(report):
    return Page(render(report))


def test_every_number_of_compress_appears():
    text = page(fixture.compress()).text

    for expected in (
        "3.89× smaller and 1.18× faster, top1 lost 0.23% of an allowed 1%",
        "budget met",
        "10,857,958 to 2,790,114 bytes",
        "1.18× (1.17× to 1.20×), 95% interval",
        "0.05% to 0.48% lost, 95% interval, 1.0% allowed",
        "0.9812 to 0.9789, cpu, 512 samples",
        "planned with 256 samples, measured on 512",
        "5 weights are stored as 8-bit integers: 1.91 MB became 479 kB.",
        "5 weights are left as float: 738 kB.",
        "Step “fold batch norm”: 1 done.",
        "Step “clean up”: 1 undone after a failed check.",
        "LSTM has no integer kernel (2 times)",
        "logits: 31.7 dB, features: exact",
        "Loading takes 48.6 ms for the original, 61.2 ms for the result.",
        "12.3 ms",
        "28 Conv, 10 QLinearConv, 9 MatMul",
        "backbone.stem.conv",
        "−1.625",
        "1,234,567,890 a run",
        "3f2a91",
        "AMD EPYC 7B12, 2 cores, 8.00 GB of memory, Linux 6.1",
        "avx2, fma",
        "calib.npz, sha256 77aa01",
        "71.9 s: load 1.25 s, measure 14.5 s",
        "small.squeeze/report.html",
        "no saving left under the budget",
        'pip install "onnxsqueeze==0.1.0" "onnxruntime==1.32.0"',
        "onnxsqueeze compress model.onnx --data calib.npz --max-drop 1% -o small.onnx",
    ):
        assert expected in text


def test_every_weight_has_a_row_with_sortable_numbers():
    report = fixture.compress()
    found = page(report)

    for row in report.weights:
        assert row.name in found.text
        assert row.reason in found.text
    keys = {attributes.get("data-sort") for tag, attributes in found.elements if tag == "td"}
    assert {str(row.bytes_before) for row in report.weights} <= keys
    assert {str(row.damage) for row in report.weights if row.damage is not None} <= keys
    assert "nan" in keys


@pytest.mark.parametrize("make", [fixture.compress, fixture.inspect, fixture.bare])
def test_page_is_balanced_and_asks_the_network_for_nothing(make):
    found = page(make())

    assert found.open == []
    for _, attributes in found.elements:
        assert not {"src", "srcset", "data", "action"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    policy = [a["content"] for tag, a in found.elements if tag == "meta" and "http-equiv" in a]
    assert policy[0].startswith("default-src 'none'")
    style = re.search(r"<style>(.*?)</style>", render(make()), re.DOTALL)
    assert style is not None
    assert "url(" not in style.group(1)
    assert "@import" not in style.group(1)


def test_links_lead_to_sections():
    found = page(fixture.compress())
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]

    assert len(set(ids)) == len(ids)
    targets = {a["href"].removeprefix("#") for tag, a in found.elements if tag == "a"}
    assert targets <= set(ids)
    assert len(targets) == 9


def test_charts_have_their_place_and_data_and_plotly_is_there_once():
    report = fixture.compress()
    text = render(report)
    found = Page(text)

    places = [a["id"] for _, a in found.elements if a.get("class") == "chart"]
    figures = json.loads(next(script for script in found.scripts if script.startswith("{")))
    assert list(figures) == places
    assert len(places) == 11
    assert text.count("* plotly.js v") == 1


def hostile(**changed):
    bad = fixture.HOSTILE
    row = fixture.weights(1)[0].model_copy(
        update={"name": bad, "node": bad, "operator": bad, "reason": bad, "form": bad}
    )
    fields = {
        "headline": bad,
        "command": bad,
        "data": bad,
        "metric": bad,
        "notes": (bad,),
        "files": {bad: bad},
        "seconds": {bad: 1.0},
        "weights": (row,),
        "original": fixture.summary(
            bad, operators={bad: 1}, bytes_by_cause={bad: 5}, producer=bad, sha256=bad
        ),
        "left_alone": (LeftAlone(subject=bad, reason=bad),),
        "changes": (Change(step=bad, subject=bad, outcome="done", before=bad, after=bad),),
    }
    return fixture.compress(**{**fields, **changed})


def test_hostile_names_stay_text():
    calm, attacked = page(fixture.compress(weights=fixture.weights(1))), page(hostile())

    assert attacked.open == []
    assert "img" not in {tag for tag, _ in attacked.elements}
    assert not [a for _, a in attacked.elements for name in a if name.startswith("on")]
    assert len(attacked.scripts) == len(calm.scripts)
    assert fixture.HOSTILE in attacked.text


def test_hostile_names_reach_the_charts_as_data():
    raw = render(hostile())
    data = next(script for script in Page(raw).scripts if script.startswith("{"))

    assert "<" not in data
    shown = json.loads(data)["layers"]["data"][0]["hovertext"]
    assert shown == ["&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"]


def test_inspect_shows_no_result():
    found = page(fixture.inspect())

    assert "98.6% are weights" in found.text
    assert "1,234,567,890 multiply-adds a run" in found.text
    for absent in ("What was done", "After", "SQNR", "What was measured", "budget met", "Result"):
        assert absent not in found.text


def test_full_report_shows_widths_scaled_and_frozen_axes_and_memory():
    found = page(fixture.full())

    for expected in (
        "Kept widths",
        "stem.channels 24 32 least error after repair",
        "2 axes are scaled before rounding.",
        "stem.normed 64 0.250 8.00 constants that are there by activations: 4.2 dB less error",
        "head.gelu 128 0.500 2.00 a product of its own by ranges: 1.1 dB less error",
        "stem.weight 1, 2 it is an input of the model",
        "Memory of a fresh process",
        "cpu 40.0 MB 40.0 MB 90.0 MB 90.0 MB",
        "Grid from −1.50 to 6.25; seen from −1.62 to 9.50; least squares",
    ):
        assert expected in found.text


def test_python_is_told_and_not_asked_of_pip():
    versions = {"onnxruntime": "1.32.0", "python": "3.11.7"}
    machine = fixture.MACHINE.model_copy(update={"versions": versions})
    text = page(fixture.compress(machine=machine)).text

    assert '# Python 3.11.7 pip install "onnxsqueeze==0.1.0" "onnxruntime==1.32.0" onnx' in text


def test_many_reasons_are_counted_not_all_told_in_the_story():
    text = page(fixture.sized(1000)).text
    told = text[text.index("What was done, and why") : text.index("Charts need JavaScript")]

    assert "1000 axes are scaled before rounding. tensor0 tensor1 tensor2 997 more reasons" in told
    assert "Left alone: 1000 places. tensor0 tensor1 tensor2 997 more reasons" in told


def test_metric_is_good_only_where_its_pessimistic_end_keeps_to_the_budget():
    validation = fixture.validation()
    wide = validation.fidelity[0].model_copy(
        update={"drop": Interval(value=0.005, low=0.0, high=0.02)}
    )
    text = render(fixture.compress(validation=validation.model_copy(update={"fidelity": (wide,)})))

    values = re.findall(r'class="value (\w+)">([^<]*)<', text)
    assert values[2] == ("bad", "0.50% lost")


def test_validate_shows_measurements_without_decisions():
    found = page(
        fixture.compress(kind="validate", weights=(), left_alone=(), changes=(), activations=())
    )

    assert "0.9812 to 0.9789, cpu, 512 samples" in found.text
    assert "Planned and done" in found.text
    assert "Every weight" not in found.text


def test_bare_report_is_a_page_without_charts_or_plotly():
    text = render(fixture.bare())

    assert len(text) < 50_000
    assert "not counted" in text
    assert "chart" not in {a.get("class") for _, a in Page(text).elements}


def test_tones_follow_the_numbers():
    validation = fixture.validation()
    lost = validation.fidelity[0].model_copy(
        update={"drop": Interval(value=0.02, low=0.01, high=0.03)}
    )
    slow = validation.latency[0].model_copy(
        update={"speedup": Interval(value=0.8, low=0.7, high=0.9), "verdict": "slower"}
    )
    worse = validation.model_copy(update={"fidelity": (lost,), "latency": (slow,)})
    text = render(
        fixture.compress(
            validation=worse, verdict="not met", result=fixture.summary("small.onnx", 11_400_856)
        )
    )

    values = re.findall(r'class="value (\w+)">([^<]*)<', text)
    assert values == [("bad", "1.05× larger"), ("bad", "1.25× slower"), ("bad", "2.0% lost")]
    assert '<span class="pill bad">budget not met</span>' in text


def test_gain_and_same_speed_are_said_so():
    validation = fixture.validation()
    gained = validation.fidelity[0].model_copy(
        update={"drop": Interval(value=-0.01, low=-0.02, high=0.0)}
    )
    same = validation.latency[0].model_copy(
        update={"speedup": Interval(value=1.01, low=0.99, high=1.02), "verdict": "same"}
    )
    same_validation = validation.model_copy(update={"fidelity": (gained,), "latency": (same,)})

    text = render(fixture.compress(validation=same_validation))

    values = re.findall(r'class="value (\w+)">([^<]*)<', text)
    assert values[1:] == [("plain", "same speed"), ("good", "1.0% gained")]


def test_infinite_numbers_become_no_invalid_json():
    rows = tuple(row.model_copy(update={"damage": float("inf")}) for row in fixture.weights(2))
    found = page(fixture.compress(weights=rows))

    data = next(script for script in found.scripts if script.startswith("{"))
    assert "Infinity" not in data
    assert json.loads(data)["layers"]
