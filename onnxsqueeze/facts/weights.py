"""What is known of each weight before anything is decided."""

from __future__ import annotations

from pydantic import Field

from onnxsqueeze.facts.records import Record


class WeightFacts(Record):
    """One weight.

    Attributes:
        name: The initializer.
        node: The first node that reads it.
        operator: That node's operator.
        role: ``linear``, ``lookup`` or ``recurrent``.
        shape: Its shape.
        axis: The axis whose entries have their own scales.
        item_bytes: Bytes per value in the file.
        largest: Largest magnitude; infinite or NaN values are counted in ``not_finite``.
        not_finite: Number of NaN or infinite values.
        zeros: Number of values that are zero, or become zero under the pruning threshold.
        damage: Relative output error energy with four bits, None where it was not tried.
        block_gain: For some numbers of values per scale, the noise of rounding with them as a part
            of that with one scale per channel; empty where blocks are not possible.
        column_gain: The same for a scale per column beside the one per channel; 1 where that does
            not help or is not possible.
        thin_damage: Relative output error energy to be expected with parts of its values gone, by
            part; empty where that was not asked, or is not known.
        rows: Rows of its input that its Gram matrix is made of; 0 where there is none.
    """

    name: str
    node: str
    operator: str
    role: str
    shape: tuple[int, ...]
    axis: int
    item_bytes: int
    largest: float
    not_finite: int
    zeros: int = 0
    damage: float | None
    block_gain: dict[int, float] = Field(default_factory=dict)
    column_gain: float = 1.0
    thin_damage: dict[float, float] = Field(default_factory=dict)
    rows: int

    @property
    def count(self) -> int:
        """Number of values."""
        total = 1
        for dim in self.shape:
            total *= dim
        return total

    @property
    def channels(self) -> int:
        """Number of entries of ``axis``."""
        return self.shape[self.axis]

    @property
    def features(self) -> int:
        """Values per channel."""
        return self.count // self.channels
