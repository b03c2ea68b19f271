"""Text that ships with Python, as bytes: the language reference's topics, and library sources."""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BYTES = 256
PARTS = 8
"""One document in so many is kept to evaluate on, and one to calibrate with."""
LIBRARY_BYTES = 2_000_000
"""Sources that are taken, in the order of their names; the topics have 0.7 million bytes."""

Ids = npt.NDArray[np.int64]


class Corpus(NamedTuple):
    """Disjoint documents: to train on, to calibrate with, to evaluate on."""

    training: list[bytes]
    calibration: list[bytes]
    evaluation: list[bytes]


def corpus() -> Corpus:
    """Return the documents; which part one belongs to is told by its name alone."""
    parts: Corpus = Corpus([], [], [])
    for name, document in documents().items():
        number = hashlib.sha256(name.encode()).digest()[0] % PARTS
        parts[{0: 2, 1: 1}.get(number, 0)].append(document)
    return parts


def documents() -> dict[str, bytes]:
    """Return each document by its name: topics of ``pydoc``, and modules of the library."""
    library = Path(sysconfig.get_path("stdlib"))
    found = _topics()
    left = LIBRARY_BYTES
    for path in sorted(library.glob("*.py")):
        source = path.read_bytes()
        if left < len(source):
            break
        left -= len(source)
        found[path.name] = source
    return found


def _topics() -> dict[str, bytes]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        return {}
    return {f"topic {name}": topics[name].encode() for name in sorted(topics)}


def pieces(documents: list[bytes], count: int, length: int, seed: int) -> Ids:
    """Return bytes of shape (count, length), drawn without overlap from all documents."""
    rows = [
        document[start : start + length]
        for document in documents
        for start in range(0, len(document) - length + 1, length)
    ]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return np.stack([np.frombuffer(rows[row], np.uint8) for row in chosen]).astype(np.int64)
