"""Memory that was freed goes back to the system, so that a next session starts from little."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache
from pathlib import Path


@cache
def _trim() -> object:
    """Return glibc's malloc_trim, or None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def available_bytes() -> int | None:
    """Return how much memory the system could give now; None where it does not tell."""
    told = Path("/proc/meminfo")
    if not told.is_file():
        return None
    for line in told.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def release() -> None:
    """Give what is not used any more back to the system, as far as it takes it.

    glibc keeps what a session freed for later, in pieces that the next session's large buffers do
    not fit in: without this the peak of a chain of sessions is that of all of them together.
    """
    gc.collect()  # models are full of cycles
    trim = _trim()
    if callable(trim):
        trim(0)
