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
        noise_floor: Relative difference under which nothing is claimed: 3%, or what the original
            differed from itself.
        again_ms: Wall time per run of the original in a second session, paired with the others;
            empty where thread CPU time decides, which other programs hardly disturb.
        verdict: ``same`` where the difference is under the floor, or its interval includes none.
    """

    provider: str
    threads: int
    original_ms: tuple[float, ...]
    result_ms: tuple[float, ...]
    original_wall_ms: tuple[float, ...]
    result_wall_ms: tuple[float, ...]
    speedup: Interval
    noise_floor: float = 0.03
    again_ms: tuple[float, ...] = ()
    verdict: Literal["faster", "same", "slower"]


class Placement(Record):
    """Which provider runs how many nodes of a model's optimized graph, by operator.

    Attributes:
        optimized_operators: Operators of the graph as the CPU provider optimizes it.
        providers: Nodes per provider and operator, as they were assigned.
        milliseconds: Time of one run per provider and operator, of the kernels that really ran;
            empty where nothing was run. It is the host's time: what an accelerator does after
            its kernel was launched counts where the host waits for it.
    """

    optimized_operators: dict[str, int]
    providers: dict[str, dict[str, int]]
    milliseconds: dict[str, dict[str, float]] = {}

    @property
    def time_shares(self) -> dict[str, float]:
        """The part of a run's kernel time that each provider takes; they sum to 1.

        Example:
            >>> ms = {"A": {"Conv": 3.0}, "B": {"Relu": 0.5, "Cast": 0.5}}
            >>> Placement(optimized_operators={}, providers={}, milliseconds=ms).time_shares
            {'A': 0.75, 'B': 0.25}
        """
        sums = {name: sum(times.values()) for name, times in self.milliseconds.items()}
        total = sum(sums.values())
        return {name: spent / total for name, spent in sums.items()} if total else {}


class Placed(Record):
    """Where a pair of models runs when a provider is asked for."""

    provider: str
    original: Placement
    result: Placement


class Footprint(Record):
    """Memory of a fresh process that loads a model and runs it.

    Attributes:
        resident_bytes: What stays resident once the model is loaded, over what was before.
        peak_bytes: The most that was resident at any time, over what was before.
    """

    resident_bytes: int
    peak_bytes: int


class Memory(Record):
    """Footprints of a pair of models on one provider."""

    provider: str
    original: Footprint
    result: Footprint


class Coverage(Record):
    """Planned against done: decisions of one form, read back from the optimized graph."""

    form: str
    planned: int
    done: int
    missing: tuple[str, ...]


class Validation(Record):
    """Everything that was measured about a pair of models.

    Fidelity, latency, placements and memory have entries for each provider that was asked for, the
    one that decides first; ``placement_original`` and ``placement_result`` are that one's.
    """

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
    placements: tuple[Placed, ...] = ()
    memory: tuple[Memory, ...] = ()

    @property
    def drop_high(self) -> float:
        """The pessimistic end of the drop, as users make sessions, on the worst provider."""
        return max(one.drop.high for one in self.fidelity if one.optimization == "default")
