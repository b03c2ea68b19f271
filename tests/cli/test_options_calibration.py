"""``--calibration`` reaches the target."""

from __future__ import annotations

from typing import get_args

import pytest

from onnxsqueeze.cli import options
from onnxsqueeze.config import Calibration, Target


@pytest.mark.parametrize("method", get_args(Calibration))
def test_calibration_is_part_of_the_target(method: str) -> None:
    assert options.target({"calibration": method}).calibration == method


def test_without_it_all_tensors_get_the_same() -> None:
    assert options.target({}).calibration == Target().calibration == "density"
