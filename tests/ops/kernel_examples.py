"""Settings of operators that only a kernel has to know: they tie nothing new."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.example import Example, op
from tests.ops.running import Array

SAME = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
PLANES = np.random.default_rng(4).normal(size=(2, 4, 7, 6)).astype(np.float32)
GRID = np.random.default_rng(5).uniform(-1.2, 1.2, (2, 5, 4, 2)).astype(np.float32)
TIES = np.float32([[1, 3, 3, 2, 3], [0, 0, -1, 0, 5]])


def signed(*shape: int, seed: int = 6) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def recurrent(op_type: str, gates: int, directions: int = 1, **settings: Any) -> Example:
    """Five steps of two samples with 3 units; ports by name are added."""
    ports: dict[str, Any] = {
        "X": signed(5, 2, 4),
        "W": signed(directions, gates * 3, 4, seed=7),
        "R": signed(directions, gates * 3, 3, seed=8),
        "B": signed(directions, 2 * gates * 3, seed=9),
    }
    with_ = {"hidden_size": 3, **settings.pop("with_", {})}
    results = settings.pop("results", 2)
    return Example(op_type, ports | settings, with_, results=results)


RECURRENT = [
    recurrent(
        "LSTM",
        4,
        sequence_lens=np.int32([5, 3]),
        initial_h=signed(1, 2, 3),
        initial_c=signed(1, 2, 3, seed=1),
        P=signed(1, 9),
        with_={"clip": 1.5},
        results=3,
    ),
    recurrent("LSTM", 4, 2, with_={"direction": "bidirectional"}, results=3),
    recurrent("LSTM", 4, with_={"direction": "reverse"}, results=3),
    recurrent("GRU", 3, sequence_lens=np.int32([5, 2]), initial_h=signed(1, 2, 3)),
    recurrent("GRU", 3, with_={"linear_before_reset": 1}),
    recurrent("GRU", 3, 2, with_={"direction": "bidirectional"}),
    recurrent("RNN", 1, 2, with_={"direction": "bidirectional", "activations": ["Relu", "Tanh"]}),
]
PRODUCTS = [
    op("Conv", X=PLANES, W=signed(4, 4, 3, 3), with_=SAME),
    op("Conv", X=PLANES, W=signed(4, 4, 3, 3), with_=SAME | {"auto_pad": "SAME_LOWER"}),
    op("Conv", X=PLANES, W=signed(4, 2, 2, 2), with_={"group": 2, "dilations": [2, 1]}),
    op("Conv", X=PLANES, W=signed(3, 4, 3, 3), with_={"pads": [0, 1, 2, 0]}),
    op(
        "ConvTranspose",
        X=PLANES,
        W=signed(4, 3, 3, 3),
        B=signed(3),
        with_={"strides": [2, 2], "pads": [1, 0, 1, 2], "output_padding": [1, 0]},
    ),
    op(
        "ConvTranspose",
        X=PLANES,
        W=signed(4, 3, 3, 3),
        with_={"strides": [2, 3], "output_shape": [14, 19]},
    ),
    op("ConvTranspose", X=PLANES, W=signed(4, 3, 3, 3), with_=SAME),
    op("ConvTranspose", X=PLANES, W=signed(4, 1, 2, 2), with_={"group": 4, "dilations": [2, 2]}),
    op("Gemm", A=(3, 6), B=(6, 4), C=(3, 4), with_={"alpha": 0.5, "beta": 2.0}),
    op(
        "Einsum",
        ports={"Inputs[0]": (2, 3, 4), "Inputs[1]": (2, 4, 5)},
        with_={"equation": "bij, bjk -> bik"},
    ),
]
POOL = [
    op(
        "MaxPool",
        X=PLANES,
        with_={"kernel_shape": [3, 2], "ceil_mode": 1, "strides": [2, 2]},
        results=2,
    ),
    op(
        "MaxPool",
        X=PLANES,
        with_={
            "kernel_shape": [2, 2],
            "dilations": [2, 2],
            "pads": [1, 0, 0, 1],
            "storage_order": 1,
        },
        results=2,
    ),
    op("MaxPool", X=PLANES, with_={"kernel_shape": [3, 3]} | SAME),
    op(
        "AveragePool",
        X=PLANES,
        with_={"kernel_shape": [3, 3], "ceil_mode": 1} | {"strides": [2, 2]},
    ),
    op(
        "AveragePool",
        X=PLANES,
        with_={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    op("AveragePool", X=PLANES, with_={"kernel_shape": [2, 2], "dilations": [2, 3]}),
    op("AveragePool", X=PLANES, with_={"kernel_shape": [3, 3]} | SAME),
    op("LpPool", X=PLANES, with_={"kernel_shape": [2, 2], "p": 3}),
    op("GlobalLpPool", X=PLANES, with_={"p": 3}),
    *(
        op("Pad", data=PLANES, pads=np.int64([0, 1, 2, 0, 0, 0, 1, 3]), with_={"mode": mode})
        for mode in ("constant", "reflect", "edge", "wrap")
    ),
    op(
        "Pad",
        data=PLANES,
        pads=np.int64([1, -1]),
        constant_value=np.float32(2.5),
        axes=np.int64([2]),
    ),
    *(
        op(
            "GridSample",
            X=PLANES,
            grid=GRID,
            with_={"mode": mode, "padding_mode": padding, "align_corners": corners},
        )
        for mode in ("linear", "nearest", "cubic")
        for padding, corners in (("zeros", 0), ("border", 1), ("reflection", 0))
    ),
]
RESIZE = [
    op("Resize", X=PLANES, scales=np.float32([1, 1, *scales]), with_=settings)
    for scales in ((2, 1.5), (0.6, 0.5))
    for settings in (
        {"mode": "linear"},
        {"mode": "cubic"},
        {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"},
        {"mode": "linear", "antialias": 1},
        {
            "mode": "nearest",
            "nearest_mode": "floor",
            "coordinate_transformation_mode": "asymmetric",
        },
        {"mode": "nearest", "nearest_mode": "ceil"},
        {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    )
] + [
    op(
        "Resize",
        X=PLANES,
        sizes=np.int64([10, 20]),
        with_={"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": policy},
    )
    for policy in ("not_larger", "not_smaller")
]
OTHERS = [
    op("ArgMax", data=TIES, with_={"axis": 1}),
    op("ArgMax", data=TIES, with_={"axis": 1, "select_last_index": 1}),
    op("ArgMin", data=TIES, with_={"axis": 1, "select_last_index": 1, "keepdims": 0}),
    op("TopK", X=TIES, K=np.int64([3]), results=2),
    op("TopK", X=TIES, K=np.int64([3]), with_={"largest": 0}, results=2),
    op("CumSum", x=PLANES, axis=np.int64(-1), with_={"exclusive": 1, "reverse": 1}),
    op("ReduceMax", data=np.float32(3)),
    op("ReduceL2", data=PLANES, axes=np.int64([1, -1])),
    op("ReduceProd", data=PLANES, axes=np.int64([0, 3])),
    op(
        "Slice",
        data=PLANES,
        starts=np.int64([-1, 5]),
        ends=np.int64([-99, 0]),
        axes=np.int64([2, 3]),
        steps=np.int64([-2, -1]),
    ),
    op("Slice", data=PLANES, starts=np.int64([5]), ends=np.int64([2]), axes=np.int64([2])),
    op("Gather", data=PLANES, indices=np.int64([[-1, 0]]), with_={"axis": 2}),
    op("GatherElements", data=TIES, indices=np.int64([[-1, 0], [2, 2]]), with_={"axis": 1}),
    op("GatherND", data=PLANES, indices=np.int64([[1], [-1]]), with_={"batch_dims": 1}),
    *(
        op(
            "ScatterElements",
            data=TIES,
            indices=np.int64([[1, 1, -1]]),
            updates=np.float32([[2, 3, 4]]),
            with_={"axis": 1, "reduction": reduction},
        )
        for reduction in ("add", "mul", "max", "min")
    ),
    *(
        op(
            "ScatterND",
            data=TIES,
            indices=np.int64([[[0, 1], [1, -1]]]),
            updates=np.float32([[2, 3]]),
            with_={"reduction": reduction},
        )
        for reduction in ("none", "add", "mul", "max", "min")
    ),
    op("Trilu", input=PLANES, k=np.int64(1), with_={"upper": 0}),
    op("Compress", ports={"input": TIES, "condition": np.asarray([False, True])}),
    op(
        "ReverseSequence",
        input=PLANES,
        sequence_lens=np.int64([3, 1]),
        with_={"batch_axis": 0, "time_axis": 1},
    ),
    op(
        "OneHot",
        indices=np.int64([1, -1]),
        depth=np.int64(4),
        values=np.float32([2, 5]),
        with_={"axis": 0},
    ),
    op("Range", start=np.float32(1), limit=np.float32(-2), delta=np.float32(-0.5)),
    op("Shape", data=PLANES, with_={"start": 1, "end": -1}),
    op("Mod", A=np.int64([-7, 7]), B=np.int64([3, -3])),
    op("Mod", A=np.float32([-7, 7]), B=np.float32([3, -3]), with_={"fmod": 1}),
    op("Div", A=np.int64([-7, 7]), B=np.int64([2, -2])),
    op("Pow", X=np.int64([2, 3]), Y=np.float32([2, 3])),
    op("BitShift", X=np.uint32([255, 3]), Y=np.uint32([2, 1]), with_={"direction": "RIGHT"}),
    op("Split", input=PLANES, split=np.int64([3, 4]), with_={"axis": 2}, results=2),
    op("Transpose", data=np.float32(2)),
    op("Gelu", X=PLANES, with_={"approximate": "tanh"}),
    op("LayerNormalization", X=PLANES, Scale=(7, 6), B=(7, 6), with_={"axis": -2}),
    op("LRN", X=PLANES, with_={"size": 3, "alpha": 0.5, "bias": 2.0}),
    op("LpNormalization", input=PLANES, with_={"axis": 1, "p": 1}),
    op("EyeLike", input=PLANES[0, 0], with_={"k": -1}),
    op("GroupNormalization", X=PLANES, scale=(2,), bias=(2,), with_={"num_groups": 2}, version=18),
]

KERNEL_EXAMPLES = [*RECURRENT, *PRODUCTS, *POOL, *RESIZE, *OTHERS]
