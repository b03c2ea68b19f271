"""Validation: everything measured about a pair of models before one replaces the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from onnxsqueeze.config import Provider
from onnxsqueeze.data.samples import Samples
from onnxsqueeze.errors import ModelError
from onnxsqueeze.facts.records import Coverage, Fidelity, Latency, Memory, Placed, Validation
from onnxsqueeze.graph.io import read, size_bytes
from onnxsqueeze.measure.fidelity import Optimization, fidelity
from onnxsqueeze.measure.latency import latency
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.measure.placement import placement
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.footprint import can_measure, footprint
from onnxsqueeze.runtime.memory import release

LOADS = 3
"""Times that each model is loaded, in turns; the fastest counts."""

Measured = TypeVar("Measured")

AS_WRITTEN = 8
"""Samples that the graphs are run on as they are written, which is slow and judges nothing."""


@dataclass(frozen=True)
class _Pair:
    """Two files on the same samples, and how they are run."""

    original: Path
    result: Path
    samples: Samples
    threads: int
    tell: Progress


def validate(
    original: Path,
    result: Path,
    samples: Samples,
    *,
    metric: str = "auto",
    on: Sequence[Provider] = (Provider(),),
    threads: int = 1,
    seed: int = 0,
    coverage: tuple[Coverage, ...] = (),
    with_latency: bool = True,
    progress: Progress | None = None,
) -> Validation:
    """Return the result held against the original, on each provider: all that can be measured.

    That is fidelity, latency, placement, memory, bytes and load time. On the first provider
    fidelity is measured twice: with sessions as users make them, and on a few samples with
    optimization off, which shows what the graph itself says. ONNX Runtime's own rewriting is the
    difference.

    Args:
        original: File of the original.
        result: File of the result.
        samples: At least one.
        metric: See ``numerics.metrics.metric_named``.
        on: Execution providers, the one that decides first.
        threads: Threads of each session.
        seed: Seed of the bootstrap.
        coverage: Planned against done, to be part of the record.
        with_latency: Whether to time the models and their kernels, and to weigh them in memory.
        progress: Told of each stage and sample.

    Raises:
        ModelError: If inputs or outputs of the two differ in name, order, type or rank, or one of
            the models does not load or run.
        DataError: If the metric does not fit the samples or the outputs.
        ProviderError: If a provider is not there, or runs nothing.
        ValueError: If there is no provider.
    """
    if not on:
        raise ValueError("validation needs at least one provider")
    ort.check_providers(on)
    check_same_interface(original, result)
    tell = progress or silent
    pair = _Pair(original, result, samples, threads, tell)
    fidelities = tuple(_fidelities(pair, metric, seed, on))
    timings: tuple[Latency, ...] = ()
    memory: tuple[Memory, ...] = ()
    if with_latency:
        timings = tuple(_each(pair, "latency", on, _latency))
        memory = tuple(_each(pair, "memory", on, _memory)) if can_measure() else ()
    placed = partial(_placed, is_timed=with_latency)
    placements = tuple(_each(pair, "placement", on, placed))
    tell("load time", 0, 1)
    original_load_ms, result_load_ms = _load_ms(original, result, on[0], threads)
    tell("load time", 1, 1)
    return Validation(
        fidelity=fidelities,
        latency=timings,
        placement_original=placements[0].original,
        placement_result=placements[0].result,
        coverage=coverage,
        original_bytes=size_bytes(original),
        result_bytes=size_bytes(result),
        original_load_ms=original_load_ms,
        result_load_ms=result_load_ms,
        machine=machine(),
        placements=placements,
        memory=memory,
    )


def _fidelities(pair: _Pair, metric: str, seed: int, on: Sequence[Provider]) -> Iterator[Fidelity]:
    few = _spread(pair.samples, AS_WRITTEN)
    runs: list[tuple[Provider, Optimization, Samples]] = [
        (on[0], "default", pair.samples),
        (on[0], "off", few),
        *((provider, "default", pair.samples) for provider in on[1:]),
    ]
    for provider, optimization, some in runs:
        release()
        yield fidelity(
            pair.original,
            pair.result,
            some,
            metric,
            provider=provider,
            optimization=optimization,
            threads=pair.threads,
            seed=seed,
            progress=pair.tell,
        )


def _each(
    pair: _Pair,
    stage: str,
    on: Sequence[Provider],
    measured: Callable[[_Pair, Provider], Measured],
) -> Iterator[Measured]:
    """Yield what is measured on each provider, and tell how far it is."""
    for number, provider in enumerate(on):
        release()
        pair.tell(stage, number, len(on))
        yield measured(pair, provider)
        pair.tell(stage, number + 1, len(on))


def _latency(pair: _Pair, provider: Provider) -> Latency:
    return latency(
        pair.original, pair.result, pair.samples, provider=provider, threads=pair.threads
    )


def _memory(pair: _Pair, provider: Provider) -> Memory:
    feed, threads = pair.samples[0], pair.threads
    return Memory(
        provider=provider.name,
        original=footprint(pair.original, feed, provider, threads=threads),
        result=footprint(pair.result, feed, provider, threads=threads),
    )


def _placed(pair: _Pair, provider: Provider, *, is_timed: bool) -> Placed:
    feed = pair.samples[0] if is_timed else None
    return Placed(
        provider=provider.name,
        original=placement(pair.original, provider, feed, threads=pair.threads),
        result=placement(pair.result, provider, feed, threads=pair.threads),
    )


def _spread(samples: Samples, count: int) -> Samples:
    """Return at most so many samples, evenly spaced, the first and the last among them."""
    if len(samples) <= count:
        return samples
    return samples.subset(np.linspace(0, len(samples) - 1, count).astype(int))


def _load_ms(
    original: Path, result: Path, provider: Provider, threads: int
) -> tuple[float, float]:
    """Return the shortest wall time to make a session of each, in ms."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(LOADS):
        for path, times in zip((original, result), spent, strict=True):
            start = time.perf_counter()
            ort.session(path, provider=provider, threads=threads)
            times.append((time.perf_counter() - start) * 1000)
    return min(spent[0]), min(spent[1])


