#!/usr/bin/env python3
"""Hold the criteria of importance against true damage, on shipped or given models; see --help."""

from __future__ import annotations

import os
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
VENV = TOOLS.parent / ".venv"
if Path(sys.prefix).resolve() != VENV.resolve() and (VENV / "bin" / "python").exists():
    python = str(VENV / "bin" / "python")
    os.execv(python, [python, __file__, *sys.argv[1:]])
sys.path.insert(0, str(TOOLS))

from study.cli import main  # noqa: E402  (the path is set above)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
