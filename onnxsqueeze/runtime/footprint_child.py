"""The program of the fresh process that ``footprint`` measures; it imports nothing of ours.

Its one argument is JSON: model, feeds (an .npz), providers, threads, runs, and entries of the
session's configuration. It writes one line of JSON: bytes that were resident at three moments.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def status(field: str) -> int:
    """Return a size of Linux's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = next(line for line in lines if line.startswith(field + ":"))
    return int(found.split()[1]) * 1024


def main(job: dict[str, Any]) -> None:
    """Load the model, run it, and tell what that took."""
    with np.load(job["feeds"], allow_pickle=False) as archive:
        feed = {name: archive[name] for name in archive.files}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    for key, value in job["entries"].items():
        options.add_session_config_entry(key, value)
    gc.collect()
    before = status("VmRSS")
    providers = [(name, given) for name, given in job["providers"]]
    session = onnxruntime.InferenceSession(job["model"], options, providers=providers)
    loaded = status("VmRSS")
    for _ in range(job["runs"]):
        session.run(None, feed)
    found = {"before": before, "loaded": loaded, "peak": status("VmHWM")}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
