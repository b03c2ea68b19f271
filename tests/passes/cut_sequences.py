"""Blocks of sequences: x (N, 4, d) -> the result, of the same places, and its features."""

from __future__ import annotations

from tests.passes.cut_entrywise import ENTRYWISE
from tests.passes.cut_text import Block, Text


def linear(g: Text, x: str, d: int) -> tuple[str, int]:
    y = g.line(f"MatMul ({x}, {g.weight(d, 6)})")
    return g.line(f"Add ({y}, {g.weight(6)})"), 6


def _gemm(g: Text, x: str, d: int) -> tuple[str, int]:
    rows = g.line(f"Reshape ({x}, {g.ints(-1, d)})")
    y = g.line(f"Gemm <transB = 1> ({rows}, {g.weight(5, d)}, {g.weight(5)})")
    return g.line(f"Reshape ({y}, {g.ints(-1, 4, 5)})"), 5


def neurons(g: Text, x: str, d: int) -> tuple[str, int]:
    y = g.line(f"Gelu ({g.line(f'MatMul ({x}, {g.weight(d, 6)})')})")
    return g.line(f"Add ({x}, {g.line(f'MatMul ({y}, {g.weight(6, d)})')})"), d


def gated(g: Text, x: str, d: int) -> tuple[str, int]:
    gate = g.line(f"Sigmoid ({g.line(f'MatMul ({x}, {g.weight(d, 5)})')})")
    y = g.line(f"Mul ({gate}, {g.line(f'MatMul ({x}, {g.weight(d, 5)})')})")
    return g.line(f"MatMul ({y}, {g.weight(5, d)})"), d


def _heads(g: Text, x: str, split: str, perm: str) -> str:
    y = g.line(f"Reshape ({x}, {split})")
    return g.line(f"Transpose <perm = [{perm}]> ({y})")


def attention(g: Text, x: str, d: int) -> tuple[str, int]:
    """Three heads of two; shapes with the batch as it is in the run."""
    shape = g.line(f"Shape <start = 0, end = 2> ({x})")
    split = g.line(f"Concat <axis = 0> ({shape}, {g.ints(3, 2)})")
    joined = g.line(f"Concat <axis = 0> ({shape}, {g.ints(6)})")
    q, k, v = (g.line(f"MatMul ({x}, {g.weight(d, 6)})") for _ in range(3))
    q, k = _heads(g, q, split, "0,2,1,3"), _heads(g, k, split, "0,2,3,1")
    weights = g.line(f"Softmax ({g.line(f'MatMul ({q}, {k})')})")
    y = g.line(f"MatMul ({weights}, {_heads(g, v, split, '0,2,1,3')})")
    y = g.line(f"Reshape ({g.line(f'Transpose <perm = [0,2,1,3]> ({y})')}, {joined})")
    return g.line(f"Add ({x}, {g.line(f'MatMul ({y}, {g.weight(6, d)})')})"), d


def _layer_normalised(g: Text, x: str, d: int) -> tuple[str, int]:
    if g.picked((True, False)):
        return g.line(f"LayerNormalization ({x}, {g.weight(d)}, {g.weight(d)})"), d
    return g.line(f"RMSNormalization ({x}, {g.weight(d)})"), d


def _recurrent(g: Text, x: str, d: int) -> tuple[str, int]:
    operator, gates = g.picked((("GRU", 3), ("LSTM", 4), ("RNN", 1)))
    y = g.line(f"Transpose <perm = [1,0,2]> ({x})")
    w, r = g.weight(1, gates * 3, d), g.weight(1, gates * 3, 3)
    y = g.line(f"{operator} <hidden_size = 3> ({y}, {w}, {r})")
    y = g.line(f"Squeeze ({y}, {g.ints(1)})")
    return g.line(f"Transpose <perm = [1,0,2]> ({y})"), 3


def _looked_up(g: Text, x: str, d: int) -> tuple[str, int]:
    """Rows of a table are added, as positions are."""
    rows = g.line(f"Gather ({g.weight(5, d)}, {g.ints(0, 3, 1, 2)})")
    return g.line(f"Add ({x}, {rows})"), d


SEQUENCE: tuple[Block, ...] = (
    linear, linear, _gemm, neurons, gated, attention, _layer_normalised, _recurrent, _looked_up,
    *ENTRYWISE,
)  # fmt: skip
