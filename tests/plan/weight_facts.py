"""Weights as planning sees them."""

from __future__ import annotations

from typing import Any

from onnxsqueeze.facts.weights import WeightFacts


def weight(name: str = "w", shape: tuple[int, ...] = (64, 64), **fields: Any) -> WeightFacts:
    values: dict[str, Any] = {
        "node": f"reads {name}",
        "operator": "MatMul",
        "role": "linear",
        "axis": len(shape) - 1 if len(shape) == 2 else 0,
        "item_bytes": 4,
        "largest": 1.0,
        "not_finite": 0,
        "damage": 0.1,
        "rows": 100,
    }
    return WeightFacts(name=name, shape=shape, **{**values, **fields})
