"""What linear nodes read in two models at once: the original, and what has become of it so far.

Both models run on the same samples, and of both the same rows are taken, so that a difference
between them is what compression did, and not the choice of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.data.spool import Spool, write_feed
from onnxsqueeze.facts.grams import Gram
from onnxsqueeze.graph.segment import segment
from onnxsqueeze.measure.grams import ROWS_AT_ONCE, Job, Samples, drawn_rows, with_exposed
from onnxsqueeze.measure.ranges import cores
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.memory import release

Array = npt.NDArray[Any]

MEMORY_BYTES = 256 * 2**20
"""Of one model's tensors between two steps; what goes beyond is kept in files."""


@dataclass(frozen=True)
class Read:
    """One input in both models.

    Attributes:
        job: The weights that share it; its tensor is the original's.
        tensor: What the nodes read in the changed model.
        quantize: What is done to that tensor before it is multiplied, for integer kernels.
    """

    job: Job
    tensor: str
    quantize: Callable[[Array], Array]


@dataclass(frozen=True)
class Streams:
    """Moments of the rows x of the original and z of the changed model, over the same rows.

    Attributes:
        gram: Mean of z zᵀ.
        drift: Mean of (x − z) zᵀ, shape (groups, features, features), float32.
        mean: Mean of x, shape (groups, features), float64.
        mean_now: Mean of z, shape (groups, features), float64.
    """

    gram: Gram
    drift: Array
    mean: Array
    mean_now: Array

    def centred(self) -> Streams:
        """Return the moments about the means: what is left where a bias takes up the rest."""
        now, off = self.mean_now, self.mean - self.mean_now
        matrix = self.gram.matrix - np.einsum("gk,gl->gkl", now, now)
        drift = self.drift - np.einsum("gk,gl->gkl", off, now)
        gram = Gram(matrix.astype(np.float32), self.gram.rows)
        return replace(self, gram=gram, drift=drift.astype(np.float32))


class Stream:
    """One model on its way through the samples: what the next nodes read, for each sample.

    Each step runs the nodes between two places of the graph, so that a whole walk runs every node
    once, whatever the number of steps. What does not fit into ``MEMORY_BYTES`` is kept in files.
    """

    def __init__(self, samples: Samples) -> None:
        self._kept: Sequence[Mapping[str, Array] | Path] | Samples = samples
        self._spool: Spool | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def _start(self, number: int) -> dict[str, Array]:
        """Return what the nodes that come next read, of one sample."""
        kept = self._kept[number]
        if not isinstance(kept, Path):
            return dict(kept)
        with np.load(kept) as file:
            return {name: file[name] for name in file.files}

    def steps(
        self, model: ir.Model, tensors: Sequence[str], kept: Sequence[str]
    ) -> Iterator[dict[str, Array]]:
        """Yield the tensors of each sample, and go on to where ``kept`` is all that is read.

        Args:
            model: The model as it is now: what comes before this step is not run again.
            tensors: Names of values that the step makes, or starts from.
            kept: Names of the values that the step after this one starts from.
        """
        made = _session(model, self._start(0), [*tensors, *kept])
        spool, used, after = Spool(), 0, list[Mapping[str, Array] | Path]()
        for number in range(len(self)):
            values = with_exposed(made, self._start(number))
            keep = {name: values[name] for name in kept}
            used += sum(array.nbytes for array in keep.values())
            if used <= MEMORY_BYTES:
                after.append(ort.kept(keep))
            else:
                after.append(spool.path / f"{number}.npz")
                write_feed(spool.path / f"{number}.npz", keep)
            yield {name: values[name] for name in tensors}
        self._kept, self._spool = after, spool


def streams(
    before: tuple[Stream, ir.Model],
    after: tuple[Stream, ir.Model],
    reads: Sequence[Read],
    kept: Sequence[str],
    *,
    seed: int = 0,
    step: Callable[[int], None] | None = None,
) -> list[Streams]:
    """Return the moments of each input, in the memory of one sample and of the moments.

    Rows where either model is not finite are left out, and so are samples where the two have
    tensors of different shapes.

    Args:
        before: The original's stream, and the original.
        after: The changed model's stream, and the same model with some weights compressed.
        reads: Inputs, all of them in the main graphs.
        kept: Names of the values that the next step starts from, the same in both.
        seed: Seed of the choice of rows.
        step: Called with the number of samples done.
    """
    release()
    names = [read.job.weights[0].input_name for read in reads], [read.tensor for read in reads]
    pairs = zip(
        before[0].steps(before[1], names[0], kept),
        after[0].steps(after[1], names[1], kept),
        strict=True,
    )
    sums = [_Sums(read.job) for read in reads]
    for number, (old, new) in enumerate(pairs):
        for index, (read, one) in enumerate(zip(reads, sums, strict=True)):
            x, z = old[names[0][index]], read.quantize(new[read.tensor])
            if x.shape == z.shape:
                place = (seed, number, index)  # of both, the same rows
                one.add(
                    *(
                        drawn_rows(read.job, tensor, len(before[0]), np.random.default_rng(place))
                        for tensor in (x, z)
                    )
                )
        if step is not None:
            step(number + 1)
    return [one.result() for one in sums]


def _session(model: ir.Model, feed: Mapping[str, Array], tensors: Sequence[str]) -> Any:
    """Return a session that makes the tensors of what is fed, or None where all of them are."""
    wanted = [name for name in dict.fromkeys(tensors) if name not in feed]
    if not wanted:
        return None
    types = {name: (ir.DataType.from_numpy(x.dtype), x.ndim) for name, x in feed.items()}
    return ort.session(segment(model, types, wanted), threads=cores(), low_memory=True)


class _Sums:
    """Growing sums; rows wait until there are enough for one fast product."""

    def __init__(self, job: Job) -> None:
        shape = (job.groups, job.features)
        self._gram = np.zeros((*shape, job.features), np.float32)
        self._drift = np.zeros_like(self._gram)
        self._means = np.zeros((2, *shape))
        self._waiting: list[tuple[Array, Array]] = []
        self._rows = 0

    def add(self, x: Array, z: Array) -> None:
        finite = np.isfinite(x).all(axis=(0, 2)) & np.isfinite(z).all(axis=(0, 2))
        if not finite.all():
            x, z = x[:, finite], z[:, finite]
        self._waiting.append((x, z))
        self._rows += z.shape[1]
        self._means += [rows.sum(axis=1, dtype=np.float64) for rows in (x, z)]
        if sum(part.shape[1] for _, part in self._waiting) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            x, z = (np.concatenate(side, axis=1) for side in zip(*self._waiting, strict=True))
            self._gram += np.matmul(z.transpose(0, 2, 1), z)
            x -= z
            self._drift += np.matmul(x.transpose(0, 2, 1), z)
            self._waiting = []

    def result(self) -> Streams:
        self._flush()
        count = max(self._rows, 1)
        mean, mean_now = self._means / count
        return Streams(Gram(self._gram / count, self._rows), self._drift / count, mean, mean_now)
