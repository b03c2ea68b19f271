"""Torch kernels of operators that only move values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, torch


def _reshape(call: Call) -> Sequence[Tensor]:
    x, shape = call[0], call[1].tolist()
    if not call.attribute("allowzero"):
        shape = [x.shape[k] if dim == 0 else dim for k, dim in enumerate(shape)]
    return (x.reshape(shape),)


def _flatten(call: Call) -> Sequence[Tensor]:
    x, axis = call[0], call.attribute("axis")
    axis = axis + x.ndim if axis < 0 else axis
    return (x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:])),)


def _squeeze(call: Call) -> Sequence[Tensor]:
    x, axes = call[0], call.setting("axes", 1)
    return (x.squeeze() if axes is None else x.squeeze(tuple(axes)),)


def _unsqueeze(call: Call) -> Sequence[Tensor]:
    x = call[0]
    axes = call.setting("axes", 1)
    axes = axes if isinstance(axes, list | tuple) else [axes]
    ndim = x.ndim + len(axes)
    for axis in sorted(axis % ndim for axis in axes):
        x = x.unsqueeze(axis)
    return (x,)


def _transpose(call: Call) -> Sequence[Tensor]:
    perm = call.attribute("perm")
    return (call[0].permute(tuple(range(call[0].ndim)[::-1] if perm is None else perm)),)


def _concat(call: Call) -> Sequence[Tensor]:
    return (torch.cat(call.present, call.attribute("axis")),)


def _split(call: Call) -> Sequence[Tensor]:
    """Without sizes the parts are equal, the last one smaller if need be."""
    x, axis, sizes = call[0], call.attribute("axis"), call.setting("split", 1)
    if sizes is None:
        dim, count = x.shape[axis], len(call.node.outputs)
        part = -(-dim // count)
        sizes = [min(part, dim - part * k) for k in range(count)]
    return tuple(torch.split(x, sizes, axis))


def _slice(call: Call) -> Sequence[Tensor]:
    """Torch slices have no negative steps, so those become a choice of places."""
    x, starts, ends = call[0], call[1].tolist(), call[2].tolist()
    axes = range(len(starts)) if call.optional(3) is None else call[3].tolist()
    steps = [1] * len(starts) if call.optional(4) is None else call[4].tolist()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places = range(*slice(start, end, step).indices(x.shape[axis]))
        if step < 0:
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
        else:
            cut = [slice(None)] * x.ndim
            cut[axis] = slice(places.start, max(places.stop, places.start), step)
            x = x[tuple(cut)]
    return (x,)


def _from_end(indices: Tensor, dim: int) -> Tensor:
    """Return indices of which negative ones counted from the end."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + dim, indices)


def _gather(call: Call) -> Sequence[Tensor]:
    x, axis = call[0], call.attribute("axis") % call[0].ndim
    indices = _from_end(call[1], x.shape[axis])
    taken = x.index_select(axis, indices.reshape(-1))
    return (taken.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])),)


def _gather_elements(call: Call) -> Sequence[Tensor]:
    axis = call.attribute("axis")
    return (torch.gather(call[0], axis, _from_end(call[1], call[0].shape[axis])),)


def _columns(indices: Tensor, dims: Sequence[int]) -> list[Tensor]:
    """Return the last axis of indices as one tensor per axis that they name."""
    return [_from_end(indices[..., k], dims[k]) for k in range(indices.shape[-1])]


def _gather_nd(call: Call) -> Sequence[Tensor]:
    x, indices, batch = call[0], call[1], call.attribute("batch_dims")
    if batch == 0:
        return (x[tuple(_columns(indices, x.shape))],)
    flat = x.reshape(-1, *x.shape[batch:])
    own = indices.reshape(-1, *indices.shape[batch:])
    parts = [one[tuple(_columns(i, one.shape))] for one, i in zip(flat, own, strict=True)]
    return (torch.stack(parts).reshape((*x.shape[:batch], *parts[0].shape)),)


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(call: Call) -> Sequence[Tensor]:
    x, updates, axis = call[0], call[2], call.attribute("axis")
    indices = _from_end(call[1], x.shape[axis])
    reduction = call.attribute("reduction") or "none"
    if reduction == "none":
        return (x.scatter(axis, indices, updates),)
    return (x.scatter_reduce(axis, indices, updates, _REDUCTIONS[reduction]),)


def _scatter_nd(call: Call) -> Sequence[Tensor]:
    """As a scatter of whole slices into the flattened axes that the indices name."""
    x, indices, updates = call[0], call[1], call[2]
    depth = indices.shape[-1]
    rest = x.shape[depth:]
    place = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for k, column in enumerate(_columns(indices, x.shape)):
        place = place * x.shape[k] + column
    flat = x.reshape(-1, max(prod(rest), 1))
    new = updates.reshape(-1, flat.shape[1])
    at = place.reshape(-1, 1).expand(-1, flat.shape[1])
    reduction = call.attribute("reduction") or "none"
    if reduction == "none":
        return (flat.scatter(0, at, new).reshape(x.shape),)
    return (flat.scatter_reduce(0, at, new, _REDUCTIONS[reduction]).reshape(x.shape),)


def _expand(call: Call) -> Sequence[Tensor]:
    """The shape is broadcast with the input's, so a 1 in it keeps the input's dim."""
    shape = torch.broadcast_shapes(tuple(call[0].shape), tuple(call[1].tolist()))
    return (call[0].expand(shape),)


def _tile(call: Call) -> Sequence[Tensor]:
    return (call[0].repeat(call[1].tolist()),)


def _triangle(call: Call) -> Sequence[Tensor]:
    k = 0 if call.optional(1) is None else int(call[1])
    return ((torch.triu if call.attribute("upper") else torch.tril)(call[0], k),)


def _compress(call: Call) -> Sequence[Tensor]:
    x, axis = call[0], call.attribute("axis")
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    return (x.index_select(axis, torch.nonzero(call[1]).reshape(-1)),)


def _reverse(call: Call) -> Sequence[Tensor]:
    x, lengths = call[0], call[1].tolist()
    batch, time = call.attribute("batch_axis"), call.attribute("time_axis")
    x = x.movedim((batch, time), (0, 1))
    rows = [
        torch.cat([row[:length].flip(0), row[length:]])
        for row, length in zip(x, lengths, strict=True)
    ]
    return (torch.stack(rows).movedim((0, 1), (batch, time)),)


KERNELS: Mapping[str, Kernel] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Expand": _expand,
    "Tile": _tile,
    "Trilu": _triangle,
    "Compress": _compress,
    "ReverseSequence": _reverse,
}
