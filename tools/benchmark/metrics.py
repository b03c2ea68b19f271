"""How well a result does a case's task: one number per sample, so that differences can be paired.

A model's outputs are reduced sample by sample (``REDUCE``), because 400 recognised words alone are
400 MB of probabilities; ``hits`` then compares what is left. Kinds:

``acc``        1 where the largest logit is that of the label
``ocr``        1 where the word read (CTC, greedy) is the word rendered
``retrieval``  1 where, of all definitions, the own one is nearest to an example
``prob``       1 where the probability is on the same side of 0.5 as float's
``mask``       intersection over union of the text mask (probability over 0.3) with float's
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MASK_THRESHOLD = 0.3
"""What the detector's own post-processing uses."""

REDUCE: Mapping[str, Callable[[Array], Array]] = {
    "acc": lambda output: output.argmax(-1).reshape(-1),
    "ocr": lambda output: output.argmax(-1).reshape(-1),
    "retrieval": lambda output: output.reshape(-1),
    "prob": lambda output: output.reshape(-1) > 0.5,
    "mask": lambda output: output.reshape(-1) > MASK_THRESHOLD,
}


def read_word(indices: Array, characters: Sequence[str]) -> str:
    """Return the text of greedy CTC: repeats merged, blanks (index 0) dropped, ends stripped.

    >>> read_word(np.array([1, 1, 0, 1, 2]), ["", "a", "b"])
    'aab'
    """
    is_new = np.append(True, indices[1:] != indices[:-1])
    return "".join(characters[index] for index in indices[is_new & (indices != 0)]).strip()


def intersection_over_union(found: Array, reference: Array) -> float:
    """Return |A ∩ B| / |A ∪ B| of two boolean masks; 1 where both are empty."""
    union = int((found | reference).sum())
    return float((found & reference).sum()) / union if union else 1.0


def nearest_is_own(embeddings: Array) -> Array:
    """Return per query whether its own passage is nearest; rows are N queries, then N passages."""
    half = len(embeddings) // 2
    nearest = (embeddings[:half] @ embeddings[half : 2 * half].T).argmax(1)
    found: Array = nearest == np.arange(half)
    return found


def hits(
    kind: str,
    found: Sequence[Array],
    reference: Sequence[Array],
    labels: Mapping[str, Array],
    characters: Sequence[str] = (),
) -> Array:
    """Return one number in 0..1 per sample (per query for ``retrieval``) from reduced outputs.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind == "acc":
        values: Any = np.concatenate(found) == labels["y"][: len(found)]
    elif kind == "ocr":
        words = labels["words"][: len(found)]
        pairs = zip(found, words, strict=True)
        values = [read_word(indices, characters) == word for indices, word in pairs]
    elif kind == "retrieval":
        values = nearest_is_own(np.stack(found))
    elif kind == "prob":
        values = [(a == b).mean() for a, b in zip(found, reference, strict=True)]
    elif kind == "mask":
        values = [intersection_over_union(a, b) for a, b in zip(found, reference, strict=True)]
    else:
        raise ValueError(f"no metric of kind {kind!r}; there are {', '.join(REDUCE)}")
    return np.asarray(values, np.float64)


class Difference(NamedTuple):
    """Means of a result and of the original, and the standard error of their paired difference."""

    result: float
    original: float
    standard_error: float


def difference(result: Array, original: Array) -> Difference:
    """Return the means of two paired samples and ``std(a - b) / sqrt(n)``; 0 for one sample."""
    n = len(result)
    spread = float(np.std(result - original, ddof=1)) if n > 1 else 0.0
    return Difference(float(result.mean()), float(original.mean()), spread / math.sqrt(n))


class Energies(NamedTuple):
    """Sums of squares of a reference and of the error against it."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, output: Array, reference: Array) -> Energies:
        exact = reference.astype(np.float64)
        error = exact - output
        return Energies(
            self.signal + float(np.vdot(exact, exact)), self.noise + float(np.vdot(error, error))
        )

    def sqnr_db(self) -> float:
        """Return 10 · log10(signal / noise); infinity where there is no error."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf
