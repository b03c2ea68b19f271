"""A folder with a tiny model, its samples and a place for results, as a user would have it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from onnxsqueeze import cli
from tests.models import build

SAMPLES = 40
CLASSES = 6
NETWORK = """
g (float[N,3,12,12] x) => (float[N,6] y)
<float[32,3,3,3] w1, float[32] b1, float[64,32,3,3] w2, float[6,64] w3, float[6] b3> {
  a = Conv <pads = [1,1,1,1]> (x, w1, b1)
  r = Relu (a)
  c = Conv <strides = [2,2]> (r, w2)
  s = Relu (c)
  p = GlobalAveragePool (s)
  f = Flatten (p)
  y = Gemm <transB = 1> (f, w3, b3)
}"""
LINEAR = """
g (float[N,8] x) => (float[N,6] y) <float[8,64] w1, float[64,6] w2> {
  a = MatMul (x, w1)
  r = Relu (a)
  y = MatMul (r, w2)
}"""


@dataclass(frozen=True)
class Place:
    """``model.onnx``, ``data.npz`` with labels, and an empty ``out``."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def data(self) -> Path:
        return self.folder / "data.npz"

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file, by its path inside the folder."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        }


def linear(folder: Path) -> Place:
    """A place with two small matrices."""
    return _place(folder, LINEAR, (1, 8))


def network(folder: Path) -> Place:
    """A place with two convolutions and a Gemm, 79 kB."""
    return _place(folder, NETWORK, (1, 3, 12, 12))


def _place(folder: Path, text: str, shape: Sequence[int]) -> Place:
    place = Place(folder)
    onnx.save(build(text), place.model)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, *shape)).astype(np.float32)
    np.savez(place.data, x=x, labels=rng.integers(0, CLASSES, SAMPLES))
    (folder / "out").mkdir()
    return place


def run(*arguments: str | Path) -> int:
    """The exit code of one command."""
    return cli.main([str(argument) for argument in arguments])
