"""Torch kernels of pooling, padding, sampling and of moves between channels and places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, prod

import numpy as np

from onnxsqueeze.ops.im2col import pads_of
from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, torch
from onnxsqueeze.ops.torch_linear import padded

Pairs = list[tuple[int, int]]


class _Window:
    """Where the windows of a pooling node lie.

    Attributes:
        kernel: Places of a window, per axis.
        strides: From one window to the next.
        dilations: From one place to the next.
        pads: (begin, end) per axis as the node says.
        extra: Places that the last window needs beyond them, where dims are rounded up.
    """

    def __init__(self, call: Call, dims: tuple[int, ...]) -> None:
        n = len(dims)
        self.kernel = list(call.attribute("kernel_shape"))
        self.strides = list(call.attribute("strides") or [1] * n)
        self.dilations = list(call.attribute("dilations") or [1] * n)
        reach = tuple(d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True))
        self.pads: Pairs = pads_of(call.node, dims, reach, tuple(self.strides))
        rounds_up = bool(call.attribute("ceil_mode"))
        self.extra: Pairs = []
        for dim, span, stride, (begin, end) in zip(
            dims, reach, self.strides, self.pads, strict=True
        ):
            over = (dim + begin + end - span) % stride
            grows = rounds_up and over > 0
            # A window that would start in the padding behind the input is left out.
            starts = (dim + begin + end - span) // stride * stride + stride
            grows = grows and starts < dim + begin
            self.extra.append((0, stride - over if grows else 0))


def _max_pool(call: Call) -> Sequence[Tensor]:
    x = call[0]
    n = x.ndim - 2
    window = _Window(call, tuple(x.shape[2:]))
    wide = padded(padded(x, window.pads, -inf), window.extra, -inf)
    function = getattr(torch.nn.functional, f"max_pool{n}d")
    y, places = function(
        wide, window.kernel, window.strides, 0, window.dilations, return_indices=True
    )
    return (y, _places_of_input(call, x, wide, window, places))


def _places_of_input(
    call: Call, x: Tensor, wide: Tensor, window: _Window, places: Tensor
) -> Tensor:
    """Return positions in the flattened input, from those in one padded channel."""
    axes = [(places // prod(wide.shape[k + 1 :])) % wide.shape[k] for k in range(2, x.ndim)]
    order = list(range(len(axes)))
    order = order[::-1] if call.attribute("storage_order") else order
    flat = torch.zeros_like(places)
    for k in order:
        flat = flat * x.shape[k + 2] + (axes[k] - window.pads[k][0])
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(axes))
    return flat + planes * prod(x.shape[2:])


def _summed(x: Tensor, window: _Window) -> Tensor:
    """Return the sum of each window of a padded input."""
    one_by_one = x.reshape(-1, 1, *x.shape[2:])
    ones = torch.ones([1, 1, *window.kernel], dtype=x.dtype)
    function = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")
    y = function(one_by_one, ones, None, window.strides, 0, window.dilations)
    return y.reshape(*x.shape[:2], *y.shape[2:])


def _average_pool(call: Call) -> Sequence[Tensor]:
    """What lies beyond the padding counts for nothing; padding counts where the node says so."""
    x = call[0]
    window = _Window(call, tuple(x.shape[2:]))
    seen = torch.ones([1, 1, *x.shape[2:]], dtype=x.dtype)
    seen = padded(seen, window.pads, 1.0 if call.attribute("count_include_pad") else 0.0)
    count = _summed(padded(seen, window.extra), window)
    return (_summed(padded(padded(x, window.pads), window.extra), window) / count,)


def _lp_pool(call: Call) -> Sequence[Tensor]:
    x, p = call[0], call.attribute("p")
    window = _Window(call, tuple(x.shape[2:]))
    sums = _summed(padded(padded(torch.abs(x) ** p, window.pads), window.extra), window)
    return (sums ** (1 / p),)


def _global(call: Call) -> tuple[Tensor, list[int]]:
    return call[0], list(range(2, call[0].ndim))


def _global_lp(call: Call) -> Sequence[Tensor]:
    x, axes = _global(call)
    p = call.attribute("p")
    return ((torch.abs(x) ** p).sum(axes, keepdim=True) ** (1 / p),)


def _global_average(call: Call) -> Sequence[Tensor]:
    x, axes = _global(call)
    return (x.mean(axes, keepdim=True),)


def _global_max(call: Call) -> Sequence[Tensor]:
    x, axes = _global(call)
    return (torch.amax(x, axes, keepdim=True),)


def _pad(call: Call) -> Sequence[Tensor]:
    x, mode = call[0], call.attribute("mode")
    pads = call.setting("pads", 1)
    axes = call.setting("axes", 3)
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    pairs: Pairs = [(0, 0)] * x.ndim
    for k, axis in enumerate(axes):
        pairs[axis] = (pads[k], pads[k + len(axes)])
    if mode == "constant":
        value = call.setting("value", 2)
        value = value[0] if isinstance(value, list) else value
        return (padded(x, pairs, value or 0.0),)
    for axis, (begin, end) in enumerate(pairs):
        if begin or end:
            places = np.arange(x.shape[axis])[max(-begin, 0) : x.shape[axis] + min(end, 0)]
            grown = np.pad(places, (max(begin, 0), max(end, 0)), mode=mode)
            x = x.index_select(axis, torch.from_numpy(grown))
    return (x,)


def _depth_to_space(call: Call) -> Sequence[Tensor]:
    x, b = call[0], call.attribute("blocksize")
    n, c, h, w = x.shape
    if call.attribute("mode") == "CRD":
        parts = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        parts = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return (parts.reshape(n, c // b**2, h * b, w * b),)


def _space_to_depth(call: Call) -> Sequence[Tensor]:
    x, b = call[0], call.attribute("blocksize")
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // b, b, w // b, b)
    order = (0, 1, 3, 5, 2, 4) if call.attribute("mode") == "CRD" else (0, 3, 5, 1, 2, 4)
    return (parts.permute(order).reshape(n, c * b**2, h // b, w // b),)


def _grid_sample(call: Call) -> Sequence[Tensor]:
    modes = {"linear": "bilinear", "cubic": "bicubic"}
    mode = call.attribute("mode")
    return (
        torch.nn.functional.grid_sample(
            call[0],
            call[1],
            modes.get(mode, mode),
            call.attribute("padding_mode"),
            bool(call.attribute("align_corners")),
        ),
    )


KERNELS: Mapping[str, Kernel] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "GlobalLpPool": _global_lp,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "GridSample": _grid_sample,
}
