"""Run a command and kill it just before the n-th file or folder is moved into place.

Used as ``python killed.py N compress ...``; everything that is kept is first written beside its
place, so each kill leaves what the worst moment leaves.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from onnxsqueeze import cli


def main() -> int:
    left = int(sys.argv[1])
    replace = Path.replace

    def counted(self: Path, target: Any) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = counted  # type: ignore[method-assign]
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
