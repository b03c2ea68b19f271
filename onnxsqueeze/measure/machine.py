"""The machine that a measurement is made on, as a record."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from onnxsqueeze.facts.records import Machine
from onnxsqueeze.runtime.ort import engine

CPUINFO = Path("/proc/cpuinfo")
# Prefixes of the flags that decide which float and integer kernels can run, on x86 and on ARM.
_VECTOR = ("avx", "amx", "fma", "f16c", "ssse3", "sse4", "asimd", "sve", "i8mm", "bf16", "sme")
_PROTECTION = "smep"  # guards the kernel; only its name begins like ARM's matrix extension


def machine() -> Machine:
    """Return what a measurement depends on: processor, vector features, cores, memory, versions.

    ``cores`` counts those that this process may use; ``memory_bytes`` is the machine's, not a
    container's share.

    Raises:
        DependencyError: If ONNX Runtime is not installed.
    """
    ort = engine()
    processor, features = processor_and_features(_cpuinfo())
    return Machine(
        processor=processor or platform.processor() or platform.machine(),
        features=features,
        cores=_cores(),
        memory_bytes=_memory_bytes(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions={
            "numpy": np.__version__,
            "onnx": version("onnx"),
            "onnx_ir": version("onnx-ir"),
            "onnxruntime": str(ort.__version__),
            "onnxsqueeze": version("onnxsqueeze"),
            "python": platform.python_version(),
        },
        providers=tuple(ort.get_available_providers()),
    )


def processor_and_features(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    r"""Return the first processor's name, and its vector features in sorted order.

    The name is empty where the text has none, as on most ARM systems.

    Example:
        >>> processor_and_features("model name : Some CPU\nflags : fpu avx2 avx512_vnni\n\n")
        ('Some CPU', ('avx2', 'avx512_vnni'))
    """
    first = cpuinfo.split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    entries = {key.strip(): value.strip() for key, _, value in pairs}
    flags = entries.get("flags", entries.get("Features", "")).split()
    vector = {flag for flag in flags if flag.startswith(_VECTOR) and flag != _PROTECTION}
    return entries.get("model name", ""), tuple(sorted(vector))


def _cpuinfo() -> str:
    return CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else ""


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    if sys.platform == "win32":
        kibibytes = ctypes.c_ulonglong(0)
        ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kibibytes))
        return kibibytes.value * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
