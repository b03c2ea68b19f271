"""What measuring costs: memory and time of calibration on one case, beside a plain run of it.

Run as ``python -m benchmark.calibration WAY CASE_FOLDER`` this module is one of the ways.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark import watch
from benchmark.cases import Case, read_case, read_samples
from benchmark.compare import MEMORY_LIMIT_BYTES, TIME_LIMIT_S, clear


def plain(case: Case) -> None:
    """Run the model over the calibration samples and keep nothing."""
    from benchmark.score import session

    model = session(case.model)
    for feed in read_samples(case.folder / "calib.npz"):
        model.run(None, feed)


def minmax(case: Case) -> None:
    """ONNX Runtime's MinMaxCalibrater over the same samples."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter(read_samples(case.folder / "calib.npz"))

        def get_next(self) -> Any:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as scratch:
        calibrator = create_calibrator(
            case.model,
            augmented_model_path=str(Path(scratch) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Reader())
        calibrator.compute_data()


def cleaned(case: Case) -> None:
    """Clean the model as ``onnxsqueeze measure`` does first, and keep it beside the log."""
    from onnxsqueeze.data import DataSettings
    from onnxsqueeze.graph import io
    from onnxsqueeze.measure.load import load

    io.write(load(Path(case.model), DataSettings(case.folder / "calib.npz")).model, CLEAN)


def streamed(case: Case) -> None:
    """Calibrate the cleaned model on all samples: the pass that replaces a min-max calibration."""
    from onnxsqueeze.data import open_samples
    from onnxsqueeze.graph import io
    from onnxsqueeze.graph.signature import signature
    from onnxsqueeze.measure.collect import watched
    from onnxsqueeze.measure.ranges import ranges
    from onnxsqueeze.runtime.shapes import measured_shapes

    model = io.read(CLEAN)
    samples = open_samples(case.folder / "calib.npz", signature(model))
    tensors, moments = watched(model, measured_shapes(model, samples[0]))
    ranges(model, samples, tensors, moments=moments)


CLEAN = Path(tempfile.gettempdir()) / "onnxsqueeze-calibration.onnx"
WAYS: dict[str, Callable[[Case], None]] = {
    "plain run": plain,
    "ort minmax": minmax,
    "onnxsqueeze cleaning": cleaned,
    "onnxsqueeze calibration": streamed,
}


def commands(case: Case, out: Path) -> dict[str, list[str]]:
    """Return the command line of each way, ours last."""
    program = Path(sys.executable).with_name("onnxsqueeze")
    ours = [str(program), "measure", str(case.model), "--data", str(case.folder / "calib.npz")]
    run = out / "calibration.squeeze"
    theirs = {way: [sys.executable, "-m", __name__, way, str(case.folder)] for way in WAYS}
    return {**theirs, "onnxsqueeze measure": [*ours, "--run", str(run)]}


def calibration(case: Case, out: Path) -> str:
    """Return a Markdown table: way, seconds, peak memory, both beside the plain run's."""
    lines = [
        "| way | seconds | × plain | peak MB | × plain |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    base: watch.Outcome | None = None
    clear(out, "calibration")
    for way, line in commands(case, out).items():
        done = watch.run(
            line,
            time_limit_s=TIME_LIMIT_S,
            memory_limit_bytes=MEMORY_LIMIT_BYTES,
            log=out / f"calibration_{way.replace(' ', '_')}.log",
        )
        base = base or done
        if done.reason:
            lines.append(f"| {way} | failed: {done.reason} | | {done.peak_bytes / 1e6:.0f} | |")
            continue
        times = f"{done.seconds:.1f} | {done.seconds / base.seconds:.2f}"
        memory = f"{done.peak_bytes / 1e6:.0f} | {done.peak_bytes / base.peak_bytes:.2f}"
        lines.append(f"| {way} | {times} | {memory} |")
    return "\n".join(lines)


if __name__ == "__main__":
    name, folder = sys.argv[1:]
    WAYS[name](read_case(Path(folder)))