def check_same_interface(original: Path, result: Path) -> None:
    """Refuse two models that cannot be fed alike, or whose outputs cannot be compared.

    Names, their order, element types and, where both files say it, the number of axes must agree.
    Sizes of axes may differ: what a file declares of them is often wrong, and a run will tell.

    Raises:
        ModelError: Naming every difference.
    """
    before, after = read(original).graph, read(result).graph
    differences = [
        *_differences("input", _fed(before), _fed(after)),
        *_differences("output", list(before.outputs), list(after.outputs)),
    ]
    if differences:
        raise ModelError(
            f"the two models differ in {len(differences)} point(s) of their inputs and outputs\n"
            + "".join(f"  {difference}\n" for difference in differences)
            + f"  The original is {original}, the result is {result}.\n"
            "  Hold a model against the one that it was made from."
        )


def _fed(graph: ir.Graph) -> list[ir.Value]:
    return [value for value in graph.inputs if value.name not in graph.initializers]


def _differences(what: str, before: list[ir.Value], after: list[ir.Value]) -> Iterator[str]:
    old, new = {str(v.name): v for v in before}, {str(v.name): v for v in after}
    if list(old) != list(new):
        yield f"{what}s are {list(old)} in the original and {list(new)} in the result"
    for name in old.keys() & new.keys():
        one, other = old[name], new[name]
        if one.type != other.type:
            yield f"{what} {name!r} is {one.type} in the original and {other.type} in the result"
        if one.shape is not None and other.shape is not None:
            ranks = one.shape.rank(), other.shape.rank()
            if ranks[0] != ranks[1]:
                yield (
                    f"{what} {name!r} has {ranks[0]} axes in the original"
                    f" and {ranks[1]} in the result"
                )
