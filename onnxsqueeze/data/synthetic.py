"""Random samples, for when there are none: they show that a model runs, not how good it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxsqueeze.data.decoders import asked_for, filled
from onnxsqueeze.data.reader import Array, Feed, Reader
from onnxsqueeze.data.samples import Samples
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec


def synthetic_samples(
    specs: Sequence[InputSpec], count: int, seed: int, *, dim: int = 32
) -> Samples:
    """Return ``count`` random samples: normal floats and small whole numbers.

    int32 and int64 are 0 or 1, since they may be indices into small tables or masks; other
    integers go up to 127 or 255. A free first axis, and each axis with the same symbol, has size
    1; all other free axes have size ``dim``: a caller whose model refuses one size tries another.

    Args:
        specs: What the model needs.
        count: Number of samples.
        seed: Seed; sample i depends on the seed and i only.
        dim: Size of free axes that are not first.

    Raises:
        DataError: If an input's rank is unknown.

    Example:
        >>> spec = InputSpec("ids", np.dtype("int64"), ("batch", "tokens"))
        >>> synthetic_samples([spec], 2, 0, dim=16)[1]["ids"].shape
        (1, 16)
    """
    asked = asked_for((), specs)
    shapes = _shapes(asked, dim)

    def read(index: int) -> Feed:
        rng = np.random.default_rng([seed, index])
        return {spec.name: _values(spec, shapes[spec.name], rng) for spec in asked}

    found = {spec.name: (spec.dtype, shapes[spec.name]) for spec in asked}
    reader = Reader(
        source=f"{count} synthetic samples (seed {seed}, free axes {dim})",
        count=count,
        read=read,
        place=lambda index: f"synthetic sample {index}",
        headers={0: found},
        notes=("samples are random: the numbers measured with them say nothing about real data",),
    )
    reader = filled(reader, specs)
    return Samples(reader, tuple(specs), tuple(range(count)), None, reader.notes)


def _shapes(specs: Sequence[InputSpec], dim: int) -> dict[str, tuple[int, ...]]:
    for spec in specs:
        if spec.shape is None:
            raise DataError(
                f"input {spec.name!r} has no rank, so no synthetic sample can be made for it\n"
                "  Give samples, or export the model with the input's shape."
            )
    shapes = {spec.name: spec.shape or () for spec in specs}
    ones = {shape[0] for shape in shapes.values() if shape and isinstance(shape[0], str)}
    return {
        name: tuple(
            size if isinstance(size, int) else 1 if axis == 0 or size in ones else dim
            for axis, size in enumerate(shape)
        )
        for name, shape in shapes.items()
    }


def _values(spec: InputSpec, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if spec.dtype == object:
        return np.full(shape, "a", object)
    if spec.dtype == np.bool_ or spec.dtype in (np.int32, np.int64):
        return rng.integers(0, 2, shape).astype(spec.dtype)
    if spec.dtype.kind in "iu":
        top = min(int(np.iinfo(spec.dtype).max), 255)
        return rng.integers(0, top + 1, shape).astype(spec.dtype)
    if "int" in spec.dtype.name:  # 4- and 2-bit integers of ml_dtypes
        return rng.integers(0, 2, shape).astype(spec.dtype)
    return np.asarray(rng.standard_normal(shape)).astype(spec.dtype)
