"""Post-training compression of ONNX files within a measured accuracy budget.

Example:
    Compress a model on calibration samples, losing at most 1%::

        from pathlib import Path
        import onnxsqueeze

        made = onnxsqueeze.compress(
            Path("model.onnx"),
            Path("small.onnx"),
            onnxsqueeze.DataSettings("samples.npz"),
            budget=onnxsqueeze.Budget(max_drop=0.01),
        )
        print(made.report.headline)
"""

from __future__ import annotations

__version__ = "0.5.0"

from onnxsqueeze.api import (
    Compressed,
    apply,
    carry_out,
    compress,
    inspect,
    load,
    measure,
    plan,
    read_report,
    validate,
)
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings, ImageSettings, Samples, open_samples
from onnxsqueeze.errors import (
    BudgetError,
    DataError,
    DependencyError,
    ModelError,
    OutputError,
    PlanError,
    ProviderError,
    SqueezeError,
    VerificationError,
)
from onnxsqueeze.measure.load import Loaded
from onnxsqueeze.plan.types import ActivationChoice, Plan, UnitsChoice, WeightChoice
from onnxsqueeze.report.types import Report
from onnxsqueeze.search import Trial
from onnxsqueeze.stages import Measured

__all__ = [
    "ActivationChoice",
    "Budget",
    "BudgetError",
    "Compressed",
    "DataError",
    "DataSettings",
    "DependencyError",
    "ImageSettings",
    "Limits",
    "Loaded",
    "Measured",
    "ModelError",
    "OutputError",
    "Plan",
    "PlanError",
    "ProviderError",
    "Report",
    "Samples",
    "SqueezeError",
    "Target",
    "Trial",
    "UnitsChoice",
    "VerificationError",
    "WeightChoice",
    "__version__",
    "apply",
    "carry_out",
    "compress",
    "inspect",
    "load",
    "measure",
    "open_samples",
    "plan",
    "read_report",
    "validate",
]
