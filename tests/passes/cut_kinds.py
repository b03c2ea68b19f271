"""The kinds of random models that are cut, each of blocks behind each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from tests.passes.cut_images import NEW, OLD
from tests.passes.cut_sequences import SEQUENCE
from tests.passes.cut_text import Block, Text


@dataclass(frozen=True)
class Kind:
    """A kind of models.

    Attributes:
        name: What it is called.
        opset: The opset that the blocks are written in.
        dims: Dims of the input behind the batch.
        blocks: What the models are made of.
    """

    name: str
    opset: int
    dims: tuple[int, ...]
    blocks: tuple[Block, ...]

    def model(self, numbers: Sequence[int]) -> ir.Model:
        """The blocks of these numbers, and a product with a weight at the end.

        A number tells the block, and what it picks where it has choices.
        """
        return self._written(numbers)[0]

    def every_block(self) -> Iterator[tuple[str, int]]:
        """Each block by name with each of its choices, as a number of ``model``."""
        for index in dict.fromkeys(map(self.blocks.index, self.blocks)):
            most = self._written([index])[1].most
            for choice in range(most):
                yield self.blocks[index].__name__, index + choice * len(self.blocks)

    def _written(self, numbers: Sequence[int]) -> tuple[ir.Model, Text]:
        g = Text(self.dims)
        is_image = len(self.dims) == 3
        x, c = "x", self.dims[0] if is_image else self.dims[-1]
        for number in numbers:
            g.number = number // len(self.blocks)
            x, c = self.blocks[number % len(self.blocks)](g, x, c)
        if is_image:
            x, c = g.line(f"Flatten ({x})"), c * prod(self.dims[1:])
        return g.model(g.line(f"MatMul ({x}, {g.weight(c, 3)})"), self.opset), g


IMAGES = Kind("images", 24, (3, 4, 4), NEW)
OLD_IMAGES = Kind("images of opset 9", 9, (3, 4, 4), OLD)
SEQUENCES = Kind("sequences", 24, (4, 5), SEQUENCE)
KINDS = (IMAGES, OLD_IMAGES, SEQUENCES)
