"""Torch kernels of Resize and Upsample: per axis, a sum of a few weighted places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor

import numpy as np

from onnxsqueeze.ops.row import Array, Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, torch


def _coordinates(mode: str, dim: int, new: int, scale: float) -> Array:
    """Return where in the input each place of the output lies, in float32 as the runtime does."""
    at, step = np.arange(new, dtype=np.float32), np.float32(scale)
    if mode == "half_pixel_symmetric":
        # The middle of the input stays in the middle.
        middle = dim / 2 * (1 - new / (scale * dim))
        return np.asarray(middle + (at + 0.5) / step - 0.5, np.float32)
    if mode == "asymmetric":
        return np.asarray(at / step, np.float32)
    if mode == "align_corners":
        return np.asarray(at * (dim - 1) / (new - 1), np.float32) if new > 1 else at * 0
    if mode in ("half_pixel", "pytorch_half_pixel"):
        if mode == "pytorch_half_pixel" and new == 1:
            return at * 0
        return np.asarray((at + np.float32(0.5)) / step - np.float32(0.5), np.float32)
    raise NotImplementedError(f"coordinate_transformation_mode {mode}")


def _rounded(x: Array, mode: str) -> Array:
    rounders = {
        "floor": np.floor(x),
        "ceil": np.ceil(x),
        "round_prefer_floor": np.ceil(x - 0.5),
        "round_prefer_ceil": np.floor(x + 0.5),
    }
    return np.asarray(rounders[mode], np.int64)


def _linear(distance: Array) -> Array:
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def _cubic(distance: Array, a: float) -> Array:
    """Keys' kernel, with the free coefficient ``a``."""
    t = np.abs(distance)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _taps(call: Call, x: Array, dim: int, scale: float) -> tuple[Array, Array]:
    """Return for each coordinate the places it reads and their weights, (new, taps)."""
    mode = call.attribute("mode")
    if mode == "nearest":
        rounding = call.attribute("nearest_mode") or "floor"
        places = np.clip(_rounded(x, rounding), 0, dim - 1)[:, None]
        return places, np.ones(places.shape)
    cubic = mode == "cubic"
    shrink = min(scale, 1.0) if call.attribute("antialias") else 1.0
    reach = int(np.ceil((2 if cubic else 1) / shrink))
    places = np.floor(x)[:, None] + np.arange(1 - reach, reach + 1)
    distance = (places - x[:, None]) * shrink
    weights = _cubic(distance, call.attribute("cubic_coeff_a")) if cubic else _linear(distance)
    outside = (places < 0) | (places > dim - 1)
    if call.attribute("exclude_outside"):
        weights = np.where(outside, 0, weights)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return np.clip(places, 0, dim - 1).astype(np.int64), weights


def _along(call: Call, x: Tensor, axis: int, new: int, scale: float, mode: str) -> Tensor:
    dim = x.shape[axis]
    if call.attribute("mode") != "nearest" and mode != "align_corners":
        scale = scale or new / dim
    places, weights = _taps(call, _coordinates(mode, dim, new, scale), dim, scale)
    shape = [1] * x.ndim
    shape[axis] = new
    y = 0.0
    for tap in range(places.shape[1]):
        taken = x.index_select(axis, torch.from_numpy(np.ascontiguousarray(places[:, tap])))
        if call.attribute("mode") == "nearest":
            return taken
        factor = torch.from_numpy(weights[:, tap].reshape(shape)).to(x.dtype)
        y = y + taken * factor
    return y


def _sizes(x: Tensor, axes: list[int], scales: Sequence[float]) -> list[int]:
    return [floor(x.shape[axis] * scale) for axis, scale in zip(axes, scales, strict=True)]


def _fitted(
    call: Call, x: Tensor, axes: list[int], sizes: list[int]
) -> tuple[list[int], list[float]]:
    """Return sizes and scales; with an aspect ratio to keep, one scale serves all axes."""
    scales = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    policy = call.attribute("keep_aspect_ratio_policy") or "stretch"
    if policy == "stretch":
        return sizes, scales
    one = max(scales) if policy == "not_smaller" else min(scales)
    return [floor(one * x.shape[axis] + 0.5) for axis in axes], [one] * len(axes)


def _resize(call: Call) -> Sequence[Tensor]:
    x = call[0]
    axes = call.attribute("axes")
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    scales, sizes = call.setting("scales", 2), call.setting("sizes", 3)
    if scales:
        sizes = _sizes(x, axes, scales)
    else:
        sizes, scales = _fitted(call, x, axes, sizes)
    if all(new == x.shape[axis] for axis, new in zip(axes, sizes, strict=True)):
        return (x,)  # ONNX Runtime copies then, whatever the scales say
    mode = call.attribute("coordinate_transformation_mode")
    for axis, new, scale in zip(axes, sizes, scales, strict=True):
        if new != x.shape[axis] or scale != 1:
            x = _along(call, x, axis, new, scale, mode)
    return (x,)


def _upsample(call: Call) -> Sequence[Tensor]:
    x, scales = call[0], call.setting("scales", 1)
    for axis, scale in enumerate(scales):
        if scale != 1:
            x = _along(call, x, axis, floor(x.shape[axis] * scale), scale, "asymmetric")
    return (x,)


KERNELS: Mapping[str, Kernel] = {"Resize": _resize, "Upsample": _upsample}
