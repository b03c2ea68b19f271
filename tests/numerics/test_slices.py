"""Outputs of several scales: found along the right axis, and each scale held against itself."""

from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.numerics.metrics import metric_named
from onnxsqueeze.numerics.slices import scales

PLACES = 50
CLASSES = 6


def detector(seed, *, pixels=640.0):
    """Boxes and rare scores of one picture, (1, 4 + classes, places)."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0.2, 1.0, (1, 4, PLACES)) * pixels
    chance = 10.0 ** -np.arange(1, 1 + CLASSES)[None, :, None]  # from common to very rare
    scores = chance * rng.uniform(0.5, 1.0, (1, CLASSES, PLACES))
    return np.concatenate([boxes, scores], axis=1)


def drop(original, result, looks):
    metric = metric_named("auto", [{"y": look} for look in looks])
    whole, lost, _ = metric.score({"y": original}, {"y": result}, None).T
    return metric.name, float((lost / whole).max())


def test_boxes_and_scores_are_two_scales_however_rare_some_classes_are():
    found = scales([detector(seed) for seed in range(3)])

    assert found is not None
    assert (found.axis, found.dim) == (1, 4 + CLASSES)
    assert [group.tolist() for group in found.groups] == [list(range(4, 10)), [0, 1, 2, 3]]


def test_the_axis_may_be_the_last():
    found = scales([np.swapaxes(detector(seed), 1, 2) for seed in range(3)])

    assert found is not None
    assert found.axis == 2


def test_boxes_as_fractions_of_the_picture_are_cut_from_the_scores():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0.2, 1.0, (1, 4, PLACES))
    scores = rng.uniform(0.0, 0.02, (1, CLASSES, PLACES))

    found = scales([np.concatenate([boxes, scores], axis=1)])

    assert found is not None
    assert [group.tolist() for group in found.groups] == [list(range(4, 10)), [0, 1, 2, 3]]


def test_lost_scores_are_a_loss_of_all_although_boxes_are_right():
    looks = [detector(seed) for seed in range(5)]
    result = looks[0].copy()
    result[:, 4:] = 0
    signal = np.square(looks[0])

    name, lost = drop(looks[0], result, looks)

    assert signal[:, 4:].sum() / signal.sum() < 1e-6  # what energy alone would call lost
    assert lost == pytest.approx(1.0)
    assert "of 2 scales" in name


def test_each_scale_has_its_own_energy():
    looks = [detector(seed) for seed in range(5)]
    result = looks[0].copy()
    result[:, 4:] *= 1.1

    # An error of 10% of every value of a scale is 1% of its energy.
    assert drop(looks[0], result, looks)[1] == pytest.approx(0.01)


def test_equal_outputs_lose_nothing():
    looks = [detector(seed) for seed in range(5)]
    assert drop(looks[0], looks[0], looks)[1] == 0


@pytest.mark.parametrize(
    "look",
    [
        np.ones((1, 4, 10)),
        np.geomspace(1, 1e6, 64)[None, :, None] * np.ones((1, 64, 10)),  # no gap: a spectrum
        np.array([[1.0], [1000.0]]),  # two samples of a batch
        np.zeros((1, 4, 10)),
        np.array([[0.5, 0.2, 0.3]]),
        np.linspace(1, 1e4, 200)[None],  # an axis too wide
        np.full((1, 2, 0), 1.0),
        np.array(3.0),
    ],
)
def test_one_scale_is_not_cut(look):
    assert scales([look]) is None


def test_scales_that_change_places_between_samples_are_none():
    small, large = np.ones((1, 1, 5)), np.full((1, 1, 5), 100.0)
    looks = [np.concatenate(pair, axis=1) for pair in ((small, large), (large, small))]
    assert scales([looks[0]]) is not None
    assert scales([looks[0] * 100, looks[1]]) is None


def test_entries_of_zeros_go_with_the_smallest_scale():
    look = np.ones((1, 4, 5)) * np.array([0.0, -300.0, -2.0, 200.0])[None, :, None]
    found = scales([look])
    assert found is not None
    assert [group.tolist() for group in found.groups] == [[0, 2], [1, 3]]


def test_axis_whose_size_changes_is_none():
    assert scales([np.array([[1.0, 100.0]]), np.array([[1.0, 100.0, 1.0]])]) is None


def test_output_of_another_shape_is_a_loss_of_all():
    looks = [detector(seed) for seed in range(5)]
    metric = metric_named("auto", [{"y": look} for look in looks])
    lost = metric.score({"y": looks[0]}, {"y": looks[0][:, :5]}, None)[:, 1]
    assert np.isinf(lost).all()


def test_not_finite_values_do_not_decide():
    look = detector(0)
    look[0, 0, 0], look[0, 5, 0] = np.inf, np.nan
    found = scales([look])
    assert found is not None
    assert len(found.groups) == 2
