"""JUnit XML: one test case per promise, and the reason where one is broken."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from onnxsqueeze.facts.records import Interval
from onnxsqueeze.report.junit import promises, render
from tests.report import fixture


def cases(report):
    """Name of each test case, with its failure's text or None."""
    root = ET.fromstring(render(report))
    return {case.get("name"): case.findtext("failure") for case in root.iter("testcase")}


def test_each_promise_is_a_case_and_the_broken_one_a_failure():
    report = fixture.full()

    assert cases(report) == {
        "size": None,
        "budget, cpu": None,
        "latency, cpu": None,
        "placement, stored": None,
        "placement, qdq": "4 of 5 are what was planned; not: backbone.stem.conv",
        "placement on cuda": None,
    }
    root = ET.fromstring(render(report))
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    for element in (root, suite):
        counts = [element.get(name) for name in ("tests", "failures", "errors")]
        assert counts == ["6", "1", "0"]
    assert suite.get("timestamp") == "2026-11-24T06:54:02Z"
    (said,) = [case.findtext("system-out") for case in suite if case.get("name") == "size"]
    assert said == "10857958 bytes became 2790114, 3.89× smaller"


def test_budget_is_broken_at_the_intervals_pessimistic_end():
    validation = fixture.validation()
    wide = validation.fidelity[0].model_copy(
        update={"drop": Interval(value=0.005, low=0.0, high=0.0101)}
    )
    report = fixture.compress(validation=validation.model_copy(update={"fidelity": (wide,)}))

    broken = cases(report)["budget, cpu"]
    assert broken == (
        "top1: 0.50% (0% to 1.0%) lost, 1.0% allowed; the pessimistic end decides, on 512 samples"
    )


def test_larger_and_slower_results_break_their_promises():
    validation = fixture.validation()
    slow = validation.latency[0].model_copy(update={"verdict": "slower"})
    report = fixture.compress(
        result=fixture.summary("small.onnx", 11_400_856),
        validation=validation.model_copy(update={"latency": (slow,)}),
    )

    found = cases(report)
    assert found["size"] == "10857958 bytes became 11400856, 1.05× larger"
    assert found["latency, cpu"].startswith("slower, ")


def test_nothing_gained_is_a_failure():
    assert "nothing smaller" in cases(fixture.compress(verdict="unchanged"))["gain"]


@pytest.mark.parametrize("make", [fixture.inspect, fixture.bare])
def test_report_without_a_result_promises_nothing(make):
    assert promises(make()) == ()
    assert cases(make()) == {}


def test_hostile_names_stay_text_and_what_xml_cannot_hold_is_replaced():
    bad = f'{fixture.HOSTILE}"&]]>\x00\x1b\ufffe\ud800'
    coverage = fixture.validation().coverage[1].model_copy(update={"form": bad, "missing": (bad,)})
    report = fixture.compress(
        original=fixture.summary(bad), validation=fixture.validation(coverage=(coverage,))
    )

    shown = f'{fixture.HOSTILE}"&]]>????'
    assert cases(report)[f"placement, {shown}"] == f"4 of 5 are what was planned; not: {shown}"
    assert "img" not in {element.tag for element in ET.fromstring(render(report)).iter()}
