"""Torch kernels of control flow, shapes and constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, as_torch, torch, torch_type


def _if(call: Call) -> Sequence[Tensor]:
    branch = call.attribute("then_branch" if bool(call[0]) else "else_branch")
    return call.run(branch, [])


def _loop(call: Call) -> Sequence[Tensor]:
    """Body: (iteration, condition, state...) to (condition, state..., one row of each scan)."""
    body, most, going = call.attribute("body"), call.optional(0), call.optional(1)
    state = [value for value in call.inputs[2:] if value is not None]
    scans: list[list[Tensor]] = [[] for _ in body.outputs[1 + len(state) :]]
    going = torch.tensor(True) if going is None else going
    number = 0
    while bool(going) and (most is None or number < int(most)):
        going, *made = call.run(body, [torch.tensor(number), going, *state])
        state, rows = made[: len(state)], made[len(state) :]
        for scan, row in zip(scans, rows, strict=True):
            scan.append(row)
        number += 1
    if scans and not number:
        raise NotImplementedError("scan outputs of a Loop that never runs")
    return (*state, *(torch.stack(scan) for scan in scans))


def _scan(call: Call) -> Sequence[Tensor]:
    """Body: (state..., one slice of each scan input) to (state..., one slice of each output)."""
    body, count = call.attribute("body"), call.attribute("num_scan_inputs")
    values = call.present
    state, scanned = values[: len(values) - count], values[len(values) - count :]
    axes = call.attribute("scan_input_axes") or [0] * count
    backward = call.attribute("scan_input_directions") or [0] * count
    parts = [
        (x.flip(axis) if back else x).unbind(axis)
        for x, axis, back in zip(scanned, axes, backward, strict=True)
    ]
    scans: list[list[Tensor]] = [[] for _ in body.outputs[len(state) :]]
    for slices in zip(*parts, strict=True):
        made = call.run(body, [*state, *slices])
        state = made[: len(state)]
        for scan, row in zip(scans, made[len(state) :], strict=True):
            scan.append(row)
    out_axes = call.attribute("scan_output_axes") or [0] * len(scans)
    out_back = call.attribute("scan_output_directions") or [0] * len(scans)
    stacked = [
        torch.stack(scan[::-1] if back else scan, axis)
        for scan, axis, back in zip(scans, out_axes, out_back, strict=True)
    ]
    return (*state, *stacked)


def _shape(call: Call) -> Sequence[Tensor]:
    start, end = call.attribute("start") or 0, call.attribute("end")
    return (torch.tensor(list(call[0].shape)[start:end], dtype=torch.int64),)


def _constant(call: Call) -> Sequence[Tensor]:
    (found,) = call.node.attributes.values()
    if found.name == "value":
        return (as_torch(found.value.numpy()),)
    is_float = found.name in ("value_float", "value_floats")
    dtype = np.float32 if is_float else np.int64
    return (as_torch(np.asarray(found.value, dtype)),)


def _filled(call: Call) -> Sequence[Tensor]:
    value = call.attribute("value")
    one = as_torch(np.zeros(1, np.float32) if value is None else value.numpy())
    return (one.reshape(-1)[0].expand(call[0].tolist()).clone(),)


def _range(call: Call) -> Sequence[Tensor]:
    start, limit, delta = (call[k].reshape(()) for k in range(3))
    count = max(int(np.ceil((limit - start).item() / delta.item())), 0)
    return (start + torch.arange(count).to(start.dtype) * delta,)


def _nonzero(call: Call) -> Sequence[Tensor]:
    return (torch.nonzero(call[0]).T,)


def _one_hot(call: Call) -> Sequence[Tensor]:
    axis, depth = call.attribute("axis"), int(call[1])
    indices = call[0].to(torch.int64)
    places = torch.where(indices < 0, indices + depth, indices)
    hot = places.unsqueeze(-1) == torch.arange(depth)
    y = torch.where(hot, call[2][1], call[2][0])
    return (y.movedim(-1, axis),)


def _eye_like(call: Call) -> Sequence[Tensor]:
    x, code = call[0], call.attribute("dtype")
    dtype = x.dtype if code is None else torch_type(code)
    rows, columns = torch.arange(x.shape[0]), torch.arange(x.shape[1])
    return ((columns[None] - rows[:, None] == call.attribute("k")).to(dtype),)


KERNELS: Mapping[str, Kernel] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "Shape": _shape,
    "Size": lambda call: (torch.tensor(call[0].numel(), dtype=torch.int64),),
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Range": _range,
    "NonZero": _nonzero,
    "OneHot": _one_hot,
    "EyeLike": _eye_like,
}
