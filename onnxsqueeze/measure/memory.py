"""How much memory a large model takes, told before the work starts, and how the work is cut."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.graph import walk
from onnxsqueeze.graph.io import weight_bytes
from onnxsqueeze.measure.grams import MOST_FEATURES
from onnxsqueeze.passes.round_parts import PART_ELEMENTS

OWN_BYTES = 300_000_000
"""Python, this package and the engine, before any model."""
ARRAYS_AT_ONCE = 12
"""Float arrays of a part that rounding holds."""
GRAMS_AT_ONCE = 4
"""Matrices of float64 that compensated rounding holds: the moments, damped, and its factor."""
STEP_BYTES = 256_000_000
"""Most that the Gram matrices of one step of a walk may take."""
SHARE_OF_RESULT = 0.3
"""Of the original's bytes; what a result with kernels of 4 or 8 bits takes at most beside it."""


@dataclass(frozen=True)
class Needed:
    """What a large model takes at the most, in bytes.

    Attributes:
        session: A session of the original: all of its weights.
        result: One of the result, beside it, when the two are timed in turns.
        work: Rounding of the largest weight, when no session is there.
        own: What there is before any model.
    """

    session: int
    result: int
    work: int
    own: int = OWN_BYTES

    @property
    def peak_bytes(self) -> int:
        """The most at any time: sessions and rounding take turns."""
        return self.own + max(self.session + self.result, self.work)

    def words(self, available: int | None = None) -> str:
        """Return one line for the user.

        Example:
            >>> Needed(3_200_000_000, 960_000_000, 700_000_000).words(20_000_000_000)
            'needs about 4.5 GB of memory: model 3.2, result beside it 1.0; there are 20.0 free'
        """
        parts = (
            f"model {_gb(self.session)}, result beside it {_gb(self.result)}"
            if self.session + self.result >= self.work
            else f"rounding {_gb(self.work)}"
        )
        free = "" if available is None else f"; there are {_gb(available)} free"
        return f"needs about {_gb(self.peak_bytes)} GB of memory: {parts}{free}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f}"


def needed(model: ir.Model, *, has_data: bool) -> Needed:
    """Return what compressing a model with its weights on disk takes.

    Args:
        model: The model.
        has_data: Whether rounding is compensated.
    """
    tensors = [value.const_value for _, value in walk.initializers(model)]
    largest = max((tensor.nbytes for tensor in tensors if tensor is not None), default=0)
    # The weight as it is mapped, its codes, and arrays of one part.
    work = 2 * largest + 4 * ARRAYS_AT_ONCE * PART_ELEMENTS
    if has_data:
        work += STEP_BYTES + 8 * GRAMS_AT_ONCE * MOST_FEATURES**2 + 2 * largest
    size = weight_bytes(model)
    return Needed(session=size, result=int(SHARE_OF_RESULT * size), work=work)
