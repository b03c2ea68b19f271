"""Torch kernels of operators that sum, search or normalize along axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, torch

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _reducing(function: Reduction) -> Kernel:
    """Return the kernel of a ReduceX; its axes are an attribute or an input, by opset."""

    def kernel(call: Call) -> Sequence[Tensor]:
        x, axes = call[0], call.setting("axes", 1)
        if not axes and call.attribute("noop_with_empty_axes"):
            return (x,)
        axes = list(range(x.ndim)) if not axes else [axis % x.ndim for axis in axes]
        if not axes:  # a scalar
            return (function(x.reshape(1), [0], False),)
        return (function(x, axes, bool(call.attribute("keepdims"))),)

    return kernel


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep).to(x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.dtype.is_floating_point:
        return x.mean(axes, keepdim=keep)
    return x.to(torch.float64).mean(axes, keepdim=keep).to(x.dtype)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.linalg.vector_norm(x, 2, dim=axes, keepdim=keep)


def _along(call: Call, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply along ``axis``; before opset 13 along it and all that follow, taken as one."""
    x, axis = call[0], call.attribute("axis")
    if call.opset >= 13:
        return function(x, axis)
    axis %= x.ndim
    return function(x.reshape(*x.shape[:axis], -1), -1).reshape(x.shape)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    first = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1)


def _softmax(call: Call) -> Sequence[Tensor]:
    return (_along(call, lambda x, axis: torch.softmax(x, axis)),)


def _log_softmax(call: Call) -> Sequence[Tensor]:
    return (_along(call, lambda x, axis: torch.log_softmax(x, axis)),)


def _searching(*, largest: bool) -> Kernel:
    """Return the kernel of ArgMax or ArgMin: the first of equals, or the last where asked."""

    def kernel(call: Call) -> Sequence[Tensor]:
        x, axis, keep = call[0], call.attribute("axis"), bool(call.attribute("keepdims"))
        last = bool(call.attribute("select_last_index"))
        x = x.flip(axis) if last else x
        best = (torch.amax if largest else torch.amin)(x, axis, keepdim=True)
        found = torch.argmax((x == best).to(torch.int8), axis, keepdim=keep)
        return (x.shape[axis] - 1 - found if last else found,)

    return kernel


def _top(call: Call) -> Sequence[Tensor]:
    """Of equals the one at the lower place comes first, so the sort must be stable."""
    x, axis, count = call[0], call.attribute("axis"), int(call[1])
    found = torch.sort(x, dim=axis, descending=bool(call.attribute("largest")), stable=True)
    return tuple(part.narrow(axis, 0, count) for part in found)


def _running(call: Call) -> Sequence[Tensor]:
    x, axis = call[0], int(call[1])
    is_reversed = bool(call.attribute("reverse"))
    x = x.flip(axis) if is_reversed else x
    y = x.cumsum(axis).to(x.dtype)
    y = y - x if call.attribute("exclusive") else y
    return (y.flip(axis) if is_reversed else y,)


KERNELS: Mapping[str, Kernel] = {
    "ReduceSum": _reducing(_sum),
    "ReduceMean": _reducing(_mean),
    "ReduceProd": _reducing(_product),
    "ReduceL1": _reducing(lambda x, axes, keep: _sum(torch.abs(x), axes, keep)),
    "ReduceL2": _reducing(_l2),
    "ReduceSumSquare": _reducing(lambda x, axes, keep: _sum(torch.square(x), axes, keep)),
    "ReduceLogSum": _reducing(lambda x, axes, keep: torch.log(_sum(x, axes, keep))),
    "ReduceLogSumExp": _reducing(lambda x, axes, keep: torch.logsumexp(x, axes, keep)),
    "ReduceMin": _reducing(lambda x, axes, keep: torch.amin(x, axes, keep)),
    "ReduceMax": _reducing(lambda x, axes, keep: torch.amax(x, axes, keep)),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Hardmax": lambda call: (_along(call, _hardmax),),
    "ArgMax": _searching(largest=True),
    "ArgMin": _searching(largest=False),
    "TopK": _top,
    "CumSum": _running,
}
