"""Probe this processor's integer kernels, once: how exact they are, and how fast.

Without VNNI, x64 kernels for unsigned activations and signed weights add two products in 16 bits,
and cut the sum off there. So each product is held against exact sums, on codes at their ends.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.errors import DataError, ModelError
from onnxsqueeze.facts.kernels import (
    SPELLINGS,
    Exactness,
    Kernels,
    Speed,
    Spelling,
    kernel_key,
)
from onnxsqueeze.facts.records import Interval, Machine
from onnxsqueeze.facts.store import Store
from onnxsqueeze.graph import walk
from onnxsqueeze.measure.kernel_cases import (
    EXACT_CASES,
    SPEED_CASES,
    Case,
    in_rows,
    model,
    reference,
)
from onnxsqueeze.measure.machine import machine as this_machine
from onnxsqueeze.numerics.statistics import median_interval
from onnxsqueeze.passes.coverage import INTEGER_KERNELS
from onnxsqueeze.runtime import ort

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]

PAIRS = 11
"""Timings of each form of a product, in turns."""
LEAST_SECONDS = 0.002
"""A timing is the mean of as many runs as take at least this long."""
TIME_LIMIT_S = 50.0
"""Products that are not begun by then are not timed."""
TIMED = tuple(spelling for spelling in SPELLINGS if spelling.per == "channel")
"""Spellings that are timed: one scale for the whole weight makes no difference to the time."""
_SEED = 0
_KERNELS = INTEGER_KERNELS | {("com.microsoft", "DynamicQuantizeMatMul")}


def kernels(
    provider: str = "cpu",
    *,
    file: Path | None = None,
    again: bool = False,
    time_limit_s: float = TIME_LIMIT_S,
    progress: Progress | None = None,
) -> Kernels:
    """Return what the target's integer kernels do: from ``file``, or from a probe of this machine.

    A probe takes under a minute and is kept in the user's cache, by processor, vector features,
    engine and provider.

    Args:
        provider: Execution provider, short or full name.
        file: A record of another machine, as ``onnxsqueeze doctor -o FILE`` writes it.
        again: Probe even if this machine was probed before.
        time_limit_s: When a probe begins no more timings, after its start.
        progress: Called with (stage, done, all).

    Raises:
        DataError: If ``file`` is no record.
        DependencyError: If ONNX Runtime is not installed.
        ProviderError: If the provider is not there.
    """
    if file is not None:
        return Kernels.load(file)
    machine = this_machine()
    known = None if again else cached(machine, provider)
    if known is not None:
        return known
    made = probe(machine, provider, time_limit_s=time_limit_s, progress=progress)
    with contextlib.suppress(OSError):  # a home that cannot be written costs a probe each time
        place = cache_file(machine, provider)
        place.parent.mkdir(parents=True, exist_ok=True)
        made.save(place)
    return made


def exact_kernels(store: Store, provider: str = "cpu") -> Kernels:
    """Return how exact this machine's integer kernels are: in seconds, since nothing is timed.

    An earlier probe in the user's cache is taken, or one in ``store``, where a new one is kept.

    Args:
        store: Records of the run.
        provider: Execution provider, short or full name.
    """
    machine = this_machine()
    known = cached(machine, provider)
    if known is not None:
        return known
    key = {"kernels": kernel_key(machine, provider)}
    saved = store.get("kernels", key)
    if saved is None:
        made = probe(machine, provider, timed=())
        saved = store.put("kernels", key, made.model_dump(mode="json"))
    return Kernels.model_validate_json(json.dumps(saved.values))


def cached(machine: Machine, provider: str = "cpu") -> Kernels | None:
    """Return the record of an earlier probe of an equal machine, or None."""
    place = cache_file(machine, provider)
    if not place.is_file():
        return None
    try:
        found = Kernels.load(place)
    except DataError:  # of another version, or cut off: probed again
        return None
    is_same = kernel_key(found.machine, found.provider) == kernel_key(machine, provider)
    return found if is_same else None


def cache_file(machine: Machine, provider: str = "cpu") -> Path:
    """Return where the record of a machine is kept.

    Source:
        XDG Base Directory Specification: a relative XDG_CACHE_HOME is ignored.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = named if named.is_absolute() else Path.home() / ".cache"
    return folder / "onnxsqueeze" / f"kernels-{kernel_key(machine, provider)}.json"


