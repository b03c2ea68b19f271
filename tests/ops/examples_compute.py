"""Examples of linear, normalizing, elementwise, recurrent and integer operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.example import Example, op
from tests.ops.running import OPSET

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
    op("Conv", "X1 W1|W0 B0 Y1", X=(2, 6, 7, 8), const_W=(4, 6, 3, 3), const_B=(4,)),
    op("Conv", "X1 W1|W0 Y1", X=(2, 6, 9), const_W=(4, 6, 3), with_={"pads": [1, 1]}),
    op("Conv", "X1 W1|W0 Y1", X=(1, 4, 3, 4, 5), const_W=(2, 4, 2, 2, 2)),
    op("Conv", "X1 W0 B0 Y1", X=(2, 4, 7), const_W=(4, 1, 3), const_B=(4,), with_={"group": 4}),
    op("Conv", "X1 W1|W0 B0 Y1", X=(2, 6, 7), const_W=(4, 3, 3), const_B=(4,), with_={"group": 2}),
    op("Conv", "X1 W0 B0 Y1", X=(2, 3, 7), const_W=(6, 1, 3), const_B=(6,), with_={"group": 3}),
    op("ConvTranspose", "X1 W0|W1 B0 Y1", X=(2, 6, 5), const_W=(6, 4, 3), const_B=(4,)),
    op("ConvTranspose", "X1 W0 Y1", X=(2, 4, 5), const_W=(4, 1, 2), with_={"group": 4}),
    op("ConvTranspose", "X1 W0 Y1", X=(2, 3, 5), const_W=(3, 2, 2), with_={"group": 3}),
    op("ConvTranspose", "X1 W0|W1 Y1", X=(2, 6, 5, 4), const_W=(6, 2, 2, 2), with_={"group": 2}),
    op("Gemm", "A1 B0|B1 C0 Y1", A=(3, 6), const_B=(6, 4), const_C=(4,)),
    op(
        "Gemm",
        "A0 B1|B0 C1 Y1",
        A=(6, 3),
        const_B=(4, 6),
        const_C=(1, 4),
        with_={"transA": 1, "transB": 1},
    ),
    op("Gemm", "A1 B0|A0 C0 Y0|B1 Y1", A=(3, 6), const_B=(6, 4), const_C=(3, 1)),
    op("MatMul", "A1 B0|B1 Y1|A0 Y0", A=(3, 6), const_B=(6, 4)),
    op("MatMul", "A3 B2|B3 Y3|A2 Y2|A1 B1 Y1", A=(2, 3, 5, 6), B=(1, 3, 6, 4)),
    op("MatMul", "A0 B1|B2 Y1|B0 Y0", A=(6,), B=(2, 6, 4)),
    op("MatMul", "A2 B0|A1 Y1|A0 Y0", A=(2, 3, 6), B=(6,)),
    op("MatMul", "A0 B0", A=(6,), B=(6,)),
]
NORM = [
    op(
        "BatchNormalization",
        "X1 scale0 B0 input_mean0 input_var0 Y1",
        X=(2, 4, 3),
        const_scale=(4,),
        const_B=(4,),
        const_input_mean=(4,),
        const_input_var=(4,),
    ),
    op(
        "BatchNormalization",
        "X1 scale0 Y1",
        X=(2, 4, 3),
        scale=(4,),
        B=(4,),
        mean=(4,),
        var=(4,),
        version=9,
    ),
    op("InstanceNormalization", "input1 scale0 B0 output1", input=(2, 4, 3), scale=(4,), B=(4,)),
    op("LayerNormalization", "X1 Y1|X0 Y0", X=(2, 4, 3), Scale=(3,), B=(3,)),
    op("LayerNormalization", "X1 Scale0 Y1|X0 Y0", X=(2, 4, 3), Scale=(4, 3)),
    op("LayerNormalization", "X0 Y0", X=(2, 4, 3), Scale=(4, 3), with_={"axis": 1}),
    op("LayerNormalization", None, X=(2, 4, 3), Scale=(3,), results=2),
    op("RMSNormalization", "X1 Y1|X0 Y0", X=(2, 4, 3), scale=(3,), version=23),
    op("GroupNormalization", "X0 Y0", X=(2, 4, 3), scale=(4,), bias=(4,), with_={"num_groups": 2}),
    op("LRN", "X0 Y0|X2 Y2", X=(2, 4, 3, 3), with_={"size": 3}),
    op("MeanVarianceNormalization", "X1 Y1", X=(2, 4, 3, 3)),
    op("LpNormalization", "input1 output1", input=(2, 4, 3)),
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
    op("Add", "A1 B0 C1", A=(2, 4, 3), const_B=(4, 1)),
    op("Mul", "A1 B0 C1", A=(2, 4, 3), const_B=(4, 1)),
    op("Mod", "A1 B0 C1", A=(2, 4, 1), B=(4, 3), with_={"fmod": 1}),
    op("Add", "A1 B0 C1|A0 C0|B1 C2", A=(2, 4, 1), B=(4, 3)),
    op("BitShift", "X1 Y1 Z1", X=BYTES, Y=BYTES, with_={"direction": "LEFT"}),
    op("Clip", "input1 output1", input=WIDE, min=np.float32(-1), max=np.float32(2)),
    op("Clip", "input1 output1", input=WIDE, with_={"min": -1.0, "max": 2.0}, version=10),
    op("Where", "condition0 X1 Y1 output1", condition=BITS[0, :, :1], X=(2, 4, 3), Y=(2, 4, 3)),
    op("Cast", "input1 output1", input=WIDE, with_={"to": 7}),
    op("CastLike", "input1 output1", input=WIDE, target_type=BYTES),
    op("Dropout", "data1 output1", data=WIDE),
    op("Dropout", "data1 output1 mask1", data=WIDE, results=2),
]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
RECURRENT = [
    op(
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
    op("QuantizeLinear", "x1 y1", x=(2, 4, 3), y_scale=np.float32(0.1), y_zero_point=np.uint8(3)),
    op("QuantizeLinear", "x1 y_scale0 y1", x=(2, 4, 3), y_scale=(4,)),
    op(
        "DequantizeLinear",
        "x1 x_scale0 x_zero_point0 y1",
        x=BYTES,
        x_scale=(4,),
        x_zero_point=BYTES[0, :, 0],
    ),
    op("DequantizeLinear", None, x=BYTES, x_scale=(2, 2, 3), with_={"block_size": 2}),
    op("DynamicQuantizeLinear", None, x=(2, 4), results=3),
    op(
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
    op("ConvInteger", None, x=BYTES, w=np.ones((2, 4, 1), np.uint8)),
    op(
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
    op("MatMulInteger", None, A=BYTES[0], B=BYTES[0].T),
]
CONTROL = [
    *(op(op_type, None, data=(2, 4)) for op_type in ("Shape", "Size")),
    *(
        op(op_type, None, input=(2, 4))
        for op_type in ("RandomNormalLike", "RandomUniformLike", "EyeLike")
    ),
    op("Constant", None, with_={"value_float": 1.0}),
    op("ConstantOfShape", None, input=np.int64([2, 3])),
    op("Range", None, start=np.int64(0), limit=np.int64(4), delta=np.int64(1)),
    op("NonZero", None, X=(2, 4)),
    op("OneHot", None, indices=np.int64([1, 2]), depth=np.int64(4), values=np.float32([0, 1])),
    op(
        "Einsum",
        None,
        ports={"Inputs[0]": (2, 4), "Inputs[1]": (4, 3)},
        with_={"equation": "ij,jk->ik"},
    ),
    op("NonMaxSuppression", None, boxes=(1, 3, 4), scores=(1, 1, 3)),
    op("RoiAlign", None, X=(1, 2, 4, 4), rois=(1, 4), batch_indices=np.int64([0])),
]
