"""The records of what was measured or done: plain data, one class per kind of measurement."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of all records: frozen; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(Record):
    """The machine, engine and provider that a measurement was made with."""

    processor: str
    features: tuple[str, ...]
    cores: int
    memory_bytes: int
    system: str
    versions: dict[str, str]
    providers: tuple[str, ...]


class Provenance(Record):
    """Where a record comes from; it is reused only where this is equal (but for ``created``)."""

    model_sha256: str
    data_sha256: str | None
    settings: dict[str, str | int | float | bool | None]
    machine: Machine
    created: str


class Change(Record):
    """One thing that was done to the graph, or tried and undone, or left alone.

    Attributes:
        step: The pass or step, in words of the command line.
        subject: Name of the tensor or node.
        outcome: Whether it was done, undone after a failed check, or left alone from the start.
        before: What was there, for the reader.
        after: What is there now; for ``left alone`` and ``undone`` the reason.
    """

    step: str
    subject: str
    outcome: Literal["done", "undone", "left alone"]
    before: str
    after: str


class Interval(Record):
    """An estimate with its 95% confidence interval."""

    value: float
    low: float
    high: float


class Fidelity(Record):
    """The result held against the original on the same samples.

    Attributes:
        metric: Name of the metric; for ``auto`` with what it became for each output.
        optimization: ``default`` for sessions as users make them, ``off`` for the graph as
            written.
        samples: Number of samples.
        original: The metric of the original.
        result: The metric of the result.
        drop: The fraction of the original's value that was lost; negative for a gain.
        sqnr_db: Signal to quantization noise ratio per output, in dB; infinite is stored as 999.
        scores_original: Metric per sample.
        scores_result: Metric per sample.
    """

    metric: str
    provider: str
    optimization: Literal["default", "off"]
    samples: int
    original: float
    result: float
    drop: Interval
    sqnr_db: dict[str, float]
    scores_original: tuple[float, ...]
    scores_result: tuple[float, ...]


class Latency(Record):
    """Interleaved timings of original and result.

    Attributes:
        original_ms: Thread CPU time per run, in milliseconds, all runs.
        result_ms: The same of the result, paired with ``original_ms``.
        original_wall_ms: Wall time per run.
        result_wall_ms: Wall time per run.
        speedup: Median of the paired ratios original / result (over 1 is faster), with its
            interval.
        verdict: ``same`` where the interval includes no difference over 3%.
    """

    provider: str
    threads: int
    original_ms: tuple[float, ...]
    result_ms: tuple[float, ...]
    original_wall_ms: tuple[float, ...]
    result_wall_ms: tuple[float, ...]
    speedup: Interval
    verdict: Literal["faster", "same", "slower"]


class Placement(Record):
    """Which provider runs how many nodes of a model's optimized graph, by operator."""

    optimized_operators: dict[str, int]
    providers: dict[str, dict[str, int]]


class Coverage(Record):
    """Planned against done: decisions of one form, read back from the optimized graph."""

    form: str
    planned: int
    done: int
    missing: tuple[str, ...]


class Validation(Record):
    """Everything that was measured about a pair of models."""

    fidelity: tuple[Fidelity, ...]
    latency: tuple[Latency, ...]
    placement_original: Placement
    placement_result: Placement
    coverage: tuple[Coverage, ...]
    original_bytes: int
    result_bytes: int
    original_load_ms: float
    result_load_ms: float
    machine: Machine