def probe(
    machine: Machine,
    provider: str = "cpu",
    *,
    cases: Sequence[Case] = EXACT_CASES,
    timed: Sequence[Case] = SPEED_CASES,
    pairs: int = PAIRS,
    time_limit_s: float = TIME_LIMIT_S,
    progress: Progress | None = None,
) -> Kernels:
    """Return what was just measured of this machine.

    Args:
        machine: This machine.
        provider: Execution provider.
        cases: Products to hold against exact sums.
        timed: Products to time; those for which there is no time are named in the record.
        pairs: Timings of each.
        time_limit_s: When to begin no more timings, after the start.
        progress: Called with (stage, done, all).

    Raises:
        ProviderError: If the provider is not there.
    """
    start = time.perf_counter()
    steps = len(cases) + len(timed)
    rows: list[Exactness] = []
    for number, case in enumerate(cases):
        rows += (
            exactness(case, spelling, provider)
            for spelling in SPELLINGS
            # DynamicQuantizeLinear writes uint8 only
            if case.form != "dynamic" or spelling.activation == "uint8"
        )
        _tell(progress, number + 1, steps)
    speeds: list[Speed] = []
    for number, case in enumerate(timed):
        if time.perf_counter() - start > time_limit_s:
            break
        speeds.append(speed(case, TIMED, provider, pairs))
        _tell(progress, len(cases) + number + 1, steps)
    _tell(progress, steps, steps)
    return Kernels(
        machine=machine,
        provider=provider,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - start, 3),
        exactness=tuple(rows),
        speeds=tuple(speeds),
        left_out=tuple(_described(case) for case in timed[len(speeds) :]),
    )


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress("probing the integer kernels", done, total)


def _described(case: Case) -> str:
    return ", ".join((case.kind, *(f"{name} {dim}" for name, dim in case.size.items())))


def exactness(case: Case, spelling: Spelling, provider: str = "cpu") -> Exactness:
    """Return how far a kernel's outputs are from exact sums of products of codes at their ends.

    Half of all neighbouring products then have one sign and cannot be added in 16 bits, in
    whatever order the kernel takes them. The output's grid spans the exact outputs.
    """
    rng = np.random.default_rng(_SEED)
    codes = rng.choice(np.array([-127, 127], np.int8), size=case.w)
    x = rng.choice(np.array([-128, 127], np.float32), size=case.x)
    sums = reference(case, x, codes)
    step = float(np.abs(sums).max()) / 126
    made = model(case, spelling, codes, 1.0, step)
    try:
        y = ort.run(ort.session(made, provider=provider), {"x": x})["y"]
    except ModelError as error:
        return Exactness(
            case=case.kind, spelling=spelling, kernel="", differences=(), refused=str(error)
        )
    # A grid holds the nearest step; an output without one, the sum itself.
    exact = np.rint(sums / step) * step if case.form == "grid" else sums
    steps = np.rint(np.abs(in_rows(case, y) - exact) / step).astype(np.int64)
    found = {(node.domain, node.op_type) for node in walk.nodes(ort.optimized(made))}
    names = sorted(operator for _, operator in found & _KERNELS)
    return Exactness(
        case=case.kind,
        spelling=spelling,
        kernel=", ".join(names),
        differences=tuple(int(count) for count in np.bincount(steps.ravel())),
    )


def speed(
    case: Case, spellings: Iterable[Spelling], provider: str = "cpu", pairs: int = PAIRS
) -> Speed:
    """Return interleaved timings of a case in floats and in each spelling, in one thread.

    In integers they include the QuantizeLinear at the start and the DequantizeLinear at the end.
    Spellings that ONNX Runtime refuses are left out.
    """
    rng = np.random.default_rng(_SEED)
    codes = rng.integers(-127, 128, size=case.w).astype(np.int8)
    features = math.prod(case.w) // case.w[0] if len(case.w) > 2 else case.w[0]
    w_scale = 1 / (73 * math.sqrt(features))  # 73: standard deviation of codes; outputs are like x
    feed = {"x": rng.normal(0, 40, size=case.x).astype(np.float32)}
    sessions = [ort.session(model(case, None, codes, w_scale, 1.0), provider=provider)]
    names = []
    for spelling in spellings:
        with contextlib.suppress(ModelError):
            made = ort.session(model(case, spelling, codes, w_scale, 1.0), provider=provider)
            sessions.append(made)
            names.append(str(spelling))
    floats, *integers = _in_turns(sessions, feed, pairs)
    speedup = {
        name: Interval(
            **median_interval([a / b for a, b in zip(floats, times, strict=True)])._asdict()
        )
        for name, times in zip(names, integers, strict=True)
    }
    return Speed(
        kind=case.kind,
        size=dict(case.size),
        float_ms=tuple(floats),
        integer_ms={name: tuple(times) for name, times in zip(names, integers, strict=True)},
        speedup=speedup,
    )


def _in_turns(sessions: Sequence[Any], feed: ort.Feed, pairs: int) -> list[list[float]]:
    """Return milliseconds of thread CPU time per run of each session, in alternating order."""
    repeats = []
    for made in sessions:
        made.run(None, feed)  # lays out memory
        seconds = _seconds(made, feed, 1)
        repeats.append(min(1000, max(1, math.ceil(LEAST_SECONDS / seconds))))
    times: list[list[float]] = [[] for _ in sessions]
    order = list(range(len(sessions)))
    for pair in range(pairs):
        for which in order[:: 1 - 2 * (pair % 2)]:
            times[which].append(1000 * _seconds(sessions[which], feed, repeats[which]))
    return times


def _seconds(made: Any, feed: ort.Feed, repeats: int) -> float:
    start = time.thread_time()
    for _ in range(repeats):
        made.run(None, feed)
    return max((time.thread_time() - start) / repeats, 1e-6)
