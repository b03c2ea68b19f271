"""Rows of what a weight matrix is multiplied with, drawn without building all of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.ops.axes import count
from onnxsqueeze.ops.row import Array, attribute


def drawn(total: int, limit: int, rng: np.random.Generator) -> Array:
    """Return at most ``limit`` of the positions below ``total``, ascending, without replacement.

    >>> drawn(3, 10, np.random.default_rng(0)).tolist()
    [0, 1, 2]
    """
    if total <= limit:
        return np.arange(total)
    return np.sort(rng.choice(total, size=limit, replace=False, shuffle=False))


def _same_pads(dim: int, kernel: int, stride: int, *, lower: bool) -> tuple[int, int]:
    total = max((-(-dim // stride) - 1) * stride + kernel - dim, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def pads_of(
    node: ir.Node, dims: tuple[int, ...], kernels: tuple[int, ...], strides: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Return (begin, end) per spatial axis; ``kernels`` are dims of the dilated kernel."""
    mode = attribute(node, "auto_pad")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        lower = mode == "SAME_LOWER"
        places = zip(dims, kernels, strides, strict=True)
        return [_same_pads(*place, lower=lower) for place in places]
    pads = attribute(node, "pads") if mode == "NOTSET" else None
    if pads is None:
        return [(0, 0)] * len(dims)
    return list(zip(pads[: len(dims)], pads[len(dims) :], strict=True))


def conv_rows(
    node: ir.Node, x: Array, w_shape: tuple[int, ...], limit: int, rng: np.random.Generator
) -> Array:
    """Return rows of a Conv's im2col matrix, for at most ``limit`` output positions.

    Positions are those of (N, *spatial) of the output, row-major, ascending. Only the rows that
    are returned are copied; the padded input is the only other copy.

    Args:
        node: The Conv.
        x: Its input, (N, C, *spatial).
        w_shape: Shape of its weight, (M, C/group, *kernel).
        limit: Most rows to return.
        rng: Draws the positions where there are more than ``limit``.

    Returns:
        (group, rows, C/group * prod(kernel)): ``rows @ matrix.T`` is the output without bias.
    """
    spatial = tuple(range(2, x.ndim))
    kernel = w_shape[2:]
    strides = tuple(attribute(node, "strides") or [1] * len(kernel))
    dilations = tuple(attribute(node, "dilations") or [1] * len(kernel))
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    pads = pads_of(node, x.shape[2:], spans, strides)
    if any(begin or end for begin, end in pads):
        x = np.pad(x, [(0, 0), (0, 0), *pads])
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, axis=spatial)
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    windows = np.moveaxis(windows[(slice(None), slice(None), *steps)], 1, x.ndim - 1)
    places = windows.shape[: x.ndim - 1]  # (N, *output), then (C, *kernel)
    picked = windows[np.unravel_index(drawn(count(places), limit, rng), places)]
    group = x.shape[1] // w_shape[1]
    return picked.reshape(len(picked), group, count(w_shape[1:])).swapaxes(0, 1)
