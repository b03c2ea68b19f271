from __future__ import annotations

import itertools
import math

import ml_dtypes
import numpy as np
import pytest

from onnxsqueeze.errors import DataError
from onnxsqueeze.numerics.flips import expected_flips
from onnxsqueeze.numerics.metrics import error_energy, metric_named, output_kinds
from onnxsqueeze.numerics.own_metric import imported

LOGITS = np.array([[1.0, 2.0, 0.0], [5.0, -1.0, 0.0]])
SOFTMAX = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])
MASK = np.array([0.9, 0.8, 0.1, 0.2])


@pytest.mark.parametrize(
    ("outputs", "kinds"),
    [
        ({"y": SOFTMAX}, {"y": "classes"}),
        ({"y": SOFTMAX[None]}, {"y": "classes"}),
        ({"y": SOFTMAX.astype(np.float16)}, {"y": "classes"}),
        ({"y": LOGITS}, {"y": "classes"}),
        ({"y": LOGITS.astype(ml_dtypes.bfloat16)}, {"y": "classes"}),
        ({"y": LOGITS, "n": np.array([1, 0])}, {"y": "classes", "n": "labels"}),
        # Two outputs of floats: neither is known to be the class scores.
        ({"y": LOGITS, "z": LOGITS}, {"y": "values", "z": "values"}),
        # Rows of length 1 are embeddings; a distribution of length 1 is still one.
        ({"y": LOGITS / np.linalg.norm(LOGITS, axis=1)[:, None]}, {"y": "values"}),
        ({"y": np.eye(3)}, {"y": "classes"}),
        ({"y": LOGITS[None]}, {"y": "values"}),
        ({"y": LOGITS[:, :2]}, {"y": "values"}),
        ({"y": MASK}, {"y": "probabilities"}),
        ({"y": np.array([np.nextafter(np.float32(1), np.float32(2)), 0])}, {"y": "probabilities"}),
        # Two over 0.5 in a row of one output are labels side by side; one may be the class.
        ({"y": np.array([[0.9, 0.7, 0.1]])}, {"y": "probabilities"}),
        ({"y": np.array([[0.9, 0.3, 0.1]])}, {"y": "classes"}),
        ({"y": np.array([[1.9, 0.7, 0.1]])}, {"y": "classes"}),
        ({"y": MASK / 3}, {"y": "values"}),
        ({"y": MASK + 0.5}, {"y": "values"}),
        ({"y": np.array(0.3)}, {"y": "values"}),
        ({"y": np.zeros((0, 4))}, {"y": "values"}),
        ({"y": np.array(["a"], dtype=object)}, {"y": "labels"}),
    ],
)
def test_kind_of_an_output(outputs, kinds):
    assert output_kinds([outputs]) == kinds


def softmax(scores):
    powers = np.exp(scores)
    return powers / powers.sum(axis=-1, keepdims=True)


def test_kind_is_judged_from_all_samples():
    assert output_kinds([{"y": MASK[:2]}, {"y": MASK[2:]}]) == {"y": "probabilities"}
    assert output_kinds([{"y": SOFTMAX[None]}, {"y": LOGITS[None]}]) == {"y": "values"}


def drops(name, original, result, label=None):
    scores = metric_named(name, [original]).score(original, result, label)
    return (scores[:, 1] / scores[:, 0]).tolist()


@pytest.mark.parametrize(
    ("name", "y"),
    [
        *itertools.product(["auto", "mse", "cosine", "top1"], [LOGITS, SOFTMAX, MASK, MASK - 7]),
        *itertools.product(["auto", "top1"], [np.array([1, 2]), np.eye(2) > 0]),
    ],
)
def test_equal_outputs_lose_exactly_nothing(name, y):
    assert not any(drops(name, {"y": y}, {"y": y.copy()}))


def test_values_lose_the_relative_energy():
    assert drops("auto", {"y": np.array([3.0, -4.0])}, {"y": np.array([3.5, -4.0])}) == [0.01]


