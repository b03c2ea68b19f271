"""The ways to compress a model, each as a command line.

Run as a program (``python -m benchmark.methods METHOD CASE_FOLDER OUT``) this module carries out
one of ONNX Runtime's own; it prints notes, a line each.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.cases import Case, read_case, read_samples

OURS = {
    "ours size": "size",
    "ours balanced": "balanced",
    "ours latency": "latency",
}
PER_CHANNEL_OPSET = 13
"""The first opset in which DequantizeLinear has an axis."""


def command(method: str, case: Case, out: Path) -> list[str]:
    """Return the command line that compresses ``case`` by ``method`` into the file ``out``."""
    if method in OURS:
        program = Path(sys.executable).with_name("onnxsqueeze")
        return [
            *(str(program), "compress", str(case.model)),
            *("--data", str(case.folder / "calib.npz")),
            *("--max-drop", "1%", "--objective", OURS[method]),
            *("--run", str(out.with_suffix(".squeeze"))),
            *("-o", str(out), "--json"),
        ]
    return [sys.executable, "-m", __name__, method, str(case.folder), str(out)]


def _upgrade(source: Path, scratch: Path) -> Path:
    import onnx

    model = onnx.load(source)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset >= PER_CHANNEL_OPSET:
        return source
    target = scratch / "upgraded.onnx"
    onnx.save(onnx.version_converter.convert_version(model, 17), target)
    print(f"opset raised from {opset} to 17, which weights per channel need")
    return target


def _is_prepared(source: Path, target: Path, **options: bool) -> bool:
    """Write what ONNX Runtime's own preparation makes of a model; return whether it could."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        quant_pre_process(str(source), str(target), **options)
    except Exception as error:  # it raises Exception itself, and whatever its steps raise
        print(f"quant_pre_process({options}) failed: {str(error)[:100]!r}")
        return False
    return True


def _prepare(source: Path, scratch: Path) -> Path:
    """Return the model prepared as ONNX Runtime advises, as far as that can be carried out."""
    upgraded, target = _upgrade(source, scratch), scratch / "prepared.onnx"
    if _is_prepared(upgraded, target) or _is_prepared(upgraded, target, skip_symbolic_shape=True):
        return target
    return upgraded


def static(case: Case, out: Path, method: str, **options: Any) -> None:
    """ONNX Runtime's static quantization: QDQ, uint8 activations, int8 weights per channel."""
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter(read_samples(case.folder / "calib.npz"))

        def get_next(self) -> Any:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as scratch:
        q.quantize_static(
            str(_prepare(case.model, Path(scratch))),
            str(out),
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            calibrate_method=q.CalibrationMethod[method],
            **options,
        )


def dynamic(case: Case, out: Path) -> None:
    """ONNX Runtime's dynamic quantization with its defaults."""
    from onnxruntime import quantization as q

    with tempfile.TemporaryDirectory() as scratch:
        q.quantize_dynamic(str(_prepare(case.model, Path(scratch))), str(out))


THEIRS: dict[str, Callable[[Case, Path], None]] = {
    "ort static minmax": lambda case, out: static(case, out, "MinMax"),
    "ort static minmax reduced": lambda case, out: static(case, out, "MinMax", reduce_range=True),
    "ort static percentile": lambda case, out: static(case, out, "Percentile"),
    "ort dynamic": dynamic,
}
METHODS = (*OURS, *THEIRS)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    name, folder, result = sys.argv[1:]
    THEIRS[name](read_case(Path(folder)), Path(result))
