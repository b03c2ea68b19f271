"""A graph as ONNX text while random blocks write it: lines, and weights with their shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import onnx_ir as ir

from tests.models import build

Choice = TypeVar("Choice")


@dataclass
class Text:
    """A graph being written.

    Attributes:
        dims: Dims of its input ``x`` behind the batch: (c, 4, 4) for images, (4, d) for sequences.
        number: What the present block draws its operator with; see ``picked``.
        most: Most choices that a block had.
    """

    dims: tuple[int, ...]
    lines: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    number: int = 0
    most: int = 1

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(f"float[{','.join(map(str, shape))}] {name}")
        return name

    def vector(self, c: int) -> str:
        """A weight per channel of an image, or per feature of a sequence."""
        return self.weight(c, 1, 1) if len(self.dims) == 3 else self.weight(c)

    def line(self, call: str, results: int = 1) -> str:
        names = [f"v{len(self.lines)}_{k}" for k in range(results)]
        self.lines.append(f"{', '.join(names)} = {call}")
        return ", ".join(names)

    def ints(self, *values: int) -> str:
        listed = ", ".join(map(str, values))
        return self.line(f"Constant <value = int64[{len(values)}] {{{listed}}}> ()")

    def floats(self, *values: float) -> str:
        listed = ", ".join(map(str, map(float, values)))
        return self.line(f"Constant <value = float[{len(values)}] {{{listed}}}> ()")

    def scalar(self, kind: str, value: float) -> str:
        return self.line(f"Constant <value = {kind} {{{value}}}> ()")

    def picked(self, choices: Sequence[Choice]) -> Choice:
        """The choice of the block's number."""
        self.most = max(self.most, len(choices))
        return choices[self.number % len(choices)]

    def around(self, x: str, centre: int = 0) -> str:
        """Values within a half of ``centre``: there no operator is steep."""
        half = self.line(f"Mul ({self.line(f'Tanh ({x})')}, {self.floats(0.5)})")
        return self.line(f"Add ({half}, {self.floats(centre)})")

    def model(self, result: str, opset: int) -> ir.Model:
        head = f"g (float[N,{','.join(map(str, self.dims))}] x) => (float[] {result})"
        body = "\n".join(self.lines)
        text = f"{head}\n<{', '.join(self.weights)}> {{\n{body}\n}}"
        return ir.from_proto(build(text, opset, 10))


Block = Callable[[Text, str, int], tuple[str, int]]
"""Writes operators behind a tensor with so many channels or features; returns the result's."""
