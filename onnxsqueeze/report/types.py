"""The report: all numbers that are shown, and nothing computed later."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from onnxsqueeze.facts.records import Change, Machine, Validation


class Data(BaseModel):
    """Base of all rows: frozen; an unknown field is an error; infinity is written as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class ModelSummary(Data):
    """What a model file is."""

    path: str
    sha256: str
    size_bytes: int
    nodes: int
    parameters: int
    multiply_adds: int | None
    opset: int
    producer: str
    operators: dict[str, int]
    bytes_by_cause: dict[str, int]


class Distribution(Data):
    """A weight's histogram and the densities fitted to it, at ``centers``; ``fits`` by name.

    ``distances`` are the Kolmogorov-Smirnov distances of the parametric fits, 0 to 1.
    """

    centers: tuple[float, ...]
    density: tuple[float, ...]
    fits: dict[str, tuple[float, ...]]
    best_fit: str
    distances: dict[str, float] = {}


class WeightRow(Data):
    """One initializer: what it was, what became of it, and why.

    ``damage`` is the measured relative output error energy of the tried 4-bit form, None if it was
    not tried.
    """

    name: str
    node: str
    operator: str
    shape: tuple[int, ...]
    bytes_before: int
    bytes_after: int
    form: str
    bits: int
    zeros_fraction: float
    sqnr_db: float | None
    damage: float | None
    reason: str
    distribution: Distribution | None = None


class ActivationRow(Data):
    """One activation tensor's grid from ``low`` to ``high``, and what was seen of the tensor.

    Nothing was seen of a tensor whose axis the plan scales: the original has other values there.
    """

    name: str
    low: float
    high: float
    minimum: float | None
    maximum: float | None
    reason: str
    distribution: Distribution | None = None


class WidthRow(Data):
    """One group of channels, neurons or heads: how many of them were kept, and why."""

    name: str
    kept: int
    count: int
    reason: str


class ScalingRow(Data):
    """One axis whose entries are divided by ``low`` to ``high``; what reads it is multiplied.

    ``inserted`` tells that a product of its own divides; otherwise constants that are there do.
    """

    name: str
    entries: int
    low: float
    high: float
    inserted: bool
    reason: str


class FrozenRow(Data):
    """Axes of a weight that cannot be cut, and why."""

    weight: str
    axes: tuple[int, ...]
    reason: str


class LeftAlone(Data):
    """What was not touched, and why."""

    subject: str
    reason: str


class Report(Data):
    """Everything that compress, validate or inspect has to say; see the field names.

    ``files`` tells where the written files are, by what they are ("model", "report").
    """

    schema_number: Literal[1] = 1
    kind: Literal["compress", "validate", "inspect"]
    version: str
    created: str
    command: str
    seconds: dict[str, float]
    original: ModelSummary
    result: ModelSummary | None
    verdict: Literal["met", "not met", "unchanged", "none"]
    headline: str
    max_drop: float | None
    metric: str | None
    validation: Validation | None
    weights: tuple[WeightRow, ...]
    activations: tuple[ActivationRow, ...]
    widths: tuple[WidthRow, ...] = ()
    scalings: tuple[ScalingRow, ...] = ()
    frozen: tuple[FrozenRow, ...] = ()
    left_alone: tuple[LeftAlone, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    data: str | None
    calibration_samples: int
    evaluation_samples: int
    machine: Machine | None
    files: dict[str, str] = {}
