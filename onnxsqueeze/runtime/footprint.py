"""Memory of a model in a process of its own, where nothing else was loaded before."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from onnxsqueeze.config import Provider
from onnxsqueeze.errors import ModelError
from onnxsqueeze.facts.records import Footprint
from onnxsqueeze.runtime import ort, providers

RUNS = 2
"""The second run finds the memory that the first has laid out."""
_CHILD = Path(__file__).with_name("footprint_child.py")


def can_measure() -> bool:
    """Return whether this system tells what is resident: Linux does."""
    return sys.platform.startswith("linux")


def footprint(
    model: Path, feed: ort.Feed, provider: str | Provider = "cpu", *, threads: int = 1
) -> Footprint:
    """Return the memory that loading and running a file takes in a fresh process.

    Only the host's memory counts; on an accelerator the model lies in its own.

    Args:
        model: File of the model.
        feed: What it is run on.
        provider: Execution provider.
        threads: Threads of the session.

    Raises:
        ModelError: If the fresh process does not load or run the model.
        OSError: Where ``can_measure`` says no.
    """
    chosen = providers.named(provider)
    with tempfile.TemporaryDirectory(prefix="onnxsqueeze-") as folder:
        feeds = Path(folder) / "feeds.npz"
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in feed.items()}
        np.savez(feeds, **arrays)
        job = {
            "model": str(model.resolve()),
            "feeds": str(feeds),
            "providers": providers.asked(chosen, ort.engine().get_available_providers()),
            "entries": {"session.intra_op.allow_spinning": "0"},
            "threads": threads,
            "runs": RUNS,
        }
        # The program as text: as a file, its folder would come first on the module path.
        command = [sys.executable, "-c", _CHILD.read_text(encoding="utf-8"), json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise ModelError(
            f"the model was not loaded and run in a process of its own: {last}\n"
            f"  The process ended with {done.returncode}; it may have run out of memory."
        )
    told = json.loads(done.stdout)
    return Footprint(
        resident_bytes=max(0, told["loaded"] - told["before"]),
        peak_bytes=max(0, told["peak"] - told["before"]),
    )
