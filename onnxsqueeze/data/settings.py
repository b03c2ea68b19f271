"""Where samples come from, as the user says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsqueeze.data.images import ImageSettings
from onnxsqueeze.data.opening import Source

MOST_SAMPLES = 1024
"""More samples than this change no range and no rounding; they only take time."""


@dataclass(frozen=True)
class DataSettings:
    """Samples to calibrate on and to measure on.

    Attributes:
        source: Calibration samples, as ``open_samples`` takes them; None for random ones.
        evaluation: Samples to measure on; None holds out a part of ``source``.
        labels: Labels of ``source``.
        evaluation_labels: Labels of ``evaluation``.
        images: How images become arrays, where a source is a folder of images.
        limit: Most samples that are taken of each source, evenly spaced.
        held_out: Fraction of ``source`` that is held out where there is no ``evaluation``.
        seed: Seed of the split and of random samples.
    """

    source: Source | None = None
    evaluation: Source | None = None
    labels: str | Path | Any | None = None
    evaluation_labels: str | Path | Any | None = None
    images: ImageSettings | None = None
    limit: int = MOST_SAMPLES
    held_out: float = 0.3
    seed: int = 0
