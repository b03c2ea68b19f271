"""Reports as they are put together: verdict, headline and tables follow from what is given."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxsqueeze import __version__
from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.config import Budget
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.ranges import TensorRange
from onnxsqueeze.facts.records import Change, Interval
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.graph import io
from onnxsqueeze.numerics.histogram import Histogram
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.plan.types import ActivationChoice, Plan, WeightChoice
from onnxsqueeze.report import fmt
from onnxsqueeze.report.build import DRAWN, Story, build
from onnxsqueeze.report.types import Report
from tests.models import build as model_of
from tests.models import saved
from tests.report import fixture

NETWORK = """
g (float[N,32] x) => (float[N,10] y)
<float[32,64] w1, float[64,16] w2, float[16,40] w3, float[40,10] w4> {
  a = MatMul (x, w1)
  b = MatMul (a, w2)
  c = MatMul (b, w3)
  y = MatMul (c, w4)
}"""
SHAPES = {"x": (1, 32), "a": (1, 64), "b": (1, 16), "c": (1, 40), "y": (1, 10)}
FLOAT = WeightChoice(form="float", bits=32, reason="named by --keep")
HALF = WeightChoice(form="float16", bits=16, reason="half is enough")
PLAN = Plan(
    model_sha256="0",
    weights={"w1": HALF, "w2": FLOAT},
    notes=("as the plan says",),
)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return saved(model_of(NETWORK), tmp_path)


def facts(path: Path, **changed: Any) -> Facts:
    found, _ = weights(io.read(path))
    rows = tuple(
        WeightFacts(
            name=weight.name,
            node=weight.node.name or "",
            operator=weight.node.op_type,
            role=weight.role,
            shape=weight.shape,
            axis=weight.axis,
            item_bytes=4,
            largest=1.0,
            not_finite=0,
            zeros=4,
            damage=0.25,
            rows=0,
        )
        for weight in found
    )
    fields: dict[str, Any] = {
        "model_sha256": "0",
        "data_sha256": "1",
        "shapes": SHAPES,
        "weights": rows,
        "left_alone": {"table": "Gather does not read it as a weight (input data)"},
        "grams": {},
    }
    return Facts(**{**fields, **changed})


def compressed(original: Path, plan: Plan = PLAN, **changed: Any) -> Report:
    """The report of a plan that was carried out."""
    model = io.read(original)
    result = original.with_name("small.onnx")
    io.write(apply(plan, model, {}).model, result)
    fields: dict[str, Any] = {
        "model": model,
        "facts": facts(original),
        "plan": plan,
        "result": result,
        "budget": Budget(max_drop=0.02, metric="top1"),
        "is_met": True,
        "validation": fixture.validation(),
    }
    return build(Story("compress", original, **{**fields, **changed}))


def test_what_is_missing_is_not_told(original: Path) -> None:
    report = build(Story("inspect", original))
    assert (report.result, report.validation, report.machine, report.data) == (None,) * 4
    assert (report.max_drop, report.metric, report.verdict) == (None, None, "none")
    assert report.weights == report.activations == report.left_alone == report.changes == ()
    assert report.original.multiply_adds is None
    size = fmt.size(original.stat().st_size)
    assert report.headline == f"model.onnx: {size}, 4 nodes, 4.11 thousand parameters"


def test_report_says_what_made_it_and_when(original: Path) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    report = build(Story("inspect", original, command="onnxsqueeze inspect model.onnx"))
    assert before <= datetime.fromisoformat(report.created) <= datetime.now(timezone.utc)
    assert (report.version, report.command) == (__version__, "onnxsqueeze inspect model.onnx")


def test_both_models_are_summed_up_from_their_files(original: Path) -> None:
    report = compressed(original)
    assert report.result is not None
    for summary, path in ((report.original, original), (report.result, Path(report.result.path))):
        assert summary.sha256 == io.fingerprint(path)
        assert summary.size_bytes == path.stat().st_size == sum(summary.bytes_by_cause.values())
        assert summary.multiply_adds == 32 * 64 + 64 * 16 + 16 * 40 + 40 * 10
    assert report.original.operators == {"MatMul": 4}
    assert report.result.operators == {"MatMul": 4, "Cast": 1}


MASKED = WeightChoice(form="float", bits=32, masked=True, reason="zeros are packed")


@pytest.mark.parametrize(
    ("is_met", "plan", "verdict"),
    [
        (None, PLAN, "none"),
        (False, PLAN, "not met"),
        (True, PLAN, "met"),
        (True, Plan(model_sha256="0", weights={"w1": FLOAT}), "unchanged"),
        (True, Plan(model_sha256="0", weights={"w1": MASKED}), "met"),
        (True, Plan(model_sha256="0", weights={}), "unchanged"),
        (True, None, "met"),  # a file that was made elsewhere
        (False, None, "not met"),
    ],
)
def test_verdict(original: Path, is_met: bool | None, plan: Plan | None, verdict: str) -> None:
    assert build(Story("validate", original, plan=plan, is_met=is_met)).verdict == verdict


def test_weights_tell_form_bytes_and_reason(original: Path) -> None:
    rows = {row.name: row for row in compressed(original, sqnr_db={"w1": 70.5}).weights}
    assert set(rows) == {"w1", "w2", "w3", "w4"}
    half, kept, unplanned = rows["w1"], rows["w2"], rows["w3"]
    assert (half.form, half.bits, half.reason) == ("float16", 16, "half is enough")
    assert (half.bytes_before, half.bytes_after) == (4 * 32 * 64, 2 * 32 * 64)
    assert (half.sqnr_db, kept.sqnr_db) == (70.5, None)
    assert (kept.form, kept.bits, kept.reason) == ("float", 32, "named by --keep")
    assert kept.bytes_before == kept.bytes_after == 4 * 64 * 16
    assert (unplanned.form, unplanned.bits, unplanned.reason) == ("float", 32, "")
    assert unplanned.bytes_before == unplanned.bytes_after
    assert half.zeros_fraction == 4 / (32 * 64)
    assert {row.damage for row in rows.values()} == {0.25}
    assert (half.operator, half.shape) == ("MatMul", (32, 64))


@pytest.mark.parametrize(
    ("choice", "parts"),
    [
        # 8-bit codes, a float16 scale per column, and the zero point.
        (WeightChoice(form="stored", bits=8, axis=1, reason=""), 32 * 64 + 2 * 64),
        (WeightChoice(form="float16", bits=16, reason=""), 2 * 32 * 64),
    ],
)
def test_bytes_after_are_those_of_the_tensors_in_the_file(
    original: Path, choice: WeightChoice, parts: int
) -> None:
    row = compressed(original, Plan(model_sha256="0", weights={"w1": choice})).weights[0]
    assert row.name == "w1"
    assert parts <= row.bytes_after <= parts + 4


def test_packed_zeros_count_in_the_bytes_after(original: Path) -> None:
    model = onnx.load(original)
    tensor = next(one for one in model.graph.initializer if one.name == "w1")
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[::2] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, "w1"))
    onnx.save(model, original)
    report = compressed(original, Plan(model_sha256="0", weights={"w1": MASKED}))
    row = next(row for row in report.weights if row.name == "w1")
    # Half of the values, the zero that the others are taken from, and one bit for each.
    assert row.bytes_after == 4 * (32 * 64 // 2 + 1) + 32 * 64 // 8
    assert "w1" not in {one.subject for one in report.left_alone}


def test_left_alone_lists_no_weights_and_kept_ones_with_reasons(original: Path) -> None:
    found = [(one.subject, one.reason) for one in compressed(original).left_alone]
    assert found == [
        ("table", "Gather does not read it as a weight (input data)"),
        ("w2", "named by --keep"),
    ]


def test_distributions_are_drawn_of_the_largest_weights(original: Path) -> None:
    assert DRAWN >= 4
    rows = compressed(original).weights
    drawn = [row.distribution for row in rows]
    assert all(one is not None and len(one.centers) == len(one.density) for one in drawn)
    one = drawn[0]
    assert one is not None
    width = one.centers[1] - one.centers[0]
    assert sum(one.density) * width == pytest.approx(1.0)
    assert one.best_fit in one.fits


def test_only_the_largest_weights_are_drawn(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxsqueeze.report.build.DRAWN", 1)
    rows = compressed(original).weights
    assert [row.name for row in rows if row.distribution is not None] == ["w1"]


def test_activations_tell_the_grid_and_what_was_seen(original: Path) -> None:
    histogram = Histogram(exponent=0, first=0, counts=np.ones(2, np.int64))
    nothing = np.zeros(0)
    seen = TensorRange(10.0, -3.0, 5.0, 0, histogram, histogram, nothing, nothing)
    grid = ActivationChoice(low=-2.5, high=4.0, reason="read by /a")
    plan = Plan(model_sha256="0", weights={}, activations={"a": grid})
    known = facts(original, ranges={"a": seen, "b": seen})
    story = Story("compress", original, model=io.read(original), facts=known, plan=plan)
    (row,) = build(story).activations
    assert (row.name, row.low, row.high) == ("a", -2.5, 4.0)
    assert (row.minimum, row.maximum, row.reason) == (-3.0, 5.0, "read by /a")


def test_headline_tells_size_drop_budget_and_speed(original: Path) -> None:
    report = compressed(original)
    assert report.headline.startswith("model.onnx: ")
    assert "drop 0.23% (budget 2.0%)" in report.headline
    assert report.headline.endswith("speed 1.18×")
    latency = fixture.validation().latency[0]
    same = latency.model_copy(
        update={"speedup": Interval(value=1.01, low=0.99, high=1.02), "verdict": "same"}
    )
    report = compressed(original, validation=fixture.validation(latency=(same,)))
    assert report.headline.endswith("speed the same")
    report = compressed(original, validation=fixture.validation(latency=()), budget=None)
    assert report.headline.endswith("drop 0.23%")


def test_notes_changes_times_and_files_are_handed_on(original: Path) -> None:
    change = Change(step="s", subject="n", outcome="done", before="a", after="b")
    report = compressed(
        original,
        changes=(change,),
        notes=("as the samples say",),
        seconds={"measure": 1.23456},
        data="calib.npz",
        samples=(28, 12),
        machine=fixture.MACHINE,
        files={"model": "small.onnx"},
    )
    assert report.notes[:2] == ("as the samples say", "as the plan says")
    assert report.changes == (change,)
    assert report.seconds == {"measure": 1.235}
    assert (report.data, report.calibration_samples, report.evaluation_samples) == (
        "calib.npz",
        28,
        12,
    )
    assert (report.machine, report.files) == (fixture.MACHINE, {"model": "small.onnx"})
    assert (report.max_drop, report.metric) == (0.02, "top1")
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_notes_tell_opset_load_time_and_integers(tmp_path: Path) -> None:
    text = """
    g (float[2,16] x) => (float[2,16] y) <int8[16,16] w, float s = {0.01}> {
      d = DequantizeLinear (w, s)
      y = MatMul (x, d)
    }"""
    old = saved(model_of(text, opset=19, ir_version=10), tmp_path, "old.onnx")
    new = saved(model_of(text, opset=21, ir_version=10), tmp_path, "new.onnx")
    validation = fixture.validation()

    report = build(Story("compress", old, model=io.read(new), result=new, validation=validation))

    assert report.notes == (
        "already in integers: 1 node(s) kept as they are, with 1 integer weight(s) of 256 bytes",
        "opset 19 became 21: a runtime that knows only older opsets does not load the file",
        "the file loads in 61.2 ms, and the original in 48.6 ms",
    )


@pytest.mark.parametrize(
    ("metric", "max_drop", "expected"),
    [
        ("top1", 0.001, "top1 on 512 samples cannot show a drop of at most 0.10%: at least 3000"),
        ("top1", 0.0, "no number of samples can"),
        ("top1", 0.01, ""),
        ("auto (y: values)", 0.001, ""),
    ],
)
def test_budget_that_no_result_could_be_shown_to_keep_is_told(
    original: Path, metric: str, max_drop: float, expected: str
) -> None:
    validation = fixture.validation()
    fidelity = validation.fidelity[0].model_copy(update={"metric": metric})
    validation = validation.model_copy(update={"fidelity": (fidelity,)})

    report = compressed(original, validation=validation, budget=Budget(max_drop=max_drop))

    told = [note for note in report.notes if "samples" in note and "cannot show" in note]
    assert len(told) == bool(expected)
    assert expected in "".join(told)


@pytest.mark.parametrize(
    ("max_drop", "expected"),
    [
        # 0.00051 to 0.00478 around 0.00234: s = 0.00427 / 3.92, d = 0.00066,
        # 512 * (2.801585 * s / d)**2 = 10946.7.
        (0.003, "512 samples on cpu do not tell whether the drop is at most 0.30%: it is "),
        (0.003, "; about 10947 samples would, if the drop is what it seems to be"),
        (0.00234, "no number of samples is likely to"),
        (0.01, ""),
        (0.0001, ""),
    ],
)
def test_samples_that_do_not_tell_are_told_with_how_many_would(
    original: Path, max_drop: float, expected: str
) -> None:
    validation = fixture.validation()
    fidelity = validation.fidelity[0].model_copy(update={"metric": "auto (y: values)"})
    validation = validation.model_copy(update={"fidelity": (fidelity,)})

    report = compressed(original, validation=validation, budget=Budget(max_drop=max_drop))

    told = [note for note in report.notes if "samples on cpu" in note]
    assert len(told) == bool(expected)
    assert expected in "".join(told)
