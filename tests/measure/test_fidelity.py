from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze.errors import DataError, ModelError, OutputError
from onnxsqueeze.facts.records import Interval
from onnxsqueeze.measure.fidelity import fidelity, fidelity_against, reference
from onnxsqueeze.runtime import ort
from tests.measure.pairs import BIASED, INVERSE, LINEAR, SCORES, SHRUNK, samples, saved

FEEDS = [[[3.0, 1.0]], [[2.0, 2.0]], [[-1.0, 4.0]]]
CLASSES = [[[9.0, 0.0, 0.0]], [[0.0, 9.0, 0.0]], [[0.0, 9.0, 8.0]], [[9.0, 0.0, 8.0]]]


def model(text):
    return ir.from_onnx_text(text)


@pytest.mark.parametrize("optimization", ["default", "off"])
@pytest.mark.parametrize("metric", ["auto", "cosine", "mse", "top1"])
def test_a_model_against_itself_loses_exactly_nothing(metric, optimization):
    given = samples(LINEAR, FEEDS)

    found = fidelity(model(LINEAR), model(LINEAR), given, metric, optimization=optimization)

    # Three samples that are classified alike leave open that all others are not.
    shown = 1.0 if metric == "top1" else 0.0
    assert found.drop == Interval(value=0.0, low=0.0, high=shown)
    assert found.sqnr_db == {"y": 999.0}
    assert (found.original, found.result, found.samples) == (1.0, 1.0, 3)
    assert found.scores_original == found.scores_result == (1.0, 1.0, 1.0)
    assert found.optimization == optimization


def test_error_energy_is_summed_over_the_samples():
    """Column 2 is off by a tenth: lost 0.01 (1 + 4 + 16) of 10 + 8 + 17."""
    found = fidelity(model(LINEAR), model(SHRUNK), samples(LINEAR, FEEDS))

    assert found.metric == "auto (y: values)"
    # float32 holds 0.9 to 2.4e-8 and rounds each product once more: 1e-6 of an error of 0.1.
    assert found.drop.value == pytest.approx(0.21 / 35, rel=2e-6)
    assert found.sqnr_db["y"] == pytest.approx(10 * np.log10(35 / 0.21), abs=1e-5)
    assert found.original - found.result == pytest.approx(found.drop.value, rel=1e-12)
    assert found.scores_result == pytest.approx([1 - 0.001, 1 - 0.005, 1 - 0.16 / 17], rel=1e-7)
    # No resample can lose more than the worst sample alone, nor less than the best.
    assert 0.001 * 0.999 <= found.drop.low < found.drop.value < found.drop.high <= 0.0095


def test_classes_that_moved_are_counted():
    """Adding 2 to the third score moves the argmax of the last two samples of four."""
    found = fidelity(model(SCORES), model(BIASED), samples(SCORES, CLASSES))

    assert found.metric == "auto (y: classes)"
    assert 0.25 < found.drop.value < 0.5  # the mean of those counted, a half, and those expected
    assert found.result == pytest.approx(1 - found.drop.value)
    assert max(found.scores_result[2:]) < 0.5 < min(found.scores_result[:2])
    assert found.sqnr_db["y"] == pytest.approx(10 * np.log10((4 * 81 + 2 * 64) / 16))


def test_accuracy_by_labels_may_also_gain():
    # The original names 0, 1, 1, 0, the result 0, 1, 2, 2.
    better = samples(SCORES, CLASSES, labels=np.array([0, 1, 2, 0]))
    worse = samples(SCORES, CLASSES, labels=np.array([0, 1, 1, 0]))

    same = fidelity(model(SCORES), model(BIASED), better, "accuracy")
    lost = fidelity(model(SCORES), model(BIASED), worse, "accuracy")
    gained = fidelity(model(BIASED), model(SCORES), worse, "accuracy")

    assert (same.original, same.result, same.drop.value) == (0.75, 0.75, 0.0)
    assert (lost.original, lost.result, lost.drop.value) == (1.0, 0.5, 0.5)
    assert (gained.original, gained.result, gained.drop.value) == (0.5, 1.0, -1.0)
    assert lost.scores_result == (1.0, 1.0, 0.0, 0.0)


