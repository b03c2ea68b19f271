"""Which units of a layer can go at the least loss, if what stays is fitted to make up for it.

A unit is what is removed as a whole: a channel, a neuron, a head. A consumer is a weight matrix
that multiplies units' features: one feature of a MatMul per neuron, ``k·k`` im2col features of a
Conv per channel, ``head_dim`` of an output projection per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Criterion = Literal["obs", "l1", "l2", "activation"]
CRITERIA: tuple[Criterion, ...] = ("obs", "l1", "l2", "activation")
"""What needs nothing but weights and moments of what they read."""

ROUNDS = 32
"""In each round at most this part of the units that are left goes, those of the least loss."""


@dataclass(frozen=True)
class Consumer:
    """A weight matrix that reads units.

    Attributes:
        weight: W, shape (out, features).
        gram: H, the mean of x xᵀ over rows of its input, positive semidefinite, shape (features,
            features).
        units: Unit of each feature, shape (features,); -1 where it belongs to none and stays.
    """

    weight: Array
    gram: Array
    units: Array

    def __post_init__(self) -> None:
        features = self.weight.shape[1]
        if self.gram.shape != (features, features) or self.units.shape != (features,):
            raise ValueError(
                f"weight {self.weight.shape}, gram {self.gram.shape} and units {self.units.shape}"
                " must agree in their features"
            )

    @property
    def energy(self) -> float:
        """Mean energy of its output, ``tr(W H Wᵀ)``."""
        return float(np.vdot(self.weight @ self.gram, self.weight))


@dataclass(frozen=True)
class Removal:
    """Units in the order in which they go, and what that loses.

    Attributes:
        order: Every unit once; the first goes first, shape (units,).
        losses: ``losses[n]`` is the loss once the first n are gone and the rest is refitted:
            the sum over consumers of their output's error energy, each as a fraction of its own
            output's energy; shape (units + 1,), from 0, not falling.
    """

    order: Array
    losses: Array

    def kept(self, count: int) -> Array:
        """Return the ``count`` units that stay longest, ascending."""
        kept: Array = np.sort(self.order[len(self.order) - count :])
        return kept


def removal(
    consumers: Sequence[Consumer], count: int, ridge: float, order: Array | None = None
) -> Removal:
    """Return the order of least loss after repair, or the losses of a given order.

    A set S of features that goes, where the other features take over as well as they can, costs
    ``ΔL = tr(W_S (H⁻¹_SS)⁻¹ W_Sᵀ)``; then ``W −= W_S (H⁻¹_SS)⁻¹ H⁻¹_S:`` and ``H⁻¹ −= H⁻¹_:S
    (H⁻¹_SS)⁻¹ H⁻¹_S:``, exactly the solution and the inverse without them. Units go in rounds of
    up to 1/32 of those left, by their single losses; the loss of a round is that of its whole
    set, not a sum of single ones.

    Args:
        consumers: All that read the units.
        count: Number of units.
        ridge: Added to each H, as a fraction of its mean diagonal; over 0.
        order: Units in an order of the caller's; None for the order of least loss.

    Raises:
        ValueError: If there is no consumer, or ``ridge`` is not over 0.

    Source:
        Hassibi & Stork 1992, Optimal Brain Surgeon; in blocks as Kurtic et al. 2023, ZipLM
        (arXiv:2302.04089), eq. 3 to 5.

    Example:
        Features 0 and 1 are equal, so one of them goes first, at no loss.

        >>> x = np.array([[1.0, 1.0, 2.0], [2.0, 2.0, 1.0], [0.0, 0.0, 3.0]])
        >>> found = removal([Consumer(np.ones((1, 3)), x.T @ x / 3, np.arange(3))], 3, 1e-9)
        >>> bool(found.losses[1] < 1e-6), int(found.order[0]) in (0, 1)
        (True, True)
    """
    if not consumers or not ridge > 0:
        raise ValueError(f"removal needs consumers and a ridge over 0, not {len(consumers)}")
    states = [_State(one, ridge) for one in consumers]
    left, gone, losses = np.arange(count), [], [np.zeros(1)]
    while len(left):
        take = max(1, len(left) // ROUNDS)
        if order is None:
            scores = np.sum([state.scores(count) for state in states], axis=0)[left]
            chosen = left[np.argsort(scores, kind="stable")[:take]]
        else:
            chosen = np.asarray(order)[count - len(left) :][:take]
        added = np.sum([state.remove(chosen) for state in states], axis=0)
        losses.append(losses[-1][-1] + np.cumsum(np.maximum(added, 0)))
        gone.append(chosen)
        left = left[~np.isin(left, chosen)]
    return Removal(np.concatenate(gone), np.concatenate(losses))


class _State:
    """A consumer's weight and inverse Gram matrix over the features that are left."""

    def __init__(self, consumer: Consumer, ridge: float) -> None:
        # A feature that is always 0 is worth nothing, whatever the ridge makes of its weights.
        seen = np.diag(consumer.gram) > 0
        weight = consumer.weight.astype(np.float64) * seen
        self._weight = square_root(weight) if len(weight) > weight.shape[1] else weight
        self._inverse = np.linalg.inv(ridged(consumer.gram.astype(np.float64), ridge))
        self._units = consumer.units
        energy = consumer.energy
        self._scale = 1.0 / energy if energy > 0 else 0.0

    def scores(self, count: int) -> Array:
        """Return the loss of each unit if it alone goes now, shape (count,)."""
        scores = np.zeros(count)
        for units, places in _by_size(self._units):
            blocks = self._inverse[places[:, :, None], places[:, None, :]]
            parts = self._weight.T[places]  # (units, size, out)
            if places.shape[1] == 1:
                loss = np.square(parts[:, 0]).sum(axis=1) / blocks[:, 0, 0]
            else:
                loss = np.einsum("uso,uso->u", parts, np.linalg.solve(blocks, parts))
            scores[units] = loss * self._scale
        return scores

    def remove(self, chosen: Array) -> Array:
        """Remove units; return what each adds to the loss once those before it are gone."""
        rank = np.full(int(max(self._units.max(initial=-1), chosen.max())) + 2, -1)
        rank[chosen] = np.arange(len(chosen))
        ranks = rank[self._units]  # unit -1 reads the last entry, which is -1
        removed = np.flatnonzero(ranks >= 0)
        removed = removed[np.argsort(ranks[removed], kind="stable")]
        left = np.flatnonzero(ranks < 0)
        # (H⁻¹_SS) = L Lᵀ, in the order of removal: row i of L⁻¹ W_Sᵀ is what feature i adds.
        lower = np.linalg.cholesky(self._inverse[np.ix_(removed, removed)])
        z = np.linalg.solve(lower, self._weight[:, removed].T)
        y = np.linalg.solve(lower, self._inverse[np.ix_(removed, left)])
        self._weight = self._weight[:, left] - z.T @ y
        self._inverse = self._inverse[np.ix_(left, left)] - y.T @ y
        self._units = self._units[left]
        added = np.square(z).sum(axis=1) * self._scale
        return np.bincount(ranks[removed], weights=added, minlength=len(chosen))


