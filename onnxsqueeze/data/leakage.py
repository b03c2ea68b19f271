"""Leakage: samples that are measured on and were calibrated on, too, flatter the result."""

from __future__ import annotations

from onnxsqueeze.data.samples import Samples
from onnxsqueeze.errors import DataError


def shared(calibration: Samples, evaluation: Samples) -> int:
    """Return how many of the evaluation samples are calibration samples, by their values.

    Labels, order and the files that they lie in do not count. Images are told by their files.
    """
    known = set(calibration.digests)
    return sum(digest in known for digest in evaluation.digests)


def check_separate(calibration: Samples, evaluation: Samples) -> None:
    """Refuse evaluation samples that were all calibrated on: nothing would be measured with them.

    Raises:
        DataError: If there is none that is not a calibration sample.
    """
    every = len(evaluation)
    if shared(calibration, evaluation) == every:
        raise DataError(
            "the same samples are given to calibrate on and to measure on\n"
            f"  All {every} of {evaluation.source} are among those of {calibration.source}.\n"
            "  Leave the evaluation samples out: a part of the others is then held out."
        )


def leakage_note(calibration: Samples, evaluation: Samples) -> str:
    """Return what to tell of samples that are on both sides; empty where there are none."""
    count = shared(calibration, evaluation)
    if not count:
        return ""
    return (
        f"{count} of {len(evaluation)} samples that are measured on equal samples that were "
        "calibrated on: on those the result looks better than it is"
    )
