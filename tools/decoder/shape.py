"""What a decoder looks like: its sizes, and the name and shape of each of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HEAD_DIM = 64
FEWEST_LAYERS = 8
DIMS = (4096, 2048, 1024, 512, 256, 128, 64)
VOCABULARY_PER_DIM = 16
MOST_WORDS = 32000
FLOAT_BYTES = 4
POSITIONS = 1024

Kind = Literal["table", "gain", "inner", "outer", "head"]
"""``inner`` products read the normalized stream, ``outer`` ones add to it."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder.

    Attributes:
        layers: Number of layers.
        dim: Width of the stream.
        hidden: Width of the gated feed-forward part.
        heads: Attention heads; ``dim / heads`` is even.
        vocabulary: Number of tokens.
        positions: Longest sequence, past included.
        is_tied: Whether the head is the embedding's table.
        readers: Attention heads that read the same keys and values; divides ``heads``.
    """

    layers: int
    dim: int
    hidden: int
    heads: int
    vocabulary: int
    positions: int
    is_tied: bool
    readers: int = 1

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads // self.readers

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.heads

    def weights(self) -> dict[str, tuple[Kind, tuple[int, ...]]]:
        """Return each weight's kind and shape by name, products as (inputs, outputs)."""
        d, f = self.dim, self.hidden
        found: dict[str, tuple[Kind, tuple[int, ...]]] = {"table": ("table", (self.vocabulary, d))}
        for layer in range(self.layers):
            name = f"layer{layer}"
            found[f"{name}_attention_gain"] = ("gain", (d,))
            found[f"{name}_query"] = ("inner", (d, d))
            cached = self.key_heads * self.head_dim
            found |= {f"{name}_{part}": ("inner", (d, cached)) for part in ("key", "value")}
            found[f"{name}_mixed"] = ("outer", (d, d))
            found[f"{name}_feed_gain"] = ("gain", (d,))
            found |= {f"{name}_{part}": ("inner", (d, f)) for part in ("gate", "up")}
            found[f"{name}_down"] = ("outer", (f, d))
        found["last_gain"] = ("gain", (d,))
        if not self.is_tied:
            found["head"] = ("head", (d, self.vocabulary))
        return found

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights in float32."""
        total = 0
        for _, dims in self.weights().values():
            count = FLOAT_BYTES
            for dim in dims:
                count *= dim
            total += count
        return total


def shape_of_size(size_bytes: float, *, is_tied: bool = True) -> Shape:
    """Return the shape of a decoder of at least ``size_bytes``: the widest with eight layers.

    Example:
        >>> shape = shape_of_size(3.2e9)
        >>> shape.dim, shape.vocabulary, shape.size_bytes >= 3.2e9
        (2048, 32000, True)
    """
    for dim in DIMS:
        vocabulary = min(MOST_WORDS, VOCABULARY_PER_DIM * dim)
        layers = 1
        while (shape := _shape(layers, dim, vocabulary, is_tied)).size_bytes < (size_bytes):
            layers += 1
        if layers >= FEWEST_LAYERS or dim == DIMS[-1]:
            return shape
    raise AssertionError("the last width always does")


def _shape(layers: int, dim: int, vocabulary: int, is_tied: bool) -> Shape:
    hidden = dim * 8 // 3 // 64 * 64
    return Shape(layers, dim, hidden, dim // HEAD_DIM, vocabulary, POSITIONS, is_tied)
