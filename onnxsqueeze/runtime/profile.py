"""What ONNX Runtime tells of a run, event by event."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import onnx_ir as ir

from onnxsqueeze.config import Provider
from onnxsqueeze.runtime import ort


def events(
    model: ir.Model | Path,
    feed: ort.Feed,
    options: Any,
    *,
    provider: str | Provider = "cpu",
    runs: int = 1,
) -> list[dict[str, Any]]:
    """Return the events of ONNX Runtime's profile of some runs.

    Args:
        model: The model.
        feed: What to run it on.
        options: Options of the session; profiling is switched on in them.
        provider: Execution provider.
        runs: How often it is run.

    Raises:
        ModelError: If ONNX Runtime refuses the model.
        ProviderError: If the provider is not there.
    """
    with tempfile.TemporaryDirectory(prefix="onnxsqueeze-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        made = ort.session(model, provider=provider, options=options)
        for _ in range(runs):
            ort.run(made, feed)
        found: list[dict[str, Any]] = json.loads(Path(made.end_profiling()).read_text("utf-8"))
    return found
