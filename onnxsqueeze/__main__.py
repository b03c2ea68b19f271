"""``python -m onnxsqueeze``."""

from __future__ import annotations

import sys

from onnxsqueeze.cli import main

if __name__ == "__main__":
    sys.exit(main())
