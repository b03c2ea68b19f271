"""How much a single weight matters, by several criteria, and how weights add up to units.

Every score is of a weight matrix W (out, features) and of what is known of its input x or of its
gradients g; larger matters more. ``l1`` and ``l2`` rank single weights alike and differ in groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onnxsqueeze.numerics.pruning import ridged

Array = npt.NDArray[Any]
Aggregation = Literal["sum", "mean", "max"]
Normalisation = Literal["none", "layer"]

RIDGE = 0.01
"""Added to a Gram matrix, as a fraction of its mean diagonal, before it is inverted."""


def l1(w: Array) -> Array:
    """Return |w|.

    Source:
        Li et al. 2016 (arXiv:1608.08710); for single weights Han et al. 2015 (arXiv:1506.02626).
    """
    scores: Array = np.abs(w.astype(np.float32))
    return scores


def l2(w: Array) -> Array:
    """Return w²."""
    scores: Array = np.square(w.astype(np.float32))
    return scores


def activation(w: Array, gram: Array) -> Array:
    """Return |w|·‖x‖, with ‖x‖ the root of the mean square of the weight's feature.

    Args:
        w: Shape (out, features).
        gram: H, the mean of x xᵀ, (features, features).

    Source:
        Sun et al. 2023, Wanda (arXiv:2306.11695), eq. 1.

    Example:
        >>> activation(np.array([[-1.0, 3.0]]), np.diag([16.0, 1.0])).tolist()
        [[4.0, 3.0]]
    """
    norms = np.sqrt(np.maximum(np.diag(gram), 0)).astype(np.float32)
    scores: Array = l1(w) * norms
    return scores


def obs(w: Array, gram: Array, ridge: float = RIDGE) -> Array:
    """Return w² / (H⁻¹)ᵢᵢ: the error energy once w is 0 and the others of its row make up for it.

    A feature that is always 0 is worth nothing, whatever the ridge makes of its weights.

    Args:
        w: Shape (out, features).
        gram: H, (features, features).
        ridge: Over 0; added to H as a fraction of its mean diagonal.

    Source:
        Hassibi & Stork 1992, Optimal Brain Surgeon, eq. 5, without the constant ½.

    Example:
        Features 0 and 1 are equal, so that each makes up for the other.

        >>> gram = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> (obs(np.ones((1, 3)), gram, 1e-9) > 0.5).tolist()
        [[False, False, True]]
    """
    inverse = np.linalg.inv(ridged(gram.astype(np.float64), ridge))
    seen = np.diag(gram) > 0
    scores: Array = (np.square(w.astype(np.float64)) / np.diag(inverse) * seen).astype(np.float32)
    return scores


@dataclass
class GradientSums:
    """Growing sums over samples of what gradients say of one array of weights, or of gates.

    Attributes:
        absolute: Sum of the sizes of w·g.
        square: Sum of (w·g)².
        count: Gradients that were added.
    """

    absolute: Any = field(default=0.0)
    square: Any = field(default=0.0)
    count: int = 0

    def add(self, product: Array) -> None:
        """Add one w·g; for a gate of several weights, the sum of theirs."""
        self.absolute = self.absolute + np.abs(product)
        self.square = self.square + np.square(product)
        self.count += 1

    def taylor(self) -> Array:
        """Return E|w·g|: what the loss changes by in the first order if w becomes 0.

        Source:
            Molchanov et al. 2016 (arXiv:1611.06440), eq. 8, on w or on a gate of several weights.

        Example:
            >>> sums = GradientSums()
            >>> sums.add(np.array([1.0, -2.0])); sums.add(np.array([-1.0, 0.0]))
            >>> sums.taylor().tolist(), sums.fisher().tolist()
            ([1.0, 1.0], [1.0, 2.0])
        """
        return np.asarray(self.absolute / max(self.count, 1), np.float32)

    def fisher(self) -> Array:
        """Return E[(w·g)²]: twice what the damage is in the second order if w becomes 0.

        Source:
            LeCun et al. 1989, Optimal Brain Damage, with the diagonal of the Fisher information
            in the place of the Hessian's: Theis et al. 2018 (arXiv:1801.05787), eq. 7.
        """
        return np.asarray(self.square / max(self.count, 1), np.float32)


def grouped(scores: Array, units: Array, count: int, aggregation: Aggregation) -> Array:
    """Return the score of each unit, (count,), from those of its weights.

    Args:
        scores: Any shape.
        units: Unit of each weight, of the same shape; -1 where it belongs to none.
        count: Number of units; one without weights scores 0.
        aggregation: ``sum`` favours units of many weights, ``mean`` does not, ``max`` asks for the
            one weight that matters most.

    Source:
        Choice of aggregation: Fang et al. 2023, DepGraph (arXiv:2301.12900), section 3.3.

    Example:
        >>> grouped(np.array([1.0, 2.0, 4.0]), np.array([0, 0, -1]), 2, "mean").tolist()
        [1.5, 0.0]
    """
    own = units >= 0
    places, values = units[own], np.asarray(scores, np.float64)[own]
    if aggregation == "max":
        best = np.zeros(count)
        np.maximum.at(best, places, values)
        return best
    sums = np.bincount(places, weights=values, minlength=count)
    if aggregation == "sum":
        return sums
    return sums / np.maximum(np.bincount(places, minlength=count), 1)


def normalised(scores: Array, normalisation: Normalisation) -> Array:
    """Return scores that can be held against those of other layers.

    ``layer`` divides by the layer's mean, so that no layer matters more for its scale: right for
    ``l1`` and ``l2``, whose scale says nothing; ``none`` keeps the scale, which means something
    for ``taylor`` and ``fisher`` (damage of the whole model) and for no other.

    Example:
        >>> normalised(np.array([1.0, 3.0]), "layer").tolist()
        [0.5, 1.5]
    """
    if normalisation == "none":
        return scores
    mean = float(np.mean(scores)) if scores.size else 0.0
    return scores / mean if mean > 0 else scores
