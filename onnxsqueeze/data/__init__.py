"""Samples: what a model is fed with while it is measured."""

from __future__ import annotations

from onnxsqueeze.data.images import ImageSettings
from onnxsqueeze.data.opening import open_samples
from onnxsqueeze.data.samples import Samples, split
from onnxsqueeze.data.settings import DataSettings
from onnxsqueeze.data.synthetic import synthetic_samples

__all__ = [
    "DataSettings",
    "ImageSettings",
    "Samples",
    "open_samples",
    "split",
    "synthetic_samples",
]
