"""The runs: every case by every method, compressed and scored in processes of their own."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmark import watch
from benchmark.cases import Case
from benchmark.methods import OURS, command

TIME_LIMIT_S = 600.0
MEMORY_LIMIT_BYTES = 12e9
SCORE_LIMIT_S = 1800.0
BUDGET_EXIT_CODE = 9


def processor() -> str:
    """Return the processor's name and its count of cores."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def provenance() -> dict[str, str]:
    """Return when and on what the numbers were taken."""
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": processor(),
        **{name: version(name) for name in ("onnxsqueeze", "onnxruntime", "onnx", "numpy")},
    }


def last_json(text: str) -> dict[str, Any]:
    """Return the JSON of the last line that is some; empty if none is."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    return {}


def clear(folder: Path, stem: str) -> None:
    """Remove what an earlier run left of one method, so that it cannot pass for this run's.

    That includes our run folder, which would be gone on with instead of measured anew.
    """
    for path in folder.glob(f"{stem}.*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def compare(case: Case, method: str, out: Path, seconds: float) -> dict[str, Any]:
    """Return the record of one case by one method; a failure is a record with its reason."""
    folder, stem = out / case.name, method.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder, stem)
    model = folder / f"{stem}.onnx"
    done = watch.run(
        command(method, case, model),
        time_limit_s=TIME_LIMIT_S,
        memory_limit_bytes=MEMORY_LIMIT_BYTES,
        log=folder / f"{stem}.log",
    )
    record: dict[str, Any] = {
        "case": case.name,
        "method": method,
        **provenance(),
        "exit_code": done.exit_code,
        "compress_s": done.seconds,
        "peak_bytes": done.peak_bytes,
        "reason": done.reason,
    }
    is_over_budget = method in OURS and done.exit_code == BUDGET_EXIT_CODE
    if is_over_budget:
        record["reason"] = "budget not met"
    if done.exit_code != 0 and not is_over_budget:
        return record
    if not model.exists():
        record["reason"] = "ended well, but wrote no model"
        return record
    scored = watch.run(
        [sys.executable, "-m", "benchmark.score", case.folder, model, str(seconds)],
        time_limit_s=SCORE_LIMIT_S,
        memory_limit_bytes=MEMORY_LIMIT_BYTES,
        log=folder / f"{stem}.score.log",
    )
    if scored.reason:
        record["reason"] = f"the result does not run: {scored.reason}"
    return {**record, **({} if scored.reason else last_json(scored.output))}


def compare_all(cases: Iterable[Case], methods: Sequence[str], out: Path, seconds: float) -> None:
    """Append a record per case and method to ``out``/results.jsonl as soon as it is there."""
    out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        for method in methods:
            started = time.perf_counter()
            record = compare(case, method, out, seconds)
            with (out / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            verdict = record["reason"] or "ok"
            spent = time.perf_counter() - started
            print(f"{case.name}: {method}: {verdict} ({spent:.0f} s)", file=sys.stderr)
