from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from onnxsqueeze.errors import DependencyError
from onnxsqueeze.facts.records import Machine
from onnxsqueeze.measure import machine as module
from onnxsqueeze.measure.machine import machine, processor_and_features

ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes asimdhp asimddp sve i8mm bf16
CPU implementer\t: 0x41

processor\t: 1
Features\t: fp asimd
"""


def test_record_of_this_machine() -> None:
    found = machine()

    assert found.versions["numpy"] == np.__version__
    assert found.versions["onnx"] == onnx.__version__
    assert found.versions["onnx_ir"] == ir.__version__
    assert found.versions["onnxruntime"] == onnxruntime.__version__
    assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(found.versions) == {
        "numpy",
        "onnx",
        "onnx_ir",
        "onnxruntime",
        "onnxsqueeze",
        "python",
    }
    assert found.providers == tuple(onnxruntime.get_available_providers())
    assert found.processor
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.memory_bytes >= 1 << 28


def test_record_is_the_same_each_time_and_survives_json() -> None:
    found = machine()

    assert machine() == found
    assert Machine.model_validate_json(found.model_dump_json()) == found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_what_the_kernel_says() -> None:
    line = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()[0]

    assert machine().memory_bytes == int(line.split()[1]) * 1024


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_cores_are_those_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert machine().cores == 1
    finally:
        os.sched_setaffinity(0, before)


def test_vector_features_of_the_first_processor_only() -> None:
    assert processor_and_features(ARM) == (
        "",
        ("asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve"),
    )
    x86 = "model name\t: A: B @ 2 GHz\nflags\t\t: fpu avx avx2 fma rdtscp smep avx_vnni\n"
    assert processor_and_features(x86) == ("A: B @ 2 GHz", ("avx", "avx2", "avx_vnni", "fma"))
    assert processor_and_features("") == ("", ())


def test_processor_has_a_name_where_there_is_no_cpuinfo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "absent")

    found = machine()

    assert found.processor
    assert found.features == ()


def test_missing_engine_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(DependencyError, match=r"onnxsqueeze\[cpu\](.|\n)*onnxsqueeze\[gpu\]"):
        machine()
