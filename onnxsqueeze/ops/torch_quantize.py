"""Torch kernels of integer operators, for the forward pass: rounding has no gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, shaped, torch, torch_type
from onnxsqueeze.ops.torch_linear import convolved


def _spread(call: Call, vector: Tensor, x: Tensor) -> Tensor:
    """Return scales or zero points along the node's axis, each for its entry or its block."""
    if vector.ndim == 0 or vector.numel() == 1:
        return vector.reshape(())
    axis = call.attribute("axis")
    block = call.attribute("block_size")
    if block:
        return vector.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return shaped(vector, x, axis)


def _rounded(x: Tensor, scale: Tensor, zero: Tensor, dtype: torch.dtype) -> Tensor:
    info = torch.iinfo(dtype)
    grid = torch.round(x / scale) + zero.to(torch.float32)
    return torch.clamp(grid, info.min, info.max).to(dtype)


def _quantize(call: Call) -> Sequence[Tensor]:
    x, zero = call[0], call.optional(2)
    code = call.attribute("output_dtype")
    dtype = zero.dtype if zero is not None else torch_type(code) if code else torch.uint8
    if dtype.is_floating_point:
        raise NotImplementedError(f"a grid of {dtype}")
    zero = torch.zeros((), dtype=torch.float32) if zero is None else _spread(call, zero, x)
    return (_rounded(x, _spread(call, call[1], x), zero, dtype),)


def _dequantize(call: Call) -> Sequence[Tensor]:
    x, scale, zero = call[0], call[1], call.optional(2)
    y = x.to(torch.float32)
    y = y if zero is None else y - _spread(call, zero, x).to(torch.float32)
    return ((y * _spread(call, scale, x)).to(scale.dtype),)


def _dynamic(call: Call) -> Sequence[Tensor]:
    x = call[0]
    high, low = torch.clamp(x.max(), min=0), torch.clamp(x.min(), max=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.clamp(torch.round(-low / scale), 0, 255).to(torch.uint8)
    return (_rounded(x, scale, zero, torch.uint8), scale, zero)


def _less(x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """Return integers less their zero point, as float64: products of them are exact."""
    x = x.to(torch.float64)
    if zero is None:
        return x
    zero = zero.to(torch.float64)
    return x - (shaped(zero, x, axis) if zero.numel() > 1 else zero.reshape(()))


def _conv_integer(call: Call) -> Sequence[Tensor]:
    x, w = _less(call[0], call.optional(2), 1), _less(call[1], call.optional(3), 0)
    return (convolved(call, x, w).to(torch.int32),)


def _matmul_integer(call: Call) -> Sequence[Tensor]:
    a, b = _less(call[0], call.optional(2), -2), _less(call[1], call.optional(3), -1)
    return ((a @ b).to(torch.int32),)


def _requantized(y: Tensor, factor: Tensor, zero: Tensor) -> Tensor:
    return _rounded(y.to(torch.float32) * factor, torch.ones(()), zero, zero.dtype)


def _linear_conv(call: Call) -> Sequence[Tensor]:
    x, w = _less(call[0], call[2], 1), _less(call[3], call[5], 0)
    b = None if call.optional(8) is None else call[8].to(torch.float64)
    y = convolved(call, x, w, b)
    factor = call[1] * call[4] / call[6]
    factor = shaped(factor, y, 1) if factor.numel() > 1 else factor.reshape(())
    return (_requantized(y, factor, call[7]),)


def _linear_matmul(call: Call) -> Sequence[Tensor]:
    a, b = _less(call[0], call[2], -2), _less(call[3], call[5], -1)
    return (_requantized(a @ b, call[1] * call[4] / call[6], call[7]),)


KERNELS: Mapping[str, Kernel] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _linear_conv,
    "QLinearMatMul": _linear_matmul,
}
