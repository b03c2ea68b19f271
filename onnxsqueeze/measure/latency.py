"""Latency: original and result run in turns, so that whatever else the machine does hits both.

A ratio of blocks of runs was off by up to 19% on an idle machine; the median of the ratios of
paired, interleaved runs by at most 1.6%, and with thread CPU time by 1.5% on a machine under three
times its load. Differences under 3% are called ``same``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir

from onnxsqueeze.data.samples import Samples
from onnxsqueeze.errors import DataError
from onnxsqueeze.facts.records import Interval, Latency
from onnxsqueeze.numerics.statistics import Estimate, median_interval
from onnxsqueeze.runtime import ort

FEEDS = 8
"""Different samples that are used in turn, evenly spaced."""
LEAST_SECONDS = 1.0
"""All pairs together take at least about this long: a pair is repeated runs of a fast model."""
LEAST_PAIRS = 3
"""Pairs that are run even if the time is up."""
SAME = 0.03
"""Relative difference under which nothing is claimed."""

Timing = tuple[float, float]


def latency(
    original: ir.Model | Path | bytes,
    result: ir.Model | Path | bytes,
    samples: Samples,
    *,
    provider: str = "cpu",
    threads: int = 1,
    pairs: int = 15,
    seconds: float = 60.0,
) -> Latency:
    """Return interleaved timings of both models and the median of their paired ratios.

    Each pair uses one feed; the order within a pair alternates. With one thread on the CPU the
    verdict is by thread CPU time, which other programs disturb least; else by wall time. Each
    model first runs once on every feed that is used.

    Args:
        original: The model whose time is the numerator.
        result: The model whose time is the denominator.
        samples: At least one; up to 8 of them are used.
        provider: Execution provider of both.
        threads: Threads of each session.
        pairs: Number of pairs, fewer where the time is up, but at least 3.
        seconds: Limit of the whole measurement, as far as the warm-up and 3 pairs allow.

    Raises:
        DataError: If there is no sample.
        ModelError: If one of the models does not load or run.
        ValueError: If ``pairs`` is under 3.
    """
    if pairs < LEAST_PAIRS:
        raise ValueError(f"pairs must be at least {LEAST_PAIRS}, not {pairs}")
    if len(samples) == 0:
        raise DataError("latency needs samples, and there are 0\n  Give at least one.")
    end = time.perf_counter() + seconds
    made = [ort.session(model, threads=threads, provider=provider) for model in (original, result)]
    feeds = [dict(samples[index]) for index in _spread(len(samples))]
    feeds, once = _warmed(made, feeds, end)
    repeats = max(1, math.ceil(LEAST_SECONDS / (pairs * once)))
    timings: tuple[list[Timing], list[Timing]] = ([], [])
    for index in range(pairs):
        if index >= LEAST_PAIRS and time.perf_counter() > end:
            break
        feed = feeds[index % len(feeds)]
        # A feed that comes again meets the other order, also where the number of feeds is even.
        first = (index + index // len(feeds)) % 2
        for which in (first, 1 - first):
            timings[which].append(_timed(made[which], feed, repeats))
    return _record(timings, provider, threads)


def _spread(count: int) -> list[int]:
    """Return up to 8 sample numbers, evenly spaced."""
    number = min(FEEDS, count)
    return [position * count // number for position in range(number)]


def _warmed(
    made: Sequence[Any], feeds: list[dict[str, Any]], end: float
) -> tuple[list[dict[str, Any]], float]:
    """Run both models on each feed; return the feeds that were reached, and seconds per pair.

    The first run of a session is slower (memory is laid out), so it does not count unless it is
    the only one.
    """
    spent = []
    for index, feed in enumerate(feeds):
        start = time.perf_counter()
        for session in made:
            ort.run(session, feed)
        spent.append(time.perf_counter() - start)
        if time.perf_counter() > end:
            return feeds[: index + 1], min(spent)
    if len(feeds) == 1:
        return feeds, _pair_seconds(made, feeds[0])
    return feeds, min(spent)


def _pair_seconds(made: Sequence[Any], feed: dict[str, Any]) -> float:
    start = time.perf_counter()
    for session in made:
        ort.run(session, feed)
    return time.perf_counter() - start


def _timed(session: Any, feed: dict[str, Any], repeats: int) -> Timing:
    """Return (thread CPU, wall) milliseconds per run, the mean of ``repeats`` runs."""
    wall, cpu = time.perf_counter(), time.thread_time()
    for _ in range(repeats):
        session.run(None, feed)
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    return cpu * 1000 / repeats, wall * 1000 / repeats


def _record(timings: tuple[list[Timing], list[Timing]], provider: str, threads: int) -> Latency:
    (original_cpu, original_wall), (result_cpu, result_wall) = (
        tuple(zip(*timing, strict=True)) for timing in timings
    )
    # A coarse clock may say 0, and an accelerator's time is not on this thread.
    is_cpu = ort.provider_name(provider) == ort.provider_name("cpu")
    by_thread = threads == 1 and is_cpu and min(*original_cpu, *result_cpu) > 0
    before, after = (original_cpu, result_cpu) if by_thread else (original_wall, result_wall)
    speedup = median_interval([a / b for a, b in zip(before, after, strict=True)])
    return Latency(
        provider=provider,
        threads=threads,
        original_ms=original_cpu,
        result_ms=result_cpu,
        original_wall_ms=original_wall,
        result_wall_ms=result_wall,
        speedup=Interval(**speedup._asdict()),
        verdict=verdict(speedup),
    )


def verdict(speedup: Estimate) -> Literal["faster", "same", "slower"]:
    """Return whether a speedup says anything: ``same`` under 3%, or where the interval includes 1.

    Example:
        >>> verdict(Estimate(1.2, 1.1, 1.3)), verdict(Estimate(1.2, 0.9, 1.3))
        ('faster', 'same')
        >>> verdict(Estimate(0.5, 0.4, 0.6)), verdict(Estimate(1.02, 1.01, 1.03))
        ('slower', 'same')
    """
    if abs(speedup.value - 1) < SAME or speedup.low <= 1 <= speedup.high:
        return "same"
    return "faster" if speedup.value > 1 else "slower"
