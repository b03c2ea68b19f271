"""Mutual information between a feature's value per sample and the model's output."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ROWS_PER_CELL = 5
"""Samples that each cell of a table of counts should hold in the mean."""
MOST_BINS = 16
COMPONENTS = 4
"""Principal components of an output of values that information is about."""


def bins_for(samples: int) -> int:
    """Return how many bins each of two values gets: their table has 5 samples in each cell.

    Example:
        >>> bins_for(8), bins_for(500), bins_for(10**6)
        (2, 10, 16)
    """
    return int(np.clip(np.sqrt(samples / ROWS_PER_CELL), 2, MOST_BINS))


def binned(values: Array, bins: int) -> Array:
    """Return the bin of each value, from 0; bins hold about equally many, equal values one bin.

    Example:
        >>> binned(np.array([0.0, 0.0, 0.0, 5.0, 9.0, 7.0]), 2).tolist()
        [0, 0, 0, 1, 1, 1]
    """
    inner = np.quantile(values, np.arange(1, bins) / bins, method="lower")
    found: Array = np.searchsorted(np.unique(inner), values, side="left")
    return found


def information(a: Array, b: Array) -> float:
    """Return the mutual information of two codes in nats, at least 0.

    ``H(a) + H(b) - H(a, b)`` of the counts, each entropy with its first-order bias taken away:
    ``+ (occupied cells - 1) / 2n``.

    Args:
        a: Integers from 0, shape (samples,).
        b: The same.

    Source:
        Miller 1955, Note on the bias of information estimates.

    Example:
        >>> code = np.arange(400) % 2
        >>> round(information(code, code), 2), information(code, np.arange(400) // 2 % 2)
        (0.69, 0.0)
    """
    joint = a.astype(np.int64) * (int(b.max(initial=0)) + 1) + b
    return max(_entropy(a) + _entropy(b) - _entropy(joint), 0.0)


def _entropy(code: Array) -> float:
    _, counts = np.unique(code, return_counts=True)
    p = counts / len(code)
    return float(-(p * np.log(p)).sum() + (len(counts) - 1) / (2 * len(code)))


def feature_information(features: Array, output: Array) -> Array:
    """Return the mutual information of each feature with the output, shape (features,).

    A class per sample is taken as it is. A vector per sample is taken by its first principal
    components, each in bins, and the informations are averaged by the variance that each explains.

    Args:
        features: One value per sample, (samples, features).
        output: Classes, (samples,) of integers, or vectors, (samples, dims).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 2))
        >>> found = feature_information(x, (x[:, 0] > 0).astype(int))
        >>> bool(found[0] > 0.6), bool(found[1] < 0.05)
        (True, True)
    """
    bins = bins_for(len(features))
    codes, weights = _codes(output, bins)
    found = np.zeros(features.shape[1])
    for number, column in enumerate(features.T):
        own = binned(column, bins)
        parts = [information(own, code) for code in codes]
        found[number] = float(np.dot(parts, weights))
    return found


def _codes(output: Array, bins: int) -> tuple[list[Array], Array]:
    if output.ndim == 1:
        return [output], np.ones(1)
    scores, energies = components(output)
    return [binned(column, bins) for column in scores.T], energies / max(energies.sum(), 1e-300)


def components(output: Array) -> tuple[Array, Array]:
    """Return the first principal components of vectors, (samples, components), and variances."""
    centred = output.astype(np.float64) - output.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    return u[:, :COMPONENTS] * s[:COMPONENTS], np.square(s[:COMPONENTS])