def test_classes_lose_energy_and_rows_that_move_or_are_expected_to():
    moved = LOGITS.copy()
    moved[0] = [2.0, 1.0, 0.0]

    energy, flips = drops("auto", {"y": LOGITS}, {"y": moved})

    assert energy == 2 / 31
    assert flips == (expected_flips(LOGITS, moved).mean() + 0.5) / 2


def test_the_background_weighs_as_much_as_all_others_together():
    y = np.zeros((1, 100, 3))
    y[0, :, 0] = 9.0
    y[0, :5] = [0.0, 2.0, 1.0]
    other = y + np.where(y == 2.0, -0.5, 0.0)
    flips = expected_flips(y, other) / 2  # none is counted

    _, of_all, balanced = drops("auto", {"y": softmax(y)}, {"y": softmax(other)})

    np.testing.assert_allclose(of_all, flips.sum() / 100, rtol=1e-6)
    behind, ahead = flips[5:].mean(), flips[:5].mean()
    np.testing.assert_allclose(balanced, (behind + ahead) / 2, rtol=1e-6)


def test_probabilities_lose_energy_and_intersection_over_union():
    other = np.array([0.9, 0.4, 0.1, 0.7])  # of {0, 1} and {0, 3}: 1 in both, 3 in one of them

    energy, iou = drops("auto", {"y": MASK}, {"y": other})

    assert iou == 2 / 3
    assert energy == pytest.approx((0.16 + 0.25) / (0.81 + 0.64 + 0.01 + 0.04), rel=1e-12)


def test_labels_lose_unequal_elements():
    assert drops("auto", {"y": np.array([1, 2, 3, 4])}, {"y": np.array([1, 2, 0, 4])}) == [0.25]


@pytest.mark.parametrize("y", [LOGITS, MASK, MASK - 7, np.array([1, 2])])
def test_a_changed_shape_loses_all(y):
    assert set(drops("auto", {"y": y}, {"y": y[None]})) == {math.inf}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("y", [LOGITS, MASK, MASK - 7])
@pytest.mark.parametrize("name", ["auto", "mse", "cosine"])
def test_a_value_that_is_no_number_loses_all(name, y, bad):
    broken = y.copy()
    broken.flat[1] = bad

    assert set(drops(name, {"y": y}, {"y": broken})) == {math.inf}


def test_what_the_original_does_not_say_is_not_held_against_the_result():
    y = np.array([1.0, np.nan, np.inf])

    assert error_energy(y, y) == (0.0, 1.0)
    assert error_energy(y, np.array([1.0, np.nan, -np.inf])) == (math.inf, 1.0)


def test_top1_counts_rows_that_changed_class():
    other = np.array([[9.0, 2.0, 0.0], [5.0, 1.0, 0.0]])

    assert drops("top1", {"y": LOGITS}, {"y": other}) == [0.5]
    assert drops("top1", {"y": LOGITS}, {"y": np.full((2, 3), np.nan)}) == [1.0]
    assert drops("top1", {"y": np.array(["a", "b"])}, {"y": np.array(["a", "c"])}) == [0.5]


def test_accuracy_holds_both_against_the_labels():
    score = metric_named("accuracy", []).score
    other = np.array([[9.0, 2.0, 0.0], [5.0, 1.0, 0.0]])

    lost = score({"y": LOGITS}, {"y": other}, np.array([1, 0]))
    gained = score({"y": LOGITS}, {"y": other}, np.array([0, 0]))

    assert lost.tolist() == [[2, 1, 2]]
    assert gained.tolist() == [[1, -1, 2]]


def test_cosine_is_that_of_the_first_output_of_floats():
    original = {"n": np.array([1]), "y": np.array([1.0, 0.0])}
    result = {"n": np.array([2]), "y": np.array([0.6, 0.8])}

    assert drops("cosine", original, result)[0] == pytest.approx(0.4, abs=1e-15)


def test_mse_is_relative_to_the_mean_square():
    assert drops("mse", {"y": np.array([3.0, 4.0])}, {"y": np.array([3.0, 4.5])}) == [0.01]


def test_a_name_of_the_users_own(tmp_path, monkeypatch):
    text = "def first(outputs, label):\n    return outputs['y'][0] * label\nlow = 3\n"
    (tmp_path / "own_metric_of_test.py").write_text(
        text + "def none(outputs, label): return None\n"
    )
    (tmp_path / "own_metric_broken.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_metric_of_test:first"

    score = metric_named(name, []).score

    assert score({"y": np.array([2.0])}, {"y": np.array([1.5])}, 2).tolist() == [[4.0, 1.0, 1.0]]
    assert score({"y": [2.0]}, {"y": [np.nan]}, 2).tolist() == [[2.0 * 2, np.inf, 1.0]]
    with pytest.raises(DataError, match="gives nan for the original"):
        score({"y": [np.nan]}, {"y": [1.0]}, 2)
    with pytest.raises(DataError, match="is a int, and cannot be called"):
        imported("own_metric_of_test:low", ())
    with pytest.raises(DataError, match="returns NoneType, and must return a number"):
        metric_named("own_metric_of_test:none", []).score({}, {}, None)
    with pytest.raises(DataError, match="cannot be imported: invalid syntax"):
        imported("own_metric_broken:f", ())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "f1",
            r"none of auto, top1, accuracy, cosine, mse, perplexity, divergence, nor",
        ),
        (".a:b", "there is no metric '.a:b'"),
        ("no_such_module_here:f", "cannot be imported: No module named 'no_such_module_here'"),
        ("math:no_such", "cannot be imported: module 'math' has no attribute 'no_such'"),
    ],
)
def test_a_name_that_is_no_metric(name, message):
    with pytest.raises(DataError, match=message):
        metric_named(name, [])


@pytest.mark.parametrize(
    ("name", "y", "label", "message"),
    [
        ("accuracy", LOGITS, np.array([1]), "a label has 1 entries, and the model names 2"),
        (
            "accuracy",
            LOGITS,
            np.array(["a", "b"]),
            "labels are <U1 and the model's classes are in",
        ),
        ("accuracy", np.ones((2, 1)), np.array([1]), r"output 'y' has shape \[2, 1\]"),
        ("top1", np.array(1.0), None, r"metric top1 needs class scores, and output 'y' has shape"),
        ("cosine", np.array([1]), None, r"metric cosine needs an output of floats, .* \['y'\]"),
    ],
)
def test_outputs_that_do_not_fit_the_metric(name, y, label, message):
    with pytest.raises(DataError, match=message):
        metric_named(name, []).score({"y": y}, {"y": y}, label)


def near_constant(count, seed=0):
    rng = np.random.default_rng(seed)
    return [0.99 + 0.001 * rng.normal(size=(1, 2)) for _ in range(count)]


def lost_over(samples, results):
    """The largest drop of any component, over all samples."""
    metric = metric_named("auto", [{"y": y} for y in samples])
    pairs = zip(samples, results, strict=True)
    total = sum(metric.score({"y": y}, {"y": other}, None) for y, other in pairs)
    return float((total[:, 1] / total[:, 0]).max())


def test_a_constant_loses_all_that_tells_samples_apart():
    samples = near_constant(40)
    mean = sum(samples) / len(samples)
    energy = sum(error_energy(y, mean)[0] for y in samples)

    assert energy / sum(np.square(y).sum() for y in samples) < 2e-6
    assert lost_over(samples, [mean] * 40) == pytest.approx(
        1, abs=0.35
    )  # the mean is of the looks
    assert lost_over(samples, samples) == 0


def test_outputs_that_never_differ_and_few_looks_count_by_energy_alone():
    constant = [np.ones((1, 3))] * 8
    assert lost_over(constant, [y * 1.1 for y in constant]) == pytest.approx(0.01)
    few = near_constant(3)
    assert lost_over(few, [y * 1.1 for y in few]) == pytest.approx(0.01)


def test_outputs_of_changing_shape_count_by_energy_alone():
    shapes = [np.full((1, n), float(n)) for n in range(3, 11)]
    assert lost_over(shapes, [y * 1.1 for y in shapes]) == pytest.approx(0.01)
