"""Torch kernels of normalizations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, shaped, torch


def _batch(call: Call) -> Sequence[Tensor]:
    x, scale, bias, mean, variance = (call[place] for place in range(5))
    if call.attribute("training_mode"):
        raise NotImplementedError("training_mode 1")
    factor = scale / torch.sqrt(variance + call.attribute("epsilon"))
    return (x * shaped(factor, x, 1) + shaped(bias - mean * factor, x, 1),)


def _standard(x: Tensor, axes: list[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return x less its mean, over its deviation, and that mean and 1 / deviation."""
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    inverse = torch.rsqrt(torch.square(centred).mean(axes, keepdim=True) + epsilon)
    return centred * inverse, mean, inverse


def _instance(call: Call) -> Sequence[Tensor]:
    x = call[0]
    y, _, _ = _standard(x, list(range(2, x.ndim)), call.attribute("epsilon"))
    return (y * shaped(call[1], x, 1) + shaped(call[2], x, 1),)


def _layer(call: Call) -> Sequence[Tensor]:
    x, bias = call[0], call.optional(2)
    axes = list(range(call.attribute("axis") % x.ndim, x.ndim))
    y, mean, inverse = _standard(x, axes, call.attribute("epsilon"))
    y = y * call[1]
    return (y if bias is None else y + bias, mean, inverse)


def _root_mean_square(call: Call) -> Sequence[Tensor]:
    x = call[0]
    axes = list(range(call.attribute("axis") % x.ndim, x.ndim))
    square = torch.square(x).mean(axes, keepdim=True)
    return (x * torch.rsqrt(square + call.attribute("epsilon")) * call[1],)


def _group(call: Call) -> Sequence[Tensor]:
    """Scale and bias are per channel; before opset 21 they were per group."""
    x, groups = call[0], call.attribute("num_groups")
    parts = x.reshape(x.shape[0], groups, -1)
    y, _, _ = _standard(parts, [2], call.attribute("epsilon"))
    scale, bias = call[1], call[2]
    if len(scale) != x.shape[1]:
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return (y.reshape(x.shape) * shaped(scale, x, 1) + shaped(bias, x, 1),)


def _local(call: Call) -> Sequence[Tensor]:
    """Each channel is divided by a power of the squares of its ``size`` neighbours."""
    x, size = call[0], call.attribute("size")
    flat = torch.square(x).reshape(x.shape[0], 1, x.shape[1], -1)
    before = (size - 1) // 2
    flat = torch.nn.functional.pad(flat, [0, 0, before, size - 1 - before])
    sums = flat.unfold(2, size, 1).sum(-1).reshape(x.shape)
    divisor = call.attribute("bias") + call.attribute("alpha") / size * sums
    return (x / torch.pow(divisor, call.attribute("beta")),)


def _variance(call: Call) -> Sequence[Tensor]:
    """(x - mean) / (deviation + 1e-9), as the function in the operator's specification."""
    x, axes = call[0], call.attribute("axes")
    mean = x.mean(axes, keepdim=True)
    spread = torch.square(x).mean(axes, keepdim=True) - torch.square(mean)
    return ((x - mean) / (torch.sqrt(torch.clamp(spread, min=0)) + 1e-9),)


def _norm(call: Call) -> Sequence[Tensor]:
    x, axis = call[0], call.attribute("axis")
    norm = torch.linalg.vector_norm(x, call.attribute("p"), dim=axis, keepdim=True)
    return (torch.where(norm == 0, torch.zeros_like(x), x / norm),)


KERNELS: Mapping[str, Kernel] = {
    "BatchNormalization": _batch,
    "InstanceNormalization": _instance,
    "LayerNormalization": _layer,
    "RMSNormalization": _root_mean_square,
    "GroupNormalization": _group,
    "LRN": _local,
    "MeanVarianceNormalization": _variance,
    "LpNormalization": _norm,
}