def test_an_original_that_says_zero_has_lost_nothing_by_zero():
    given = samples(LINEAR, [[[0.0, 0.0]]])

    found = fidelity(model(LINEAR), model(SHRUNK), given)

    assert (found.original, found.result, found.drop.value) == (1.0, 1.0, 0.0)


def test_an_infinite_result_loses_all_on_few_samples_too():
    given = samples(LINEAR, [[[1.0, 1.0]]] * 9)

    found = fidelity(model(LINEAR), model(INVERSE), given)

    assert found.drop == Interval(value=1.0, low=1.0, high=1.0)
    assert found.result == 0.0
    assert found.sqnr_db == {"y": -999.0}
    assert found.scores_result == (0.0,) * 9


@pytest.mark.parametrize("memory_bytes", [0, 16, 10**6])
def test_a_reference_gives_the_same_record(memory_bytes):
    given = samples(LINEAR, FEEDS)
    known = reference(model(LINEAR), given, memory_bytes=memory_bytes, seed=3)
    folder = known.spool.path if known.spool else None
    assert (folder is None) == (memory_bytes == 10**6)
    # One output is two float32: 16 bytes are the first two samples.
    if folder:
        assert len(list(folder.iterdir())) == {0: 3, 16: 1}[memory_bytes]

    for result in (SHRUNK, LINEAR, SHRUNK):
        found = fidelity_against(known, model(result))
        assert found == fidelity(model(LINEAR), model(result), given, seed=3)
    del known
    assert folder is None or not folder.exists()


def test_a_full_disk_is_said(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OutputError, match=r"cannot be kept in .*: No space left on device"):
        reference(model(LINEAR), samples(LINEAR, FEEDS), memory_bytes=0)


def test_progress_counts_samples():
    told = []

    fidelity(
        model(LINEAR),
        model(LINEAR),
        samples(LINEAR, FEEDS),
        optimization="off",
        progress=lambda *news: told.append(news),
    )

    assert told == [("fidelity as written", done, 3) for done in (1, 2, 3)]


def test_files_and_sizes_of_batch_may_differ(tmp_path):
    given = samples(LINEAR, [[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]])

    found = fidelity(saved(tmp_path, "a", LINEAR), saved(tmp_path, "b", SHRUNK), given)

    assert found.drop.value == pytest.approx(0.01 * (4 + 4 + 16) / (5 + 5 + 25), rel=2e-6)


def test_refusals():
    with pytest.raises(DataError, match="metric accuracy needs labels, and the samples have none"):
        fidelity(model(SCORES), model(SCORES), samples(SCORES, CLASSES), "accuracy")
    with pytest.raises(DataError, match="fidelity needs samples, and there are 0"):
        fidelity(model(LINEAR), model(LINEAR), samples(LINEAR, FEEDS)[:0])
    renamed = LINEAR.replace("[N, 2] y", "[N, 2] z").replace("y =", "z =")
    with pytest.raises(ModelError, match="the model does not run"):
        fidelity(model(LINEAR), model(renamed), samples(LINEAR, FEEDS))


@pytest.mark.parametrize("optimization", ["default", "off"])
def test_both_models_run_under_the_conditions_asked_for(optimization, monkeypatch):
    asked, make = [], ort.session

    def noted(model, **options):
        asked.append(options)
        return make(model, **options)

    monkeypatch.setattr(ort, "session", noted)

    found = fidelity(
        model(LINEAR),
        model(SHRUNK),
        samples(LINEAR, FEEDS),
        optimization=optimization,
        threads=2,
    )

    low_memory = optimization == "off"
    expected = {"optimization": optimization, "threads": 2, "provider": "cpu"}
    assert asked == [{**expected, "low_memory": low_memory}] * 2
    assert (found.optimization, found.provider) == (optimization, "cpu")


def test_upper_end_over_counted_decisions_is_what_the_samples_leave_open():
    many = samples(SCORES, [[[1.0 + n, 0.0, 0.0]] for n in range(40)])

    top1 = fidelity(model(SCORES), model(SCORES), many, "top1").drop
    energy = fidelity(model(SCORES), model(SCORES), many, "mse").drop

    assert (top1.value, top1.high) == (0.0, 3 / 40)
    assert energy.high == 0.0
