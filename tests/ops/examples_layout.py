"""Examples of pooling, reducing and moving operators."""

from __future__ import annotations

import numpy as np

from tests.ops.example import op

POOL = [
    op("MaxPool", "X1 Y1", X=(2, 4, 6, 6), with_={"kernel_shape": [2, 2], "strides": [2, 2]}),
    op("MaxPool", None, X=(2, 4, 6), with_={"kernel_shape": [2]}, results=2),
    op(
        "AveragePool",
        "X1 Y1",
        X=(2, 4, 6, 6),
        with_={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    ),
    op(
        "AveragePool",
        "X1 Y1",
        X=(2, 4, 5),
        with_={"kernel_shape": [2], "strides": [2], "ceil_mode": 1},
    ),
    op("LpPool", "X1 Y1", X=(2, 4, 6), with_={"kernel_shape": [2]}),
    op("GlobalAveragePool", "X1 Y1", X=(2, 4, 5, 5)),
    op("GlobalMaxPool", "X1 Y1", X=(2, 4, 5)),
    op("GlobalLpPool", "X1 Y1", X=(2, 4, 5)),
    op(
        "Resize",
        "X1 Y1",
        X=(2, 4, 3, 3),
        const_scales=np.float32([1, 1, 2, 2]),
        with_={"mode": "nearest"},
    ),
    op("Resize", "X1 Y1", X=(2, 4, 3, 3), const_sizes=[2, 4, 6, 7], with_={"mode": "linear"}),
    op(
        "Resize",
        "X1 Y1",
        X=(2, 4, 3, 3),
        const_sizes=[6, 7],
        with_={"mode": "linear", "axes": [2, 3]},
    ),
    op("Resize", None, X=(2, 4, 3, 3), sizes=np.int64([2, 4, 6, 7])),
    op(
        "Resize",
        "X1 Y1",
        X=(2, 4, 3, 3),
        const_scales=np.float32([1, 1, 1.2, 1]),  # 3 places stay 3, but lie elsewhere
        with_={"mode": "linear"},
    ),
    op("Upsample", "X1 Y1", X=(2, 4, 3), const_scales=np.float32([1, 1, 2]), version=9),
    op("Upsample", "X1 Y1", X=(2, 4, 3), with_={"scales": [1.0, 1.0, 2.0]}, version=7),
    op("Pad", "data0 output0", data=(2, 4, 3), const_pads=[0, 1, 0, 0, -1, 0]),  # shifted
    op("Pad", "data1 output1", data=(2, 4, 3), const_pads=[0, 0, 1, 0, 0, 2]),
    op(
        "Pad",
        "data1 output1",
        data=(2, 4, 3),
        const_pads=[1, 2],
        const_axes=[-1],
        with_={"mode": "edge"},
    ),
    op("Pad", "data1 output1", data=(2, 4, 3), with_={"pads": [0, 0, 1, 0, 0, 0]}, version=10),
    op("Pad", None, data=(2, 4, 3), pads=np.int64([0, 0, 1, 0, 0, 2])),
    op("DepthToSpace", "input1 output1", input=(2, 12, 2, 2), with_={"blocksize": 2}),
    op(
        "DepthToSpace",
        "input1 output1",
        input=(2, 12, 2, 2),
        with_={"blocksize": 2, "mode": "CRD"},
    ),
    op("SpaceToDepth", "input1 output1", input=(2, 3, 4, 4), with_={"blocksize": 2}),
    op("GridSample", "X1 Y1", X=(2, 4, 3, 3), grid=(2, 5, 5, 2)),
]
REDUCE = [
    *(
        op(op_type, "input1 output1|input0 output0", input=(2, 4, 3))
        for op_type in ("Softmax", "LogSoftmax", "Hardmax")
    ),
    op("Softmax", "input0 output0|input2 output2", input=(2, 4, 3), with_={"axis": 1}),
    *(
        op(op_type, "input0 output0", input=(2, 4, 3), version=11)
        for op_type in ("Softmax", "LogSoftmax", "Hardmax")
    ),
    *(
        example
        for suffix in [
            "Mean",
            "Sum",
            "L1",
            "L2",
            "SumSquare",
            "LogSum",
            "LogSumExp",
            "Min",
            "Prod",
            "Max",
        ]
        for example in (
            op(f"Reduce{suffix}", "data1 reduced1", data=(2, 4, 3), const_axes=[-1]),
            op(
                f"Reduce{suffix}",
                "data1 reduced0|data2 reduced1",
                data=(2, 4, 3),
                with_={"axes": [0], "keepdims": 0},
                version=12,
            ),
        )
    ),
    op("ReduceMax", "data1 reduced1", data=(2, 4, 3), const_axes=[2], with_={"keepdims": 0}),
    op("ReduceSum", None, data=(2, 4, 3)),
    op("ReduceSum", "data1 reduced1", data=(2, 4, 3), with_={"noop_with_empty_axes": 1}),
    op("ReduceSum", None, data=(2, 4, 3), axes=np.int64([1])),
    op(
        "ArgMax", "data0 reduced0|data2 reduced1", data=(2, 4, 3), with_={"axis": 1, "keepdims": 0}
    ),
    op("ArgMin", "data1 reduced1", data=(2, 4, 3), with_={"axis": -1}),
    op("TopK", "X1 Values1 Indices1", X=(2, 4, 3), const_K=[2], results=2),
    op("CumSum", "x1 y1", x=(2, 4, 3), const_axis=2),
]
MOVEMENT = [
    op("Reshape", "data1 reshaped1", data=(2, 6, 2, 2), const_shape=[0, -1]),
    op("Reshape", "data1 reshaped1", data=(2, 6, 2, 2), const_shape=[2, 24]),
    op("Reshape", "data1 reshaped1", data=(2, 6, 4), const_shape=[0, 3, 2, 4]),
    op("Reshape", "data2 reshaped3|data1 reshaped2", data=(3, 4, 4), const_shape=[1, 3, 0, 4]),
    op("Reshape", None, data=(2, 6, 2, 2), shape=np.int64([2, 24])),
    op("Flatten", "input1 output1", input=(2, 6, 2, 2)),
    op("Flatten", "input0 output0|input3 output1", input=(2, 3, 1, 4), with_={"axis": 3}),
    op("Squeeze", "data1 squeezed1", data=(2, 4, 1, 3), const_axes=[2]),
    op("Squeeze", "data1 squeezed1", data=(2, 4, 1), with_={"axes": [-1]}, version=11),
    op("Squeeze", None, data=(2, 4, 1)),
    op("Unsqueeze", "data1 expanded2", data=(2, 4, 3), const_axes=[0]),
    op("Unsqueeze", "data1 expanded2", data=(2, 4, 3), with_={"axes": [1]}, version=11),
    op(
        "Transpose",
        "data1 transposed2|data0 transposed1",
        data=(2, 4, 3),
        with_={"perm": [2, 0, 1]},
    ),
    op("Transpose", "data0 transposed2", data=(2, 4, 3)),
    op(
        "Concat",
        "inputs[0]1 concat_result1|inputs[1]1 concat_result1|inputs[0]0 inputs[1]0 concat_result0",
        ports={"inputs[0]": (2, 4, 3), "inputs[1]": (2, 2, 3)},
        with_={"axis": 1},
    ),
    op(
        "Split",
        "input1 outputs[0]1|input1 outputs[1]1|input0 outputs[0]0 outputs[1]0",
        input=(2, 6, 3),
        const_split=[4, 2],
        with_={"axis": 1},
        results=2,
    ),
    op(
        "Split",
        "input1 outputs[1]1",
        input=(2, 6),
        with_={"axis": -1, "split": [4, 2]},
        results=2,
        version=12,
    ),
    op(
        "Split",
        "input1 outputs[0]1 outputs[1]1",
        input=(2, 6),
        with_={"axis": 1},
        results=2,
        version=13,
    ),
    op(
        "Split",
        "input1 outputs[0]1 outputs[1]1",
        input=(2, 6),
        with_={"axis": 1, "num_outputs": 2},
        results=2,
    ),
    op(
        "Split", "input0 outputs[0]0", input=(2, 7), with_={"axis": 1, "num_outputs": 2}, results=2
    ),
    op(
        "Slice",
        "data1 output1|data0 output0",
        data=(2, 8, 3),
        const_starts=[0],
        const_ends=[5],
        const_axes=[1],
    ),
    op(
        "Slice",
        "data1 output1",
        data=(2, 8),
        const_starts=[3],
        const_ends=[2**62],
        const_axes=[-1],
    ),
    op("Slice", "data1 output1", data=(2, 8), const_starts=[-3], const_ends=[8], const_axes=[1]),
    op("Slice", "data1 output1", data=(2, 8), const_starts=[0], const_ends=[-3], const_axes=[1]),
    op("Slice", "data0 output0", data=(2, 8), const_starts=[2], const_ends=[6], const_axes=[1]),
    op("Slice", "data0 output0", data=(2, 8), const_starts=[-20], const_ends=[6], const_axes=[1]),
    op(
        "Slice",
        "data0 output0",
        data=(2, 8),
        const_starts=[0],
        const_ends=[8],
        const_axes=[1],
        const_steps=[2],
    ),
    op(
        "Slice",
        "data1 output1|data0 output0",
        data=(2, 8),
        const_starts=np.int32([0, 1]),
        const_ends=np.int32([2, 8]),
    ),
    op("Slice", None, data=(2, 8), starts=np.int64([1]), ends=np.int64([5])),
    op(
        "Gather",
        "data1 output2|indices1 output1",
        data=(9, 4),
        indices=np.int64([[1, 2, 8], [0, 3, 3]]),
    ),
    op(
        "Gather",
        "data0 output0|data2 output1",
        data=(3, 5, 4),
        indices=np.int64(2),
        with_={"axis": 1},
    ),
    op("Gather", "data1 output1", const_data=(9, 4), indices=np.int64([1, 2, 8])),
    op("Expand", "input1 output1", input=(2, 4, 1), const_shape=[2, 4, 3]),
    op("Expand", "input1 output2", input=(2, 4), const_shape=[3, 1, 4]),
    op("Expand", None, input=(2, 4, 1), shape=np.int64([2, 4, 3])),
    op("Tile", "input1 output1|input0 output0", input=(2, 4), const_repeats=[1, 3]),
    op("Trilu", "input0 output0", input=(3, 4, 4)),
    op("GatherElements", None, data=(2, 4), indices=np.int64([[1, 0, 1, 0]])),
    op("GatherND", None, data=(2, 4), indices=np.int64([[1, 0]])),
    op("ScatterElements", None, data=(2, 4), indices=np.int64([[1, 0]]), updates=(1, 2)),
    op("ScatterND", None, data=(2, 4), indices=np.int64([[1]]), updates=(1, 4)),
    op(
        "Compress", None, data=(2, 4), condition=np.asarray([True, False]), ports={"input": (2, 4)}
    ),
    op("ReverseSequence", None, input=(3, 2, 4), sequence_lens=np.int64([2, 3])),
]
