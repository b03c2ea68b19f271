"""Torch kernels of LSTM, GRU and RNN: one loop over time per direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnxsqueeze.ops.row import Kernel
from onnxsqueeze.ops.torch_call import Call, Tensor, torch

Step = Callable[[Tensor, list[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class _Part:
    """What one direction multiplies with; the first axis of each is gates times units."""

    w: Tensor
    r: Tensor
    b: Tensor
    peepholes: Tensor | None
    activations: list[Callable[[Tensor], Tensor]]
    clip: float | None

    def act(self, position: int, x: Tensor) -> Tensor:
        """Return an activation of x, which the node may clip first."""
        if self.clip is not None:
            x = torch.clamp(x, -self.clip, self.clip)
        return self.activations[position](x)


def _activation(call: Call, position: int, default: str) -> Callable[[Tensor], Tensor]:
    names = call.attribute("activations") or []
    found = names[position] if position < len(names) else default
    # A default of the schema comes as bytes.
    name = (found.decode() if isinstance(found, bytes) else found).lower()
    if name not in ("sigmoid", "tanh", "relu", "softsign", "softplus"):
        raise NotImplementedError(f"activation {name}")
    if name in ("softsign", "softplus"):
        return lambda x: getattr(torch.nn.functional, name)(x)
    return lambda x: getattr(torch, name)(x)


def _parts(call: Call, defaults: Sequence[str]) -> list[_Part]:
    w, r, b = call[1], call[2], call.optional(3)
    peepholes, count = call.optional(7), len(defaults)
    gates = w.shape[1]
    zeros = torch.zeros(w.shape[0], 2 * gates, dtype=w.dtype)
    b = zeros if b is None else b
    return [
        _Part(
            w[d],
            r[d],
            b[d],
            None if peepholes is None else peepholes[d],
            [_activation(call, d * count + k, name) for k, name in enumerate(defaults)],
            call.attribute("clip"),
        )
        for d in range(w.shape[0])
    ]


def _lstm_step(part: _Part) -> Step:
    """Gates are stored as input, output, forget, cell."""
    wb, rb = part.b.chunk(2)
    p_i, p_o, p_f = (0, 0, 0) if part.peepholes is None else part.peepholes.chunk(3)

    def step(x: Tensor, state: list[Tensor]) -> list[Tensor]:
        h, c = state
        i, o, f, g = (x @ part.w.T + h @ part.r.T + wb + rb).chunk(4, -1)
        i, f = part.act(0, i + p_i * c), part.act(0, f + p_f * c)
        c = f * c + i * part.act(1, g)
        return [part.act(0, o + p_o * c) * part.activations[2](c), c]

    return step


def _gru_step(part: _Part, *, before_reset: bool) -> Step:
    """Gates are stored as update, reset, hidden."""
    wz, wr, wh = part.w.chunk(3)
    rz, rr, rh = part.r.chunk(3)
    bz, br, bh, cz, cr, ch = part.b.chunk(6)

    def step(x: Tensor, state: list[Tensor]) -> list[Tensor]:
        (h,) = state
        z = part.act(0, x @ wz.T + h @ rz.T + bz + cz)
        r = part.act(0, x @ wr.T + h @ rr.T + br + cr)
        past = r * (h @ rh.T + ch) if before_reset else (r * h) @ rh.T + ch
        new = part.act(1, x @ wh.T + past + bh)
        return [(1 - z) * new + z * h]

    return step


def _rnn_step(part: _Part) -> Step:
    wb, rb = part.b.chunk(2)
    return lambda x, state: [part.act(0, x @ part.w.T + state[0] @ part.r.T + wb + rb)]


def _run(
    x: Tensor, state: list[Tensor], step: Step, lengths: Tensor | None, *, backward: bool
) -> tuple[Tensor, list[Tensor]]:
    """Return the first state of all times, (T, N, H), and the last states.

    Samples shorter than others keep their state once they end, and their outputs are zero.
    """
    rows: list[Tensor] = []
    times = range(len(x))[::-1] if backward else range(len(x))
    for time in times:
        new = step(x[time], state)
        if lengths is not None:
            runs = (time < lengths).unsqueeze(1)
            state = [torch.where(runs, a, b) for a, b in zip(new, state, strict=True)]
            rows.append(torch.where(runs, new[0], torch.zeros_like(new[0])))
        else:
            state = new
            rows.append(new[0])
    return torch.stack(rows[::-1] if backward else rows), state


def _recurrent(call: Call, steps: list[Step], states: int) -> Sequence[Tensor]:
    """Return Y (T, D, N, H), or (N, T, D, H) by layout, then the last state or states."""
    batch_first = bool(call.attribute("layout"))
    x = call[0].transpose(0, 1) if batch_first else call[0]
    hidden = call[2].shape[-1]
    lengths = call.optional(4)
    starts = []
    for place in range(5, 5 + states):
        found = call.optional(place)
        empty = torch.zeros(len(steps), x.shape[1], hidden, dtype=x.dtype)
        found = empty if found is None else found
        starts.append(
            found.transpose(0, 1) if batch_first and call.optional(place) is not None else found
        )
    direction = call.attribute("direction")
    ys, ends = [], []
    for d, step in enumerate(steps):
        backward = direction == "reverse" or d == 1
        y, end = _run(x, [start[d] for start in starts], step, lengths, backward=backward)
        ys.append(y)
        ends.append(end)
    whole = torch.stack(ys, 1)
    last = [torch.stack([end[k] for end in ends]) for k in range(states)]
    if batch_first:
        return (whole.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last))
    return (whole, *last)


def _lstm(call: Call) -> Sequence[Tensor]:
    if call.attribute("input_forget"):
        raise NotImplementedError("input_forget 1")
    parts = _parts(call, ("sigmoid", "tanh", "tanh"))
    return _recurrent(call, [_lstm_step(part) for part in parts], 2)


def _gru(call: Call) -> Sequence[Tensor]:
    before = bool(call.attribute("linear_before_reset"))
    parts = _parts(call, ("sigmoid", "tanh"))
    return _recurrent(call, [_gru_step(part, before_reset=before) for part in parts], 1)


def _rnn(call: Call) -> Sequence[Tensor]:
    return _recurrent(call, [_rnn_step(part) for part in _parts(call, ("tanh",))], 1)


KERNELS: Mapping[str, Kernel] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
