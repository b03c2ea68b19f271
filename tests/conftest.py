"""One thread of linear algebra per process: the suite runs a process per core.

OpenBLAS waits in a busy loop: with a thread per core in each process, a factorization of a 1152 ×
1152 matrix took ten times as long. Set before NumPy is first imported, and passed on to the
processes that tests start.
"""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# pytest --hypothesis-profile=full: more generated graphs and numbers than each run can wait for.
settings.register_profile("full", max_examples=2000)
