"""Compress a model as if it were a large one, killed before the n-th move, if there is one.

Used as ``python killed_large.py N FOLDER``, as ``killed.py`` is.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from onnxsqueeze import Budget, DataSettings, Limits, api


def main() -> int:
    left, folder = int(sys.argv[1]), Path(sys.argv[2])
    replace = Path.replace

    def counted(self: Path, target: Any) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = counted  # type: ignore[method-assign]
    made = api.compress(
        folder / "model.onnx",
        folder / "small.onnx",
        DataSettings(folder / "data.npz"),
        budget=Budget(max_drop=0.5),
        limits=Limits(bits=(4, 8)),
        run=folder / "run",
        large_bytes=0,
    )
    return 0 if made.is_met else 9


if __name__ == "__main__":
    sys.exit(main())
