"""Run a command within limits of time and memory, and say what it took."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.1
REASON_CHARACTERS = 300
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TOOLS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """What became of a command; ``reason`` is empty if it ended with exit code 0.

    Attributes:
        exit_code: Its exit code, or minus the number of the signal that ended it.
        seconds: Wall time.
        peak_bytes: Largest resident memory: of the process, as the kernel counted it (never less
            than what the process that started it held then), or of it and its children together,
            as sampled, whichever is more.
        reason: Which limit was passed, or the last line of its standard error.
        output: Its standard output.
    """

    exit_code: int
    seconds: float
    peak_bytes: int
    reason: str
    output: str


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and all its children now; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text("ascii").split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * PAGE_BYTES + sum(map(resident_bytes, children))


def last_line(path: Path) -> str:
    """Return the last line of a file that is not blank, cut to a readable length."""
    lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")[:REASON_CHARACTERS]


def run(
    command: Sequence[str | Path], *, time_limit_s: float, memory_limit_bytes: float, log: Path
) -> Outcome:
    """Run ``command`` until it ends or passes a limit; its standard error goes to ``log``.

    It runs in an empty folder that is removed afterwards: ONNX Runtime's ``quant_pre_process``
    leaves files in the working directory.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="onnxsqueeze-bench-") as folder:
        return _run_in(folder, command, time_limit_s, memory_limit_bytes, log)


def _run_in(
    folder: str,
    command: Sequence[str | Path],
    time_limit_s: float,
    memory_limit_bytes: float,
    log: Path,
) -> Outcome:
    output = log.with_suffix(".out")
    started = time.perf_counter()
    with log.open("wb") as error_file, output.open("wb") as output_file:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=output_file,
            stderr=error_file,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(TOOLS)},
        )
    peak, reason = 0, ""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        seconds = time.perf_counter() - started
        if pid:
            break
        resident = resident_bytes(process.pid)
        peak = max(peak, resident)
        if not reason and seconds > time_limit_s:
            reason = f"over {time_limit_s:g} s"
        if not reason and resident > memory_limit_bytes:
            reason = f"over {memory_limit_bytes / 1e9:.1f} GB of memory"
        if reason:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(POLL_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not reason and process.returncode < 0:
        reason = f"ended by signal {-process.returncode}"
    if not reason and process.returncode > 0:
        reason = last_line(log) or f"exit code {process.returncode}"
    peak = max(peak, usage.ru_maxrss * 1024)
    text = output.read_text("utf-8", "replace")
    return Outcome(process.returncode, seconds, peak, reason, text)
