"""Gram matrices of the inputs of linear nodes: what rounding and repair are fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.facts.store import Fact

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Gram:
    """Second moments of the rows that a weight matrix is multiplied with.

    Attributes:
        matrix: Mean of x xᵀ over the rows, shape (groups, features, features), float32.
        rows: Number of rows seen, per group.
    """

    matrix: Array
    rows: int


class Grams(Mapping[str, Gram]):
    """Gram matrices by weight name, each read from its record when it is asked for."""

    def __init__(self, fact: Fact) -> None:
        self._fact = fact

    def __getitem__(self, name: str) -> Gram:
        place = self._fact.values["weights"][name]
        return Gram(np.asarray(self._fact.arrays[place["array"]]), int(place["rows"]))

    def __iter__(self) -> Any:
        return iter(self._fact.values["weights"])

    def __len__(self) -> int:
        return len(self._fact.values["weights"])

    def array(self, name: str) -> str:
        """Return what tells this weight's matrix from the others of the record."""
        return str(self._fact.values["weights"][name]["array"])

    @property
    def record(self) -> str:
        """Name of the record that they are read from."""
        return self._fact.name


def identity(grams: Mapping[str, Gram], name: str) -> str | None:
    """Return what tells one Gram matrix of a weight from another; None where there is none.

    Measured ones are told apart by their record, so that the matrix need not be read.
    """
    if name not in grams:
        return None
    if isinstance(grams, Grams):
        return grams.record
    one = grams[name]
    content = np.ascontiguousarray(one.matrix).tobytes()
    return f"{hashlib.sha256(content).hexdigest()} {one.rows}"