def square_root(weight: Array) -> Array:
    """Return an invertible R, (features, features), with ``Rᵀ R = Wᵀ W`` to 1e-10 of its trace.

    What sums over all outputs of a weight is the same for R, which has fewer rows where a weight
    has more outputs than features.
    """
    wide = weight.astype(np.float64)
    energies: Array = wide.T @ wide
    root: Array = np.linalg.cholesky(ridged(energies, 1e-10)).T
    return root


def _by_size(units: Array) -> list[tuple[Array, Array]]:
    """Return (units, places (units, size)) of the features of units, by number of features."""
    places = np.flatnonzero(units >= 0)
    places = places[np.argsort(units[places], kind="stable")]
    found, starts, sizes = np.unique(units[places], return_index=True, return_counts=True)
    return [
        (
            found[sizes == size],
            places[starts[sizes == size][:, None] + np.arange(size)],
        )
        for size in np.unique(sizes)
    ]


def ridged(gram: Array, fraction: float) -> Array:
    """Return ``gram`` with ``fraction`` of its mean diagonal added to the diagonal.

    A matrix of zeros (an input that never was anything else) gets 1: there is nothing to fit.
    """
    mean = float(np.trace(gram)) / len(gram)
    added = fraction * mean if mean > 0 else 1.0
    return gram + added * np.eye(len(gram), dtype=gram.dtype)


def unit_scores(consumers: Sequence[Consumer], count: int, criterion: Criterion) -> Array:
    """Return how much each unit matters by a criterion that knows of no repair, shape (count,).

    ``l1``: mean |w|; ``l2``: root of mean w²; ``activation``: mean |w|·‖x‖, over all weights of a
    unit in a consumer. Each consumer's scores are divided by their mean over units, so that none
    counts more for its scale, and then averaged over consumers; ``obs`` is the sum of losses, see
    ``removal``, with a ridge of 1%.

    Source:
        l1: Li et al. 2016 (arXiv:1608.08710). activation: Sun et al. 2023, Wanda
        (arXiv:2306.11695). Grouping: Fang et al. 2023, DepGraph (arXiv:2301.12900).

    Example:
        >>> one = Consumer(np.array([[1.0, 3.0]]), np.diag([16.0, 1.0]), np.arange(2))
        >>> unit_scores([one], 2, "l1").tolist()
        [0.5, 1.5]
        >>> bool(np.diff(unit_scores([one], 2, "activation")) < 0)
        True
    """
    if criterion == "obs":
        return np.asarray(np.sum([_State(one, 0.01).scores(count) for one in consumers], axis=0))
    total = np.zeros(count)
    for one in consumers:
        sizes = np.abs(one.weight.astype(np.float64))
        if criterion == "activation":
            sizes = sizes * np.sqrt(np.maximum(np.diag(one.gram), 0))
        columns = (np.square(sizes) if criterion == "l2" else sizes).mean(axis=0)
        own = one.units >= 0
        sums = np.bincount(one.units[own], weights=columns[own], minlength=count)
        scores = sums / np.maximum(np.bincount(one.units[own], minlength=count), 1)
        scores = np.sqrt(scores) if criterion == "l2" else scores
        total += scores / max(float(scores.mean()), 1e-30)
    return total / max(len(consumers), 1)


def ranked(
    consumers: Sequence[Consumer], count: int, ridge: float, criterion: Criterion = "obs"
) -> Removal:
    """Return the units in the order of a criterion, with the losses after repair."""
    if criterion == "obs":
        return removal(consumers, count, ridge)
    order = np.argsort(unit_scores(consumers, count, criterion), kind="stable")
    return removal(consumers, count, ridge, order)
