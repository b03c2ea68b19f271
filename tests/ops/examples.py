"""One or more example nodes per operator of the table, small enough to be run many times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from tests.ops.running import OPSET, Array, make


@dataclass(frozen=True)
class Example:
    """A node by its operator, inputs and attributes.

    Attributes:
        ports: Arrays by input port; a tuple is the shape of random values in [0.1, 1).
        constant: Ports that are initializers.
        cuts: Ties by port and axis that must exist, as in ``"X1 Y1"``; None where all is frozen.
    """

    op_type: str
    ports: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    constant: tuple[str, ...] = ()
    results: int = 1
    version: int = OPSET
    cuts: str | None = None

    def __str__(self) -> str:
        shapes = ",".join("x".join(map(str, a.shape)) for a in self.arrays().values())
        settings = ",".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op_type}-{self.version}({shapes}){settings}"

    def arrays(self) -> dict[str, Array]:
        rng = np.random.default_rng(0)
        return {
            name: rng.uniform(0.1, 1, port).astype(np.float32)
            if isinstance(port, tuple)
            else np.asarray(port)
            for name, port in self.ports.items()
        }

    def model(self, arrays: dict[str, Array] | None = None, **attributes: Any) -> ir.Model:
        return make(
            self.op_type,
            self.arrays() if arrays is None else arrays,
            results=self.results,
            constant=self.constant,
            version=self.version,
            **(self.attributes | attributes),
        )


def _example(op_type: str, cuts: str | None = None, /, **settings: Any) -> Example:
    """Make an Example; lower-case ``const_NAME`` ports are int64 initializers."""
    own = {name: settings.pop(name) for name in ("results", "version") if name in settings}
    attributes = settings.pop("with_", {})
    constant = settings.pop("constant", "").split()
    ports: dict[str, Any] = settings.pop("ports", {})
    for name, value in settings.items():
        port = name.removeprefix("const_")
        if name.startswith("const_"):
            constant.append(port)
            value = value if isinstance(value, np.ndarray | tuple) else np.asarray(value, np.int64)
        ports[port] = value
    return Example(op_type, ports, attributes, tuple(constant), cuts=cuts, **own)


E = _example
BITS = np.random.default_rng(1).integers(0, 2, (2, 4, 3)).astype(bool)
BYTES = np.random.default_rng(2).integers(1, 7, (2, 4, 3)).astype(np.uint8)
WIDE = np.random.default_rng(3).uniform(-9, 9, (2, 4, 3)).astype(np.float32)


def _entrywise(
    op_types: str, *names: str, version: int = OPSET, value: Any = None
) -> list[Example]:
    """Examples of (2, 4, 3) op (4, 1) op (2, 4, 3)."""
    examples = []
    for op_type in op_types.split():
        value = (2, 4, 3) if value is None else value
        ports = dict.fromkeys(names, value)
        if len(names) > 1:
            ports[names[1]] = (4, 1) if isinstance(value, tuple) else value[0, :, :1]
        examples.append(Example(op_type, ports, version=version, cuts=f"{names[0]}1"))
    return examples


LINEAR = [
    E("Conv", "X1 W1|W0 B0 Y1", X=(2, 6, 7, 8), const_W=(4, 6, 3, 3), const_B=(4,)),
    E("Conv", "X1 W1|W0 Y1", X=(2, 6, 9), const_W=(4, 6, 3), with_={"pads": [1, 1]}),
    E("Conv", "X1 W0 B0 Y1", X=(2, 4, 7), const_W=(4, 1, 3), const_B=(4,), with_={"group": 4}),
    E("Conv", "X1 W1|W0 B0 Y1", X=(2, 6, 7), const_W=(4, 3, 3), const_B=(4,), with_={"group": 2}),
    E("Conv", "W0 B0 Y1", X=(2, 3, 7), const_W=(6, 1, 3), const_B=(6,), with_={"group": 3}),
    E("ConvTranspose", "X1 W0|W1 B0 Y1", X=(2, 6, 5), const_W=(6, 4, 3), const_B=(4,)),
    E("ConvTranspose", "X1 W0 Y1", X=(2, 4, 5), const_W=(4, 1, 2), with_={"group": 4}),
    E("ConvTranspose", "X1 W0|W1 Y1", X=(2, 6, 5, 4), const_W=(6, 2, 2, 2), with_={"group": 2}),
    E("Gemm", "A1 B0|B1 C0 Y1", A=(3, 6), const_B=(6, 4), const_C=(4,)),
    E(
        "Gemm",
        "A0 B1|B0 C1 Y1",
        A=(6, 3),
        const_B=(4, 6),
        const_C=(1, 4),
        with_={"transA": 1, "transB": 1},
    ),
    E("Gemm", "A1 B0|A0 C0 Y0|B1 Y1", A=(3, 6), const_B=(6, 4), const_C=(3, 1)),
    E("MatMul", "A1 B0|B1 Y1|A0 Y0", A=(3, 6), const_B=(6, 4)),
    E("MatMul", "A3 B2|B3 Y3|A2 Y2|A1 B1 Y1", A=(2, 3, 5, 6), B=(1, 3, 6, 4)),
    E("MatMul", "A0 B1|B2 Y1|B0 Y0", A=(6,), B=(2, 6, 4)),
    E("MatMul", "A2 B0|A1 Y1|A0 Y0", A=(2, 3, 6), B=(6,)),
    E("MatMul", "A0 B0", A=(6,), B=(6,)),
]
NORM = [
    E(
        "BatchNormalization",
        "X1 scale0 B0 input_mean0 input_var0 Y1",
        X=(2, 4, 3),
        const_scale=(4,),
        const_B=(4,),
        const_input_mean=(4,),
        const_input_var=(4,),
    ),
    E(
        "BatchNormalization",
        "X1 scale0 Y1",
        X=(2, 4, 3),
        scale=(4,),
        B=(4,),
        mean=(4,),
        var=(4,),
        version=9,
    ),
    E("InstanceNormalization", "input1 scale0 B0 output1", input=(2, 4, 3), scale=(4,), B=(4,)),
    E("LayerNormalization", "X1 Y1|X0 Y0", X=(2, 4, 3), Scale=(3,), B=(3,)),
    E("LayerNormalization", "X1 Scale0 Y1|X0 Y0", X=(2, 4, 3), Scale=(4, 3)),
    E("LayerNormalization", "X0 Y0", X=(2, 4, 3), Scale=(4, 3), with_={"axis": 1}),
    E("LayerNormalization", None, X=(2, 4, 3), Scale=(3,), results=2),
    E("RMSNormalization", "X1 Y1|X0 Y0", X=(2, 4, 3), scale=(3,), version=23),
    E("GroupNormalization", "X0 Y0", X=(2, 4, 3), scale=(4,), bias=(4,), with_={"num_groups": 2}),
    E("LRN", "X0 Y0|X2 Y2", X=(2, 4, 3, 3), with_={"size": 3}),
    E("MeanVarianceNormalization", "X1 Y1", X=(2, 4, 3, 3)),
    E("LpNormalization", "input1 output1", input=(2, 4, 3)),
]
ELEMENTWISE = [
    *_entrywise("Add Mul Sub Div Equal Greater Less GreaterOrEqual LessOrEqual", "A", "B"),
    *_entrywise("BitwiseAnd BitwiseOr BitwiseXor", "A", "B", value=BYTES),
    *_entrywise("And Or Xor", "A", "B", value=BITS),
    *_entrywise("Pow", "X", "Y"),
    *_entrywise("PRelu", "X", "slope"),
    *_entrywise("BitwiseNot", "X", value=BYTES),
    *_entrywise("Not", "X", value=BITS),
    *_entrywise("Sum Mean Max Min", "data_0[0]", "data_0[1]", "data_0[2]"),
    *_entrywise("LeakyRelu Sigmoid Relu Abs Ceil Elu Floor HardSigmoid Neg Selu", "X", value=WIDE),
    *_entrywise("Reciprocal Sqrt IsInf IsNaN Round ThresholdedRelu Mish Celu", "X"),
    *_entrywise("Softplus HardSwish Gelu", "X", value=WIDE),
    *_entrywise("Swish", "X", version=24),
    *_entrywise("Exp Log Tanh Acos Asin Atan Cos Sin Tan Identity Softsign", "input"),
    *_entrywise("Asinh Atanh Cosh Sinh Erf Shrink Sign Clip", "input"),
    *_entrywise("Acosh", "input", value=WIDE**2 + 1),
    E("Mod", "A1 B0 C1", A=(2, 4, 1), B=(4, 3), with_={"fmod": 1}),
    E("Add", "A1 B0 C1|A0 C0|B1 C2", A=(2, 4, 1), B=(4, 3)),
    E("BitShift", "X1 Y1 Z1", X=BYTES, Y=BYTES, with_={"direction": "LEFT"}),
    E("Clip", "input1 output1", input=WIDE, min=np.float32(-1), max=np.float32(2)),
    E("Clip", "input1 output1", input=WIDE, with_={"min": -1.0, "max": 2.0}, version=10),
    E("Where", "condition0 X1 Y1 output1", condition=BITS[0, :, :1], X=(2, 4, 3), Y=(2, 4, 3)),
    E("Cast", "input1 output1", input=WIDE, with_={"to": 7}),
    E("CastLike", "input1 output1", input=WIDE, target_type=BYTES),
    E("Dropout", "data1 output1", data=WIDE),
    E("Dropout", "data1 output1 mask1", data=WIDE, results=2),
]
POOL = [
    E("MaxPool", "X1 Y1", X=(2, 4, 6, 6), with_={"kernel_shape": [2, 2], "strides": [2, 2]}),
    E("MaxPool", None, X=(2, 4, 6), with_={"kernel_shape": [2]}, results=2),
    E(
        "AveragePool",
        "X1 Y1",
        X=(2, 4, 6, 6),
        with_={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    ),
    E("LpPool", "X1 Y1", X=(2, 4, 6), with_={"kernel_shape": [2]}),
    E("GlobalAveragePool", "X1 Y1", X=(2, 4, 5, 5)),
    E("GlobalMaxPool", "X1 Y1", X=(2, 4, 5)),
    E("GlobalLpPool", "X1 Y1", X=(2, 4, 5)),
    E(
        "Resize",
        "X1 Y1",
        X=(2, 4, 3, 3),
        const_scales=np.float32([1, 1, 2, 2]),
        with_={"mode": "nearest"},
    ),
    E("Resize", "X1 Y1", X=(2, 4, 3, 3), const_sizes=[2, 4, 6, 7], with_={"mode": "linear"}),
    E(
        "Resize",
        "X1 Y1",
        X=(2, 4, 3, 3),
        const_sizes=[6, 7],
        with_={"mode": "linear", "axes": [2, 3]},
    ),
    E("Resize", None, X=(2, 4, 3, 3), sizes=np.int64([2, 4, 6, 7])),
    E("Upsample", "X1 Y1", X=(2, 4, 3), const_scales=np.float32([1, 1, 2]), version=9),
    E("Upsample", "X1 Y1", X=(2, 4, 3), with_={"scales": [1.0, 1.0, 2.0]}, version=7),
    E("Pad", "data1 output1", data=(2, 4, 3), const_pads=[0, 0, 1, 0, 0, 2]),
    E(
        "Pad",
        "data1 output1",
        data=(2, 4, 3),
        const_pads=[1, 2],
        const_axes=[-1],
        with_={"mode": "edge"},
    ),
    E("Pad", "data1 output1", data=(2, 4, 3), with_={"pads": [0, 0, 1, 0, 0, 0]}, version=10),
    E("Pad", None, data=(2, 4, 3), pads=np.int64([0, 0, 1, 0, 0, 2])),
    E("DepthToSpace", "input1 output1", input=(2, 12, 2, 2), with_={"blocksize": 2}),
    E(
        "DepthToSpace",
        "input1 output1",
        input=(2, 12, 2, 2),
        with_={"blocksize": 2, "mode": "CRD"},
    ),
    E("SpaceToDepth", "input1 output1", input=(2, 3, 4, 4), with_={"blocksize": 2}),
    E("GridSample", "X1 Y1", X=(2, 4, 3, 3), grid=(2, 5, 5, 2)),
]
REDUCE = [
    *(
        E(op_type, "input1 output1|input0 output0", input=(2, 4, 3))
        for op_type in ("Softmax", "LogSoftmax", "Hardmax")
    ),
    E("Softmax", "input0 output0|input2 output2", input=(2, 4, 3), with_={"axis": 1}),
    *(
        E(op_type, "input0 output0", input=(2, 4, 3), version=11)
        for op_type in ("Softmax", "LogSoftmax", "Hardmax")
    ),
    *(
        example
        for suffix in "Mean Sum L1 L2 SumSquare LogSum LogSumExp Min Prod Max".split()
        for example in (
            E(f"Reduce{suffix}", "data1 reduced1", data=(2, 4, 3), const_axes=[-1]),
            E(
                f"Reduce{suffix}",
                "data1 reduced0|data2 reduced1",
                data=(2, 4, 3),
                with_={"axes": [0], "keepdims": 0},
                version=12,
            ),
        )
    ),
    E("ReduceSum", None, data=(2, 4, 3)),
    E("ReduceSum", "data1 reduced1", data=(2, 4, 3), with_={"noop_with_empty_axes": 1}),
    E("ReduceSum", None, data=(2, 4, 3), axes=np.int64([1])),
    E("ArgMax", "data0 reduced0|data2 reduced1", data=(2, 4, 3), with_={"axis": 1, "keepdims": 0}),
    E("ArgMin", "data1 reduced1", data=(2, 4, 3), with_={"axis": -1}),
    E("TopK", "X1 Values1 Indices1", X=(2, 4, 3), const_K=[2], results=2),
    E("CumSum", "x1 y1", x=(2, 4, 3), const_axis=2),
]
MOVEMENT = [
    E("Reshape", "data1 reshaped1", data=(2, 6, 2, 2), const_shape=[0, -1]),
    E("Reshape", "data1 reshaped1", data=(2, 6, 2, 2), const_shape=[2, 24]),
    E("Reshape", "data1 reshaped1", data=(2, 6, 4), const_shape=[0, 3, 2, 4]),
    E("Reshape", "data2 reshaped3|data1 reshaped2", data=(3, 4, 4), const_shape=[1, 3, 0, 4]),
    E("Reshape", None, data=(2, 6, 2, 2), shape=np.int64([2, 24])),
    E("Flatten", "input1 output1", input=(2, 6, 2, 2)),
    E("Flatten", "input0 output0|input3 output1", input=(2, 3, 1, 4), with_={"axis": 3}),
    E("Squeeze", "data1 squeezed1", data=(2, 4, 1, 3), const_axes=[2]),
    E("Squeeze", "data1 squeezed1", data=(2, 4, 1), with_={"axes": [-1]}, version=11),
    E("Squeeze", None, data=(2, 4, 1)),
    E("Unsqueeze", "data1 expanded2", data=(2, 4, 3), const_axes=[0]),
    E("Unsqueeze", "data1 expanded2", data=(2, 4, 3), with_={"axes": [1]}, version=11),
    E(
        "Transpose",
        "data1 transposed2|data0 transposed1",
        data=(2, 4, 3),
        with_={"perm": [2, 0, 1]},
    ),
    E("Transpose", "data0 transposed2", data=(2, 4, 3)),
    E(
        "Concat",
        "inputs[0]1 concat_result1|inputs[1]1 concat_result1|inputs[0]0 inputs[1]0 concat_result0",
        ports={"inputs[0]": (2, 4, 3), "inputs[1]": (2, 2, 3)},
        with_={"axis": 1},
    ),
    E(
        "Split",
        "input1 outputs[0]1|input1 outputs[1]1|input0 outputs[0]0 outputs[1]0",
        input=(2, 6, 3),
        const_split=[4, 2],
        with_={"axis": 1},
        results=2,
    ),
    E(
        "Split",
        "input1 outputs[1]1",
        input=(2, 6),
        with_={"axis": -1, "split": [4, 2]},
        results=2,
        version=12,
    ),
    E(
        "Split",
        "input1 outputs[0]1 outputs[1]1",
        input=(2, 6),
        with_={"axis": 1},
        results=2,
        version=13,
    ),
    E(
        "Split",
        "input1 outputs[0]1 outputs[1]1",
        input=(2, 6),
        with_={"axis": 1, "num_outputs": 2},
        results=2,
    ),
    E("Split", "input0 outputs[0]0", input=(2, 7), with_={"axis": 1, "num_outputs": 2}, results=2),
    E(
        "Slice",
        "data1 output1|data0 output0",
        data=(2, 8, 3),
        const_starts=[0],
        const_ends=[5],
        const_axes=[1],
    ),
    E(
        "Slice",
        "data1 output1",
        data=(2, 8),
        const_starts=[3],
        const_ends=[2**62],
        const_axes=[-1],
    ),
    E("Slice", "data1 output1", data=(2, 8), const_starts=[-3], const_ends=[8], const_axes=[1]),
    E("Slice", "data1 output1", data=(2, 8), const_starts=[0], const_ends=[-3], const_axes=[1]),
    E("Slice", "data0 output0", data=(2, 8), const_starts=[2], const_ends=[6], const_axes=[1]),
    E("Slice", "data0 output0", data=(2, 8), const_starts=[-20], const_ends=[6], const_axes=[1]),
    E(
        "Slice",
        "data0 output0",
        data=(2, 8),
        const_starts=[0],
        const_ends=[8],
        const_axes=[1],
        const_steps=[2],
    ),
    E(
        "Slice",
        "data1 output1|data0 output0",
        data=(2, 8),
        const_starts=np.int32([0, 1]),
        const_ends=np.int32([2, 8]),
    ),
    E("Slice", None, data=(2, 8), starts=np.int64([1]), ends=np.int64([5])),
    E(
        "Gather",
        "data1 output2|indices1 output1",
        data=(9, 4),
        indices=np.int64([[1, 2, 8], [0, 3, 3]]),
    ),
    E(
        "Gather",
        "data0 output0|data2 output1",
        data=(3, 5, 4),
        indices=np.int64(2),
        with_={"axis": 1},
    ),
    E("Expand", "input1 output1", input=(2, 4, 1), const_shape=[2, 4, 3]),
    E("Expand", "input1 output2", input=(2, 4), const_shape=[3, 1, 4]),
    E("Expand", None, input=(2, 4, 1), shape=np.int64([2, 4, 3])),
    E("Tile", "input1 output1|input0 output0", input=(2, 4), const_repeats=[1, 3]),
    E("Trilu", "input0 output0", input=(3, 4, 4)),
    E("GatherElements", None, data=(2, 4), indices=np.int64([[1, 0, 1, 0]])),
    E("GatherND", None, data=(2, 4), indices=np.int64([[1, 0]])),
    E("ScatterElements", None, data=(2, 4), indices=np.int64([[1, 0]]), updates=(1, 2)),
    E("ScatterND", None, data=(2, 4), indices=np.int64([[1]]), updates=(1, 4)),
    E("Compress", None, data=(2, 4), condition=np.asarray([True, False]), ports={"input": (2, 4)}),
    E("ReverseSequence", None, input=(3, 2, 4), sequence_lens=np.int64([2, 3])),
]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
RECURRENT = [
    E(
        op_type,
        "X2 W2",
        X=(5, 2, 6),
        const_W=(1, n * 3, 6),
        const_R=(1, n * 3, 3),
        with_={"hidden_size": 3},
    )
    for op_type, n in GATES.items()
]
QUANTIZE = [
    E("QuantizeLinear", "x1 y1", x=(2, 4, 3), y_scale=np.float32(0.1), y_zero_point=np.uint8(3)),
    E("QuantizeLinear", "x1 y_scale0 y1", x=(2, 4, 3), y_scale=(4,)),
    E(
        "DequantizeLinear",
        "x1 x_scale0 x_zero_point0 y1",
        x=BYTES,
        x_scale=(4,),
        x_zero_point=BYTES[0, :, 0],
    ),
    E("DequantizeLinear", None, x=BYTES, x_scale=(2, 2, 3), with_={"block_size": 2}),
    E("DynamicQuantizeLinear", None, x=(2, 4), results=3),
    E(
        "QLinearConv",
        None,
        x=BYTES,
        x_scale=np.float32(0.1),
        x_zero_point=np.uint8(1),
        w=np.ones((2, 4, 1), np.uint8),
        w_scale=np.float32(0.1),
        w_zero_point=np.uint8(1),
        y_scale=np.float32(0.1),
        y_zero_point=np.uint8(1),
    ),
    E("ConvInteger", None, x=BYTES, w=np.ones((2, 4, 1), np.uint8)),
    E(
        "QLinearMatMul",
        None,
        a=BYTES[0],
        a_scale=np.float32(0.1),
        a_zero_point=np.uint8(1),
        b=BYTES[0].T,
        b_scale=np.float32(0.1),
        b_zero_point=np.uint8(1),
        y_scale=np.float32(0.1),
        y_zero_point=np.uint8(1),
    ),
    E("MatMulInteger", None, A=BYTES[0], B=BYTES[0].T),
]
CONTROL = [
    *(E(op_type, None, data=(2, 4)) for op_type in ("Shape", "Size")),
    *(
        E(op_type, None, input=(2, 4))
        for op_type in ("RandomNormalLike", "RandomUniformLike", "EyeLike")
    ),
    E("Constant", None, with_={"value_float": 1.0}),
    E("ConstantOfShape", None, input=np.int64([2, 3])),
    E("Range", None, start=np.int64(0), limit=np.int64(4), delta=np.int64(1)),
    E("NonZero", None, X=(2, 4)),
    E("OneHot", None, indices=np.int64([1, 2]), depth=np.int64(4), values=np.float32([0, 1])),
    E(
        "Einsum",
        None,
        ports={"Inputs[0]": (2, 4), "Inputs[1]": (4, 3)},
        with_={"equation": "ij,jk->ik"},
    ),
    E("NonMaxSuppression", None, boxes=(1, 3, 4), scores=(1, 1, 3)),
    E("RoiAlign", None, X=(1, 2, 4, 4), rois=(1, 4), batch_indices=np.int64([0])),
]
NEEDS_A_GRAPH = ("If", "Loop", "Scan")
"""Operators with subgraphs; they have no facets, so there is nothing to run."""

EXAMPLES = [
    *LINEAR, *NORM, *ELEMENTWISE, *POOL, *REDUCE, *MOVEMENT, *RECURRENT, *QUANTIZE, *CONTROL,
]  # fmt: skip
