"""Samples on both sides are counted, and refused where nothing else is measured on."""

from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.data import open_samples
from onnxsqueeze.data.leakage import check_separate, leakage_note, shared
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec

SPECS = [InputSpec("x", np.dtype("float32"), ("N", 3))]


def samples(*values, labels=None):
    arrays = {"x": np.array([[[value] * 3] for value in values], np.float32)}
    return open_samples(arrays, SPECS, labels=labels)


def test_samples_are_compared_by_their_values():
    calibration = samples(1, 2, 3, labels=np.arange(3))
    # Another order, other labels, and one twice.
    assert shared(calibration, samples(3, 4, 1, 1, labels=np.zeros(4, int))) == 3
    assert shared(calibration, samples(4, 5)) == 0


def test_a_part_is_told_and_the_whole_refused():
    calibration = samples(1, 2, 3)
    some, every = samples(3, 4), samples(2, 1)

    check_separate(calibration, some)
    assert leakage_note(calibration, some).startswith(
        "1 of 2 samples that are measured on equal samples that were calibrated on"
    )
    assert leakage_note(calibration, samples(4)) == ""
    with pytest.raises(DataError, match="the same samples are given to calibrate on and"):
        check_separate(calibration, every)


def test_digests_make_the_fingerprint_and_are_per_sample():
    one, other = samples(1, 2), samples(2, 1)
    assert one.digests == other.digests[::-1]
    assert one.fingerprint != other.fingerprint
