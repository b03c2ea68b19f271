"""Latency: original and result run in turns, so that whatever else the machine does hits both.

A ratio of blocks of runs was off by up to 19% on an idle machine; the median of the ratios of
paired, interleaved runs by at most 1.6%, and with thread CPU time by 1.5% on a machine under three
times its load. Differences under 3% are called ``same``. Where wall time has to decide, the
original is timed in a second session, too, and no less than it differs from itself is the floor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir

from onnxsqueeze.config import Provider
from onnxsqueeze.data.samples import Samples
from onnxsqueeze.errors import DataError
from onnxsqueeze.facts.records import Interval, Latency
from onnxsqueeze.numerics.statistics import Estimate, median_interval
from onnxsqueeze.runtime import ort, providers

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
    provider: str | Provider = "cpu",
    threads: int = 1,
    pairs: int = 15,
    seconds: float = 60.0,
) -> Latency:
    """Return interleaved timings of both models and the median of their paired ratios.

    Each pair uses one feed; the order within a pair alternates. With one thread on the CPU the
    verdict is by thread CPU time, which other programs disturb least; else by wall time, beside
    which a second session of the original is timed. Each model first runs once on every feed that
    is used.

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
    by_thread = threads == 1 and providers.is_cpu(provider)
    models = (original, result) if by_thread else (original, result, original)
    made = [ort.session(model, threads=threads, provider=provider) for model in models]
    feeds = [dict(samples[index]) for index in _spread(len(samples))]
    feeds, once = _warmed(made, feeds, end)
    repeats = max(1, math.ceil(LEAST_SECONDS / (pairs * once)))
    timings: tuple[list[Timing], ...] = tuple([] for _ in made)
    order = list(range(len(made)))
    for index in range(pairs):
        if index >= LEAST_PAIRS and time.perf_counter() > end:
            break
        feed = feeds[index % len(feeds)]
        # A feed that comes again meets the other order, also where the number of feeds is even.
        turned = (index + index // len(feeds)) % 2
        for which in reversed(order) if turned else order:
            timings[which].append(_timed(made[which], feed, repeats))
    return _record(timings, providers.named(provider).name, threads, by_thread=by_thread)


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


def _record(
    timings: Sequence[Sequence[Timing]], provider: str, threads: int, *, by_thread: bool
) -> Latency:
    cpu, wall = (
        [tuple(run[clock] for run in of_model) for of_model in timings] for clock in (0, 1)
    )
    # A coarse clock may say 0.
    times = cpu if by_thread and min(map(min, cpu)) > 0 else wall
    speedup = _ratio(times[0], times[1])
    again = wall[2] if len(wall) > 2 else ()
    floor = noise_floor(_ratio(times[0], times[2])) if again else SAME
    return Latency(
        provider=provider,
        threads=threads,
        original_ms=cpu[0],
        result_ms=cpu[1],
        original_wall_ms=wall[0],
        result_wall_ms=wall[1],
        speedup=Interval(**speedup._asdict()),
        noise_floor=floor,
        again_ms=again,
        verdict=verdict(speedup, floor),
    )


def _ratio(before: Sequence[float], after: Sequence[float]) -> Estimate:
    return median_interval([a / b for a, b in zip(before, after, strict=True)])


def noise_floor(against_itself: Estimate) -> float:
    """Return the relative difference under which nothing can be claimed, at least 3%.

    It is the farthest that a model may be from itself, by the interval of its ratio.

    Example:
        >>> noise_floor(Estimate(1.0, 0.99, 1.01))
        0.03
        >>> round(noise_floor(Estimate(1.02, 0.96, 1.08)), 2)
        0.08
    """
    return max(SAME, abs(against_itself.low - 1), abs(against_itself.high - 1))


def verdict(speedup: Estimate, floor: float = SAME) -> Literal["faster", "same", "slower"]:
    """Return whether a speedup says anything: ``same`` up to the floor, or if 1 is inside.

    Example:
        >>> verdict(Estimate(1.2, 1.1, 1.3)), verdict(Estimate(1.2, 0.9, 1.3))
        ('faster', 'same')
        >>> verdict(Estimate(0.5, 0.4, 0.6)), verdict(Estimate(1.02, 1.01, 1.03))
        ('slower', 'same')
        >>> verdict(Estimate(1.2, 1.1, 1.3), floor=0.25)
        'same'
    """
    if abs(speedup.value - 1) <= floor or speedup.low <= 1 <= speedup.high:
        return "same"
    return "faster" if speedup.value > 1 else "slower"
