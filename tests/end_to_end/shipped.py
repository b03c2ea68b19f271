"""The shipped models, their samples, and what is measured of a file apart from the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from onnxsqueeze import api
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings

Array = npt.NDArray[Any]
MODELS = Path(__file__).resolve().parents[2] / "models"
NAMES = ("digits_mlp", "digits_cnn")
LIMIT = 96
"""Samples used where their number does not matter."""


@dataclass(frozen=True)
class Shipped:
    """One folder of ``models/``."""

    name: str

    def __post_init__(self) -> None:
        if not self.model.is_file():
            pytest.skip(f"models/{self.name} is not here")

    @property
    def model(self) -> Path:
        return MODELS / self.name / "model.onnx"

    @property
    def calibration(self) -> str:
        return str(MODELS / self.name / "calib.npz")

    @property
    def evaluation(self) -> str:
        return str(MODELS / self.name / "eval.npz")

    def logits(self, path: Path) -> Array:
        """What the model in a file gives for the evaluation rows."""
        with np.load(self.evaluation) as archive:
            images = archive["image"][:, 0]
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"image": images})[0])

    def labels(self) -> Array:
        with np.load(self.evaluation) as archive:
            return np.asarray(archive["labels"])

    def compressed(
        self,
        folder: Path,
        data: DataSettings | None = None,
        *,
        budget: Budget | None = None,
        objective: str = "size",
        portable: bool = False,
        limits: Limits | None = None,
    ) -> api.Compressed:
        """Compress into a folder, for size unless told otherwise."""
        settings = data or DataSettings(source=self.calibration, limit=LIMIT)
        target = Target.model_validate({"objective": objective, "portable": portable})
        output = folder / f"{self.name}.onnx"
        return api.compress(
            self.model, output, settings, budget=budget, target=target, limits=limits
        )
