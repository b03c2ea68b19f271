"""The api: each stage alone, what it keeps in the run folder, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxsqueeze import api
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import DataError, ModelError, PlanError, ProviderError, SqueezeError
from onnxsqueeze.graph import io
from onnxsqueeze.measure import load
from onnxsqueeze.plan.types import Plan, WeightChoice
from onnxsqueeze.report import files
from onnxsqueeze.runtime import ort
from tests.cli.place import SAMPLES, Place, linear, network
from tests.models import build, constants, operators

SIZE = Target(objective="size")
LOOSE = Budget(max_drop=0.05)
FLOAT16 = WeightChoice(form="float16", bits=16, reason="a test")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return linear(tmp_path)


def data(place: Place) -> DataSettings:
    return DataSettings(source=str(place.data))


def measured(place: Place, target: Target = SIZE, settings: DataSettings | None = None):
    settings = data(place) if settings is None else settings
    return api.measure(place.model, settings, run=place.folder / "run", target=target)


# Load and measure.


def test_load_without_a_run_folder_writes_nothing(place: Place) -> None:
    before = place.digests()
    loaded = api.load(place.model, data(place))
    assert place.digests() == before
    assert (len(loaded.calibration), len(loaded.held_out)) == (28, 12)
    assert loaded.notes[0] == f"12 of {SAMPLES} samples are held out to measure on"
    assert loaded.sha256 == io.fingerprint(place.model)
    assert not loaded.is_synthetic


def test_load_finds_the_cleaned_model_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = place.folder / "run"
    first = api.load(place.model, data(place), run=run)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("cleaned again")

    monkeypatch.setattr(load, "normalise", never)
    second = api.load(place.model, data(place), run=run)
    assert second.changes == first.changes
    assert io.serialized(second.model) == io.serialized(first.model)
    (kept,) = (run / "facts").glob("clean-*.onnx")
    kept.write_bytes(kept.read_bytes()[:-5] + b"other")
    with pytest.raises(AssertionError, match="cleaned again"):
        api.load(place.model, data(place), run=run)


def test_facts_for_size_hold_no_activations(place: Place) -> None:
    facts = measured(place).facts
    assert {weight.name for weight in facts.weights} == set(facts.grams) == {"w1", "w2"}
    assert (dict(facts.ranges), dict(facts.latencies)) == ({}, {})


def test_facts_for_latency_hold_ranges_and_times(place: Place) -> None:
    facts = measured(place, Target(objective="latency")).facts
    assert "x" in facts.ranges
    assert facts.latencies


def test_facts_of_random_samples_fit_nothing(place: Place) -> None:
    found = measured(place, Target(objective="latency"), DataSettings())
    assert found.loaded.is_synthetic
    assert found.facts.data_sha256 is None
    assert (dict(found.facts.grams), dict(found.facts.ranges)) == ({}, {})


def test_facts_are_measured_again_for_other_samples(place: Place) -> None:
    first = measured(place)
    with np.load(place.data) as archive:
        np.savez(place.data, x=archive["x"] * 2)
    second = measured(place)
    gram, other = (one.facts.grams["w1"].matrix for one in (first, second))
    np.testing.assert_allclose(other, 4 * gram, rtol=1e-5)


# Plan and apply.


def test_plan_is_none_where_nothing_keeps_the_budget(place: Place) -> None:
    assert api.plan(measured(place), budget=Budget(max_drop=0.0), target=SIZE) is None


def test_plan_and_apply_change_a_copy(place: Place) -> None:
    found = measured(place)
    before = io.serialized(found.loaded.model)
    trial = api.plan(found, budget=LOOSE, target=SIZE)
    assert trial is not None
    assert trial.fidelity.drop.high <= LOOSE.max_drop
    applied = api.apply(trial.plan, found)
    assert len(io.serialized(applied.model)) < len(before)
    assert io.serialized(found.loaded.model) == before


def test_apply_refuses_the_plan_of_another_model(place: Place) -> None:
    found = measured(place)
    plan = Plan(model_sha256="ab" * 32, weights={"w1": FLOAT16})
    with pytest.raises(PlanError, match=r"model sha256:abababababab, and .*model\.onnx is sha256"):
        api.apply(plan, found)


def test_carry_out_needs_no_samples_for_rounding_to_the_nearest(place: Place) -> None:
    plan = Plan(model_sha256=io.fingerprint(place.model), weights={"w1": FLOAT16})
    output = place.folder / "out" / "small.onnx"
    report = api.carry_out(plan, place.model, output, run=place.folder / "run", target=SIZE)
    weights = constants(io.read(output))
    original = constants(io.read(place.model))
    np.testing.assert_array_equal(weights["w2"], original["w2"])
    assert original["w1"].astype(np.float16).tobytes() in {w.tobytes() for w in weights.values()}
    assert {row.name: row.form for row in report.weights} == {"w1": "float16", "w2": "float"}
    assert report.files == {"model": str(output)}


def test_carry_out_of_a_weight_that_is_not_there_writes_nothing(place: Place) -> None:
    plan = Plan(model_sha256=io.fingerprint(place.model), weights={"w9": FLOAT16})
    with pytest.raises(PlanError, match="w9"):
        api.carry_out(
            plan, place.model, place.folder / "out" / "small.onnx", run=place.folder / "run"
        )
    assert not list((place.folder / "out").iterdir())


def test_carry_out_of_compensated_rounding_asks_for_the_samples_first(place: Place) -> None:
    choice = WeightChoice(form="stored", bits=8, axis=1, rounding="compensated", reason="a test")
    plan = Plan(model_sha256=io.fingerprint(place.model), weights={"w1": choice})
    with pytest.raises(PlanError, match="needs the samples it was made with"):
        api.carry_out(
            plan, place.model, place.folder / "out" / "small.onnx", run=place.folder / "run"
        )
    assert not (place.folder / "run").exists()


# Compress.


def test_compress_returns_what_it_writes(tmp_path: Path) -> None:
    place = network(tmp_path)
    told: list[str] = []
    output = place.folder / "out" / "small.onnx"
    made = api.compress(
        place.model,
        output,
        data(place),
        budget=LOOSE,
        target=SIZE,
        run=place.folder / "elsewhere",
        command="the command",
        progress=lambda stage, done, total: told.append(stage) if done <= total else None,
    )
    assert made.is_met
    assert made.output == output
    assert [path.name for path in output.parent.iterdir()] == ["small.onnx"]
    assert Plan.load(place.folder / "elsewhere" / "plan.json") == made.plan
    assert files.load_json(place.folder / "elsewhere" / "report.json") == made.report
    assert made.report.command == "the command"
    assert "search within the budget" in told
    assert set(made.report.seconds) == {"measure", "search", "apply", "validate"}


@pytest.mark.parametrize(
    ("budget", "target", "error", "says"),
    [
        (Budget(metric="accuracy"), SIZE, DataError, "label"),
        (Budget(metric="no_such_module_here:f"), SIZE, DataError, "cannot be imported"),
        (Budget(), Target(provider="cuda"), ProviderError, "CUDAExecutionProvider"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_measured(
    place: Place, budget: Budget, target: Target, error: type[SqueezeError], says: str
) -> None:
    with np.load(place.data) as archive:
        np.savez(place.data, x=archive["x"])
    told: list[str] = []
    output = place.folder / "out" / "small.onnx"
    with pytest.raises(error, match=says):
        api.compress(
            place.model,
            output,
            data(place),
            budget=budget,
            target=target,
            progress=lambda stage, *_: told.append(stage),
        )
    assert told == []
    assert not output.exists()


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(keep=("w9",)), "keep pattern 'w9' matches no initializer"),
        (Limits(operator_bits={"Relu": (8,)}), r"'Relu', and .*\n  Operators that do: MatMul\."),
    ],
)
def test_limits_that_name_nothing_are_told_before_anything_is_measured(
    place: Place, limits: Limits, says: str
) -> None:
    told: list[str] = []
    output = place.folder / "out" / "small.onnx"
    with pytest.raises(PlanError, match=says):
        api.compress(
            place.model,
            output,
            data(place),
            limits=limits,
            progress=lambda stage, *_: told.append(stage),
        )
    assert told == []
    assert not output.exists()
    with pytest.raises(PlanError, match=says):
        api.measure(place.model, data(place), run=place.folder / "run", limits=limits)


def test_weights_keep_to_the_bits_of_their_operator(tmp_path: Path) -> None:
    place = network(tmp_path)
    limits = Limits(bits=(4,), operator_bits={"Conv": (8,), "Gemm": (16,)}, prune="off")
    output = place.folder / "out" / "small.onnx"
    made = api.compress(place.model, output, data(place), budget=LOOSE, target=SIZE, limits=limits)
    assert made.is_met
    used = {name: choice.bits for name, choice in made.plan.weights.items()}
    assert used == {"w1": 8, "w2": 8, "w3": 16}


def test_zeros_are_packed_without_any_loss(place: Place) -> None:
    # Wide enough that the nodes which unpack the zeros weigh less than they save.
    wide = build(
        "g (float[N,8] x) => (float[N,6] y) <float[8,1024] w1, float[1024,6] w2>"
        "{ a = MatMul (x, w1) r = Relu (a) y = MatMul (r, w2) }"
    )
    for tensor in wide.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        values.reshape(-1)[np.arange(values.size) % 10 > 0] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(wide, place.model)
    output = place.folder / "out" / "small.onnx"
    made = api.compress(place.model, output, data(place), budget=Budget(max_drop=0.0), target=SIZE)
    assert made.is_met
    assert made.report.verdict == "met"
    assert {(c.form, c.masked) for c in made.plan.weights.values()} == {("float", True)}
    assert made.report.left_alone == ()
    assert output.stat().st_size < place.model.stat().st_size / 2
    with np.load(place.data) as archive:
        feed = {"x": archive["x"][0]}
    # The same kernels, as all that unpacks the weights is done when the model loads.
    after, before = (ort.run(ort.session(path), feed)["y"] for path in (output, place.model))
    np.testing.assert_array_equal(after, before)


def test_model_without_weights_comes_out_as_it_is(place: Place) -> None:
    text = "g (float[N,8] x) => (float[N,8] y) { a = Relu (x) y = Sigmoid (a) }"
    place.model.write_bytes(build(text).SerializeToString())
    output = place.folder / "out" / "small.onnx"
    made = api.compress(place.model, output, data(place), target=SIZE)
    assert not made.is_met
    assert operators(io.read(output)) == ["Relu", "Sigmoid"]
    assert output.stat().st_size <= place.model.stat().st_size
    assert made.report.weights == ()


def test_compress_never_writes_to_the_input(place: Place) -> None:
    before = place.model.read_bytes()
    place.model.chmod(0o444)
    made = api.compress(
        place.model, place.folder / "out" / "small.onnx", data(place), budget=LOOSE, target=SIZE
    )
    assert made.report.original.size_bytes == len(before)
    assert place.model.read_bytes() == before


# Inspect, validate, read_report.

FEW_ROWS = """
g (float[N,8] x) => (float[M,16] y) <float[24,16] w> {
  s = Constant <value = int64[2] {-1, 24}> ()
  r = Reshape (x, s)
  y = MatMul (r, w)
}"""


def test_inspect_takes_samples_where_random_ones_do_not_fit(place: Place) -> None:
    place.model.write_bytes(build(FEW_ROWS).SerializeToString())
    with pytest.raises(DataError, match="does not run on random ones"):
        # Random samples have one row, and 8 values make no row of 24.
        api.inspect(place.model)
    np.savez(place.data, x=np.ones((4, 3, 8), np.float32))
    report = api.inspect(place.model, data(place))
    assert [row.name for row in report.weights] == ["w"]


def test_validate_without_samples_says_so_and_without_budget_judges_nothing(place: Place) -> None:
    report = api.validate(place.model, place.model)
    assert report.verdict == "none"
    assert (report.max_drop, report.metric) == (None, None)
    assert any("random" in note for note in report.notes)


@pytest.mark.parametrize(("drop", "verdict"), [(0.0, "not met"), (1.0, "met")])
def test_validate_judges_by_the_budget(place: Place, drop: float, verdict: str) -> None:
    other = place.folder / "other.onnx"
    model = onnx.load(place.model)
    weight = next(one for one in model.graph.initializer if one.name == "w2")
    values = numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(numpy_helper.from_array(values, "w2"))
    onnx.save(model, other)
    report = api.validate(place.model, other, data(place), budget=Budget(max_drop=drop))
    assert report.verdict == verdict
    assert report.evaluation_samples == SAMPLES


def test_validate_refuses_models_of_another_interface(place: Place) -> None:
    other = place.folder / "other.onnx"
    text = "g (float[N,8] x) => (float[N,6] z) <float[8,6] w> { z = MatMul (x, w) }"
    other.write_bytes(build(text).SerializeToString())
    with pytest.raises(ModelError, match="differ in 1 point"):
        api.validate(place.model, other, data(place))


def test_read_report_takes_a_file_or_its_folder(place: Place) -> None:
    report = api.inspect(place.model)
    path = place.folder / "report.json"
    files.save_json(report, path)
    assert api.read_report(path) == api.read_report(place.folder) == report
    with pytest.raises(SqueezeError, match="no report at"):
        api.read_report(place.folder / "out")


def test_prune_below_counts_the_zeros_it_makes(place: Place) -> None:
    found = api.measure(
        place.model,
        data(place),
        run=place.folder / "run",
        target=SIZE,
        limits=Limits(prune_below=0.1),
    )
    weights = constants(io.read(place.model))
    zeros = {weight.name: weight.zeros for weight in found.facts.weights}
    assert zeros == {name: int((np.abs(w) < 0.1).sum()) for name, w in weights.items()}
    assert min(zeros.values()) > 0
