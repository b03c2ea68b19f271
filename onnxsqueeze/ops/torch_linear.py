"""Torch kernels of products with weight matrices, recurrent ones aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxsqueeze.ops.im2col import pads_of
from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, shaped, torch


def padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Return x with (begin, end) places added to each of its last axes; negative ones crop."""
    if not any(begin or end for begin, end in pads):
        return x
    flat = [int(places) for pair in reversed(pads) for places in pair]
    return torch.nn.functional.pad(x, flat, value=value)


def spatial(call: Call, x: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int], Tensor]:
    """Return strides, dilations, and the input with its padding."""
    n = len(kernel)
    strides = list(call.attribute("strides") or [1] * n)
    dilations = list(call.attribute("dilations") or [1] * n)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    pads = pads_of(call.node, tuple(x.shape[2:]), reach, tuple(strides))
    return strides, dilations, padded(x, pads)


def convolved(call: Call, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Return the convolution of the node, with these for its operands."""
    strides, dilations, x = spatial(call, x, w.shape[2:])
    function = getattr(torch.nn.functional, f"conv{w.ndim - 2}d")
    return function(x, w, b, strides, 0, dilations, call.attribute("group"))


def _conv(call: Call) -> Sequence[Tensor]:
    return (convolved(call, call[0], call[1], call.optional(2)),)


def _transposed_pads(call: Call, full: Sequence[int], strides: Sequence[int]) -> list[list[int]]:
    """Return (begin, end) places to crop of each axis of the full output."""
    n = len(full)
    wanted, mode = call.attribute("output_shape"), call.attribute("auto_pad")
    if wanted is None and mode.startswith("SAME"):
        wanted = [dim * stride for dim, stride in zip(call[0].shape[2:], strides, strict=True)]
    if wanted is None:
        pads = call.attribute("pads") if mode == "NOTSET" else None
        pads = [0] * (2 * n) if pads is None else pads
        return [[pads[k], pads[k + n]] for k in range(n)]
    crops = []
    for dim, want in zip(full, wanted[-n:], strict=True):
        total = dim - want
        small, large = total // 2, total - total // 2
        crops.append([small, large] if mode == "SAME_UPPER" else [large, small])
    return crops


def _transposed(call: Call) -> Sequence[Tensor]:
    """The whole product first, then what ``pads`` takes away: they need not be symmetrical."""
    x, w = call[0], call[1]
    n = w.ndim - 2
    strides = list(call.attribute("strides") or [1] * n)
    dilations = list(call.attribute("dilations") or [1] * n)
    function = getattr(torch.nn.functional, f"conv_transpose{n}d")
    y = function(x, w, None, strides, 0, 0, call.attribute("group"), dilations)
    y = padded(y, [(0, extra) for extra in call.attribute("output_padding") or [0] * n])
    crops = _transposed_pads(call, y.shape[2:], strides)
    y = padded(y, [(-begin, -end) for begin, end in crops])
    b = call.optional(2)
    return (y if b is None else y + shaped(b, y, 1),)


def _gemm(call: Call) -> Sequence[Tensor]:
    a = call[0].T if call.attribute("transA") else call[0]
    b = call[1].T if call.attribute("transB") else call[1]
    alpha, beta, c = call.attribute("alpha"), call.attribute("beta"), call.optional(2)
    y = a @ b
    y = y if alpha == 1 else alpha * y
    if c is None:
        return (y,)
    return (y + (c if beta == 1 else beta * c),)


def _einsum(call: Call) -> Sequence[Tensor]:
    return (torch.einsum(call.attribute("equation"), *call.present),)


KERNELS: Mapping[str, Kernel] = {
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": lambda call: (torch.matmul(call[0], call[1]),),
    "Einsum": _einsum,
}
