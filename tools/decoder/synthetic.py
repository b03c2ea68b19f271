"""A decoder of any size with random weights, written one tensor at a time.

The scales are those of trained models: products keep the size of what they read, the table and the
norms have a few channels that are much larger than the others (as large language models have), and
weights have heavier tails than a normal distribution. Tokens follow Zipf's law.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from decoder.graph import build
from decoder.shape import FLOAT_BYTES, Kind, Shape

ALIGNMENT = 4096
DATA_FILE = "model.onnx.data"
PART = 2**22
"""Elements made at a time."""
OUTLIERS_PER_DIM = 1 / 256
OUTLIER = 8.0
TAIL_DEGREES = 6.0
LENGTH = 64
CALIBRATION_SAMPLES = 24
EVALUATION_SAMPLES = 8

Floats = npt.NDArray[np.float32]


def write_synthetic(shape: Shape, folder: Path, *, has_cache: bool, seed: int) -> None:
    """Write model.onnx, its data file, calib.npz and eval.npz to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = []
    with (folder / DATA_FILE).open("wb") as file:
        for number, (name, (kind, dims)) in enumerate(shape.weights().items()):
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            tensors.append(_external(name, dims, folder, file.tell()))
            _write(file, kind, dims, shape, np.random.default_rng([seed, number]))
    ir.save(build(shape, tensors, has_cache=has_cache), folder / "model.onnx")
    rng = np.random.default_rng([seed, 2**31])
    for name, count in (("calib", CALIBRATION_SAMPLES), ("eval", EVALUATION_SAMPLES)):
        np.savez(folder / f"{name}.npz", input_ids=tokens(shape, count, rng))


def tokens(shape: Shape, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return token ids of shape (count, length), the n-th most frequent with weight 1/n."""
    weights = 1 / np.arange(1, shape.vocabulary + 1)
    length = min(LENGTH, shape.positions)
    drawn = rng.choice(shape.vocabulary, (count, length), p=weights / weights.sum())
    return drawn.astype(np.int64)


def _external(name: str, dims: tuple[int, ...], folder: Path, offset: int) -> ir.ExternalTensor:
    length = FLOAT_BYTES * math.prod(dims)
    return ir.ExternalTensor(
        DATA_FILE,
        offset,
        length,
        ir.DataType.FLOAT,
        shape=ir.Shape(dims),
        name=name,
        base_dir=folder,
    )


def _write(
    file: IO[bytes], kind: Kind, dims: tuple[int, ...], shape: Shape, rng: np.random.Generator
) -> None:
    columns = dims[-1]
    factors = np.full(columns, _scale(kind, dims, shape), np.float32)
    if kind in ("table", "gain"):
        large = rng.choice(columns, max(1, round(columns * OUTLIERS_PER_DIM)), replace=False)
        factors[large] *= OUTLIER if kind == "table" else OUTLIER / 4
    rows = math.prod(dims[:-1])
    step = max(1, PART // columns)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        file.write(_values(kind, (count, columns), rng) * factors)


def _scale(kind: Kind, dims: tuple[int, ...], shape: Shape) -> float:
    if kind == "gain":
        return 1.0
    if kind == "table":
        return float(shape.dim**-0.5)
    # What is added to the stream must not outgrow it, however many layers there are.
    return float(dims[0] ** -0.5 / (math.sqrt(2 * shape.layers) if kind == "outer" else 1.0))


def _values(kind: Kind, dims: tuple[int, int], rng: np.random.Generator) -> Floats:
    normal = rng.standard_normal(dims, dtype=np.float32)
    if kind == "gain":
        return 1 + 0.1 * normal
    # Student's t: a normal over the root of a chi-square by its degrees; one per row of weights
    # would make rows unequal, one per weight is what trained weights look like.
    spread = rng.standard_gamma(TAIL_DEGREES / 2, dims, dtype=np.float32) * (2 / TAIL_DEGREES)
    unit = math.sqrt((TAIL_DEGREES - 2) / TAIL_DEGREES)
    return np.asarray(unit * normal / np.sqrt(spread), np.float32)
