from __future__ import annotations

import pytest

from onnxsqueeze.config import Provider
from onnxsqueeze.errors import ModelError, ProviderError
from onnxsqueeze.facts.records import Coverage, Interval, Validation
from onnxsqueeze.measure import latency as latency_module
from onnxsqueeze.measure.validate import AS_WRITTEN, check_same_interface, validate
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.footprint import can_measure
from tests.measure.pairs import LINEAR, SHRUNK, samples, saved

FEEDS = [[[3.0, 1.0]], [[2.0, 2.0]]]


def test_validation_holds_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(latency_module, "LEAST_SECONDS", 0.01)
    before, after = saved(tmp_path, "a", LINEAR), saved(tmp_path, "b", SHRUNK)
    coverage = (Coverage(form="int8", planned=1, done=1, missing=()),)
    told = []

    found = validate(
        before,
        after,
        samples(LINEAR, FEEDS),
        coverage=coverage,
        progress=lambda *news: told.append(news),
    )

    assert [one.optimization for one in found.fidelity] == ["default", "off"]
    for one in found.fidelity:
        assert one.drop.value == pytest.approx(0.01 * (1 + 4) / (10 + 8), rel=2e-6)
    assert len(found.latency) == 1
    assert found.placement_original.optimized_operators == {"MatMul": 1}
    assert found.placement_result.optimized_operators == {"MatMul": 1}
    assert found.coverage == coverage
    sizes = before.stat().st_size, after.stat().st_size
    assert (found.original_bytes, found.result_bytes) == sizes
    assert min(found.original_load_ms, found.result_load_ms) > 0
    assert "onnxruntime" in found.machine.versions
    assert [one.provider for one in found.placements] == ["cpu"]
    assert found.placements[0].result == found.placement_result
    assert found.placement_result.time_shares == {"CPUExecutionProvider": 1.0}
    if can_measure():
        assert found.memory[0].original.resident_bytes <= found.memory[0].original.peak_bytes
    # All raw samples: the metric of each, and each timing.
    assert [len(one.scores_result) for one in found.fidelity] == [2, 2]
    assert len(found.latency[0].original_ms) == len(found.latency[0].result_ms) == 15
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == [
        "fidelity",
        "fidelity as written",
        "latency",
        "memory",
        "placement",
        "load time",
    ]
    assert all(0 <= done <= total for _, done, total in told)
    assert Validation.model_validate_json(found.model_dump_json()) == found


def test_a_model_against_itself_is_the_same(tmp_path):
    path = saved(tmp_path, "a", LINEAR)

    found = validate(path, path, samples(LINEAR, FEEDS), with_latency=False)

    assert found.latency == ()
    assert {one.drop for one in found.fidelity} == {Interval(value=0.0, low=0.0, high=0.0)}
    assert found.placement_original == found.placement_result


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[N, 2] y", "[N, 2] z", r"outputs are \['y'\] in the original and \['z'\] in the result"),
        ("2] x", "2] x, float[1] u", r"inputs are \['x'\] in .* \['x', 'u'\] in the result"),
        ("float[N, 2] y", "float[2] y", "output 'y' has 2 axes in the original and 1 in the resu"),
        (
            "float[N, 2] x",
            "double[N, 2] x",
            r"input 'x' is .*FLOAT.* and .*DOUBLE.* in the result",
        ),
    ],
)
def test_another_interface_is_refused(tmp_path, old, new, message):
    changed = LINEAR.replace(old, new)
    if "z" in new:
        changed = changed.replace("y =", "z =")
    if "double" in new:
        changed = changed.replace("MatMul(x, w)", "CastLike(x, w)")
    paths = saved(tmp_path, "a", LINEAR), saved(tmp_path, "b", changed)

    with pytest.raises(ModelError, match="differ in 1 point") as caught:
        validate(*paths, samples(LINEAR, FEEDS))
    caught.match(message)


def test_sizes_of_axes_and_unknown_ranks_may_differ(tmp_path):
    fixed = LINEAR.replace("[N, 2] y", "[M, K] y").replace("[N, 2] x", "[7, 2] x")
    unranked = LINEAR.replace("float[N, 2] y", "float[] y")

    check_same_interface(saved(tmp_path, "a", LINEAR), saved(tmp_path, "b", fixed))
    check_same_interface(saved(tmp_path, "a", LINEAR), saved(tmp_path, "b", unranked))


def test_graphs_as_written_are_run_on_a_few_samples_only(tmp_path):
    path = saved(tmp_path, "a", LINEAR)
    many = samples(LINEAR, [[[1.0 + n, 1.0]] for n in range(AS_WRITTEN + 5)])

    found = validate(path, path, many, with_latency=False)

    default, off = found.fidelity
    assert (default.samples, off.samples) == (AS_WRITTEN + 5, AS_WRITTEN)


IDLE = "AzureExecutionProvider"


@pytest.mark.skipif(
    IDLE not in ort.engine().get_available_providers(), reason=f"this build has no {IDLE}"
)
def test_everything_is_measured_on_each_provider(tmp_path, monkeypatch):
    monkeypatch.setattr(latency_module, "LEAST_SECONDS", 0.01)
    before, after = saved(tmp_path, "a", LINEAR), saved(tmp_path, "b", SHRUNK)
    on = (Provider(), Provider(name=IDLE, allow_fallback="all"))

    found = validate(before, after, samples(LINEAR, FEEDS), on=on)

    assert [(one.provider, one.optimization) for one in found.fidelity] == [
        ("cpu", "default"),
        ("cpu", "off"),
        (IDLE, "default"),
    ]
    for each in (found.latency, found.placements, found.memory or found.latency):
        assert [one.provider for one in each] == ["cpu", IDLE]
    assert found.latency[0].again_ms == ()  # thread CPU time decided
    assert len(found.latency[1].again_ms) == 15
    assert found.drop_high == max(found.fidelity[0].drop.high, found.fidelity[2].drop.high)
    # The node is where it really is, whatever was asked for.
    assert list(found.placements[1].result.providers) == ["CPUExecutionProvider"]


def test_a_missing_provider_is_told_before_anything_runs(tmp_path):
    path, told = saved(tmp_path, "a", LINEAR), []
    with pytest.raises(ProviderError, match="NoSuchProvider was asked for"):
        validate(
            path,
            path,
            samples(LINEAR, FEEDS),
            on=(Provider(), Provider(name="NoSuchProvider")),
            progress=lambda *news: told.append(news),
        )
    assert told == []
    with pytest.raises(ValueError, match="at least one provider"):
        validate(path, path, samples(LINEAR, FEEDS), on=())
