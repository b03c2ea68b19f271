"""LSTM, GRU and RNN: weights and multiply-adds; only the entries of their input may be cut."""

from __future__ import annotations

import onnx_ir as ir

from onnxsqueeze.ops.axes import count, known
from onnxsqueeze.ops.row import Port, Row, Shapes, Tie, WeightPort, same


def _weights(_: ir.Node) -> tuple[WeightPort, ...]:
    """W (directions, gates·H, I) and R (directions, gates·H, H): a scale per gate of a unit."""
    return (WeightPort("W", 1, "recurrent"), WeightPort("R", 1, "recurrent"))


def _ties(_: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (..., I), W (directions, gates·H, I); units meet each other in R, so they stay."""
    return [same(Port("X", 2), Port("W", 2), shapes["X"][2])] if "X" in shapes else []


def _macs(_: ir.Node, shapes: Shapes) -> int:
    """Every step multiplies its input by W and its state by R."""
    if not known(shapes, "X", "W", "R"):
        return 0
    return count(shapes["X"][:2]) * (count(shapes["W"]) + count(shapes["R"]))


ROWS = tuple(
    Row(op_type, since=7, weights=_weights, ties=_ties, macs=_macs)
    for op_type in ("LSTM", "GRU", "RNN")
)
