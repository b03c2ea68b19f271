from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from onnxsqueeze.errors import DataError
from onnxsqueeze.facts.grams import Gram, Grams, identity
from onnxsqueeze.facts.op_latency import IntegerLatency, OpKey, OpLatencies, OpLatency
from onnxsqueeze.facts.ranges import TensorRange, from_record, joined, to_record
from onnxsqueeze.facts.records import Change, Interval, Machine, Provenance
from onnxsqueeze.facts.store import Store
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.numerics.histogram import Histogram, histogram

MACHINE = Machine(
    processor="p",
    features=("avx2",),
    cores=2,
    memory_bytes=1,
    system="Linux x86_64",
    versions={"onnxruntime": "1.32.0", "numpy": "2.4"},
    providers=("CPUExecutionProvider",),
)
KEY = OpKey(
    op_type="Conv", attributes={"group": "1"}, shapes={"X": (1, 3)}, provider="cpu", threads=1
)


def latency(key=KEY, machine=MACHINE):
    return OpLatency(
        key=key,
        machine=machine,
        float_ms=(2.0, 2.2),
        integers={
            "qdq": IntegerLatency(
                ms=(1.0, 1.1), speedup=Interval(value=2.0, low=2.0, high=2.0), fused=True
            )
        },
    )


def test_a_record_is_frozen_and_has_no_other_fields():
    change = Change(step="s", subject="w", outcome="done", before="a", after="b")
    with pytest.raises(ValidationError, match="frozen"):
        change.step = "t"
    with pytest.raises(ValidationError, match="extra"):
        Interval(value=1.0, low=0.0, high=2.0, middle=1.0)
    with pytest.raises(ValidationError, match="outcome"):
        Change(step="s", subject="w", outcome="perhaps", before="a", after="b")


def test_a_record_comes_back_from_json():
    record = Provenance(
        model_sha256="ab",
        data_sha256=None,
        settings={"seed": 0, "portable": True, "limit": None, "name": "x", "drop": 0.5},
        machine=MACHINE,
        created="2026-01-01",
    )
    assert Provenance.model_validate_json(record.model_dump_json()) == record


def test_counts_of_a_weight():
    facts = WeightFacts(
        name="w", node="n", operator="Conv", role="linear", shape=(6, 4, 3, 3), axis=0,
        item_bytes=4, largest=1.0, not_finite=0, damage=None, rows=0,
    )  # fmt: skip
    assert (facts.count, facts.channels, facts.features) == (216, 6, 36)
    assert facts.model_copy(update={"axis": 1}).features == 54


def test_ranges_come_back_from_the_store(tmp_path):
    values = np.random.default_rng(0).normal(size=50)
    ranges = {
        name: TensorRange(
            count=50.0 * scale,
            low=-scale,
            high=2 * scale,
            not_finite=3,
            sample=histogram(values * scale),
            extremes=histogram(values[:5] * scale),
            mean=np.arange(4.0),
            mean_square=np.zeros(0),
            samples=4,
            average_low=-scale / 2,
            average_high=scale,
            method="entropy",
            reason="because",
        )
        for name, scale in {"x": 1.0, "a/b.0": 1e-9}.items()
    }
    found = from_record(Store(tmp_path).put("ranges", {}, *to_record(ranges)))
    assert list(found) == ["x", "a/b.0"]
    for name, before in ranges.items():
        after = found[name]
        for field in (
            "count", "low", "high", "not_finite", "samples", "average_low", "average_high",
            "method", "reason",
        ):  # fmt: skip
            assert getattr(after, field) == getattr(before, field)
        for field in ("mean", "mean_square"):
            np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
        for field in ("sample", "extremes"):
            a, b = getattr(after, field), getattr(before, field)
            assert (a.exponent, a.first) == (b.exponent, b.first)
            np.testing.assert_array_equal(a.counts, b.counts)


def seen(values, samples, **changes):
    flat = np.asarray(values, np.float64)
    fields = {
        "count": float(flat.size), "low": flat.min(), "high": flat.max(), "not_finite": 1,
        "sample": histogram(flat), "extremes": histogram(flat[:2]), "samples": samples,
        "mean": np.array([flat.mean()]), "mean_square": np.array([np.square(flat).mean()]),
        "average_low": flat.min(), "average_high": flat.max(), "method": "entropy",
    }  # fmt: skip
    return TensorRange(**{**fields, **changes})


