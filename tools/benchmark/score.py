"""Score one compressed model of a case beside its original, in this process; prints JSON.

Run as ``python -m benchmark.score CASE_FOLDER MODEL [SECONDS]``. Both models run in ONNX Runtime's
CPU provider with its default optimization, on one thread that does not spin. The first output is
what counts, in the metric and in SQNR.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from benchmark.cases import Array, Case, Samples, read_case, read_samples
from benchmark.metrics import REDUCE, Energies, difference, hits

PAIRS_AT_LEAST = 15


def size_bytes(model: Path) -> int:
    """Return the bytes of a model file and of its external data."""
    proto = onnx.load(model, load_external_data=False)
    files = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return model.stat().st_size + sum((model.parent / name).stat().st_size for name in files)


def session(model: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def characters(model: Path) -> list[str]:
    """Return what the indices of a PP-OCR recogniser mean: blank, its alphabet, space."""
    properties = onnx.load(model, load_external_data=False).metadata_props
    alphabet = next((entry.value for entry in properties if entry.key == "character"), "")
    return ["", *alphabet.splitlines(), " "]


def fidelity(
    case: Case, original: ort.InferenceSession, result: ort.InferenceSession
) -> dict[str, float | int]:
    """Return the metric of both models on the evaluation samples, and the SQNR between them."""
    samples = read_samples(case.folder / "eval.npz")
    shrink = REDUCE[case.kind]
    energies, exact, found = Energies(), [], []
    for feed in samples:
        a, b = original.run(None, feed)[0], result.run(None, feed)[0]
        energies = energies.add(b, a)
        exact.append(shrink(a))
        found.append(shrink(b))
    alphabet = characters(case.model)
    mean = difference(
        hits(case.kind, found, exact, case.labels(), alphabet),
        hits(case.kind, exact, exact, case.labels(), alphabet),
    )
    return {
        "metric": mean.result,
        "metric_float": mean.original,
        "metric_se": mean.standard_error,
        "sqnr_db": energies.sqnr_db(),
        "samples": len(samples),
    }


def timed(model: ort.InferenceSession, feed: dict[str, Array]) -> tuple[float, float]:
    """Return the CPU seconds of this thread, which is the one that computes, and wall seconds."""
    wall, thread = time.perf_counter(), time.thread_time()
    model.run(None, feed)
    return time.thread_time() - thread, time.perf_counter() - wall


def speed(
    samples: Samples,
    original: ort.InferenceSession,
    result: ort.InferenceSession,
    seconds: float,
) -> dict[str, float | int]:
    """Return original's over result's time: median and quartiles over alternated pairs."""
    run: tuple[Callable[[dict[str, Array]], tuple[float, float]], ...] = (
        lambda feed: timed(original, feed),
        lambda feed: timed(result, feed),
    )
    for each in run:
        each(samples[0])
    pairs: list[tuple[tuple[float, float], ...]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(pairs) < PAIRS_AT_LEAST:
        feed = samples[len(pairs) % len(samples)]
        if len(pairs) % 2:
            after, before = run[1](feed), run[0](feed)
        else:
            before, after = run[0](feed), run[1](feed)
        pairs.append((before, after))
    times = np.array(pairs)
    low, median, high = np.quantile(times[:, 0, 0] / times[:, 1, 0], (0.25, 0.5, 0.75))
    return {
        "speed": float(median),
        "speed_low": float(low),
        "speed_high": float(high),
        "speed_wall": float(np.median(times[:, 0, 1] / times[:, 1, 1])),
        "float_ms": float(np.median(times[:, 0, 0]) * 1e3),
        "pairs": len(pairs),
    }


def score(case: Case, model: Path, seconds: float) -> dict[str, Any]:
    """Return every number that the table shows about the file ``model``."""
    original = session(case.model)
    started = time.perf_counter()
    result = session(model)
    load_s = time.perf_counter() - started
    return {
        **fidelity(case, original, result),
        "bytes": size_bytes(model),
        "size_ratio": size_bytes(case.model) / size_bytes(model),
        "load_s": load_s,
        **speed(read_samples(case.folder / "eval.npz"), original, result, seconds),
    }


if __name__ == "__main__":
    folder, file, *rest = sys.argv[1:]
    numbers = score(read_case(Path(folder)), Path(file), float(rest[0]) if rest else 6.0)
    print(json.dumps(numbers))
