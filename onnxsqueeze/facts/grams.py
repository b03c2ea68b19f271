"""Gram matrices of the inputs of linear nodes: what rounding and repair are fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.facts.store import Fact
from onnxsqueeze.numerics.scaling import scaled_gram

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

    def __contains__(self, name: object) -> bool:
        return name in self._fact.values["weights"]  # without reading it

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


class SpreadGrams(Mapping[str, Gram]):
    """Gram matrices in a record each, read from there when they are asked for."""

    def __init__(self, facts: Mapping[str, Fact]) -> None:
        """Take the records by weight, as ``measure.large.large_grams`` makes them."""
        self._facts = facts

    def __getitem__(self, name: str) -> Gram:
        fact = self._facts[name]
        return Gram(np.asarray(fact.arrays["matrix"]), int(fact.values["rows"]))

    def __contains__(self, name: object) -> bool:
        return name in self._facts

    def __iter__(self) -> Any:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def rows(self, name: str) -> int:
        """Return how many rows a matrix is made of, which is told without reading it."""
        return int(self._facts[name].values["rows"])

    def lost(self, name: str) -> float:
        """Return the error of the weight's own product with four bits, relative to its energy."""
        return float(self._facts[name].values["lost"][name])

    def identity(self, name: str) -> str:
        """Return what tells this weight's matrix from another."""
        return self._facts[name].name


class Rescaled(Mapping[str, Gram]):
    """Gram matrices of inputs whose features were divided by factors: ``D⁻¹ H D⁻¹``."""

    def __init__(
        self, grams: Mapping[str, Gram], factors: Mapping[str, Array], digest: str
    ) -> None:
        """Take the matrices, factors of shape (groups, features) by weight, and their digest."""
        self._grams = grams
        self._factors = factors
        self.digest = digest
        """What tells these factors from others."""

    def __getitem__(self, name: str) -> Gram:
        found = self._grams[name]
        if name not in self._factors:
            return found
        factors = self._factors[name]
        pairs = zip(found.matrix, factors, strict=True)
        return Gram(np.stack([scaled_gram(matrix, one) for matrix, one in pairs]), found.rows)

    def __contains__(self, name: object) -> bool:
        return name in self._grams

    def __iter__(self) -> Any:
        return iter(self._grams)

    def __len__(self) -> int:
        return len(self._grams)

    def identity(self, name: str) -> str | None:
        """Return what tells this weight's matrix from another."""
        own = identity(self._grams, name)
        return own if own is None or name not in self._factors else f"{own} / {self.digest}"


def identity(grams: Mapping[str, Gram], name: str) -> str | None:
    """Return what tells one Gram matrix of a weight from another; None where there is none.

    Measured ones are told apart by their record, so that the matrix need not be read.
    """
    if name not in grams:
        return None
    if isinstance(grams, Grams):
        return grams.record
    if isinstance(grams, Rescaled | SpreadGrams):
        return grams.identity(name)
    one = grams[name]
    content = np.ascontiguousarray(one.matrix).tobytes()
    return f"{hashlib.sha256(content).hexdigest()} {one.rows}"
