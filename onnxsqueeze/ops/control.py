"""Operators that are known and left alone: control flow, shapes, constants, random numbers.

Their rows tie nothing and have no grids, so their tensors keep all entries and stay float.
"""

from __future__ import annotations

from onnxsqueeze.ops.dims import of_shape
from onnxsqueeze.ops.row import Row, Scaling

_SINCE = {
    "If": 1,
    "Loop": 1,
    "Scan": 9,
    "Size": 1,
    "Constant": 1,
    "ConstantOfShape": 9,
    "Range": 11,
    "NonZero": 9,
    "OneHot": 9,
    "EyeLike": 9,
    "RandomNormalLike": 1,
    "RandomUniformLike": 1,
    "Einsum": 12,
    "NonMaxSuppression": 10,
    "RoiAlign": 10,
}

ROWS = (
    Row("Shape", sources=of_shape, scaling=lambda _: Scaling(ignored=("data",))),
    *(Row(op_type, since=since) for op_type, since in _SINCE.items()),
)