def test_joined_ranges_are_those_of_all_elements():
    a, b = seen([1.0, 2.0, 3.0, 6.0], 1), seen([-1.0, 1.0], 3)
    both = joined(a, b)
    assert (both.count, both.low, both.high, both.not_finite, both.samples) == (6, -1, 6, 2, 4)
    assert (both.average_low, both.average_high) == (-0.5, 2.25)  # (1 − 3)/4 and (6 + 3)/4
    assert both.mean == pytest.approx(12 / 6)
    assert both.mean_square == pytest.approx(52 / 6)
    expected = histogram(np.array([1.0, 2.0, 3.0, 6.0])).merge(histogram(np.array([-1.0, 1.0])))
    np.testing.assert_array_equal(both.sample.counts, expected.counts)
    assert (both.extremes.total, both.method) == (4, "entropy")


def test_joining_nothing_changes_nothing():
    a, nothing = seen([1.0, 2.0], 1), seen([0.0], 0, count=0.0)
    assert joined(a, nothing) is a
    assert joined(nothing, a) is a


def test_no_finite_element_leaves_the_histograms_of_the_other_as_fine():
    zero = Histogram(0, 0, np.zeros(1))
    nan = seen([0.0], 0, sample=zero, extremes=zero)
    fine = seen([1e-6, 2e-6], 1)
    for both in (joined(fine, nan), joined(nan, fine)):
        assert both.sample.exponent == fine.sample.exponent
        assert (both.low, both.high, both.count) == (1e-6, 2e-6, 3)
        assert (both.average_low, both.average_high) == (1e-6, 2e-6)


def test_other_channels_have_no_means_together():
    other = seen([1.0, 2.0], 1, mean=np.zeros(2), mean_square=np.zeros(2))
    assert joined(seen([1.0, 2.0], 1), other).mean.size == 0


def test_grams_are_read_by_weight_and_may_be_shared(tmp_path):
    places = {"q": {"array": "g0", "rows": 7}, "k": {"array": "g0", "rows": 7}}
    grams = Grams(Store(tmp_path).put("grams", {}, {"weights": places}, {"g0": np.eye(2)[None]}))
    assert (list(grams), len(grams), "v" in grams) == (["q", "k"], 2, False)
    assert grams["k"].rows == 7
    np.testing.assert_array_equal(grams["k"].matrix, [[[1, 0], [0, 1]]])
    assert grams.get("v") is None


def test_gram_matrices_are_told_apart_by_record_or_content(tmp_path):
    store, values = Store(tmp_path), {"weights": {"w": {"array": "g", "rows": 2}}}
    a, b, c = (
        Grams(store.put("grams", {"data": data}, values, {"g": np.eye(2)})) for data in "xxy"
    )
    assert identity(a, "w") == identity(b, "w") != identity(c, "w")
    assert identity(a, "v") is None
    plain = [{"w": Gram(np.eye(2) * k, rows)} for k, rows in ((1, 2), (1, 2), (2, 2), (1, 3))]
    same, equal, *others = (identity(one, "w") for one in plain)
    assert same == equal
    assert same not in others


def test_a_latency_is_found_for_an_equal_node_on_an_equal_machine(tmp_path):
    rows = OpLatencies().added(latency())
    rows.save(tmp_path / "l.json")
    found = OpLatencies.load(tmp_path / "l.json")
    assert found == rows
    assert found.of(KEY, MACHINE) == latency()
    assert found.of(KEY, MACHINE.model_copy(update={"memory_bytes": 9})) == latency()
    assert found.of(KEY.model_copy(update={"threads": 2}), MACHINE) is None
    for change in (
        {"processor": "q"}, {"features": ()}, {"versions": {"onnxruntime": "1.31.1"}},
        {"system": "Linux aarch64"},
    ):  # fmt: skip
        assert found.of(KEY, MACHINE.model_copy(update=change)) is None
    assert [path.name for path in tmp_path.iterdir()] == ["l.json"]


def test_no_file_holds_no_latencies(tmp_path):
    assert OpLatencies.load(tmp_path / "none.json") == OpLatencies()


def test_a_malformed_file_names_the_mistake(tmp_path):
    path = tmp_path / "l.json"
    path.write_text('{"schema_number": 4, "rows": [{"key": 3}]}')
    with pytest.raises(
        DataError, match=r"l.json holds no operator latencies: rows.0.key: .*\n  Re"
    ):
        OpLatencies.load(path)
