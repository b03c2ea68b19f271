"""Rounding up or down, learned for all codes of a weight at once.

Coordinate descent (numerics/rounding.py) ends where no single code can be better beside all
others. Here every code may move between two neighbours on a continuous path, so that many move
together, and a growing penalty pushes each to one of the two. What comes out goes through
coordinate descent again, and of each row the better of start and result is kept: never worse than
the start.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsqueeze.errors import DependencyError
from onnxsqueeze.numerics.grid import code_type, limits
from onnxsqueeze.numerics.rounding import descended

Array = npt.NDArray[Any]

STRETCH = (-0.1, 1.1)
"""Ends of the rectified sigmoid: 0 and 1 are reached in finite time."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast rounding is learned.

    Attributes:
        iterations: Steps of Adam; at 3 and 4 bits, 400 gave half of what 1000 gave.
        rate: Its learning rate.
        penalty: Weight of the push to 0 or 1, where the start's mean error per code is 1.
        warm_up: Part of the iterations without that push.
        betas: Its exponent at its beginning and at the end.
    """

    iterations: int = 1000
    rate: float = 0.02
    penalty: float = 30.0
    warm_up: float = 0.2
    betas: tuple[float, float] = (20.0, 2.0)


def learned(
    codes: Array,
    rows: Array,
    gram: Array,
    scale: Array,
    bits: int,
    *,
    column: Array | None = None,
    schedule: Schedule | None = None,
) -> Array:
    """Return codes of which no row loses more than those given.

    Minimises ``tr((W − Ŵ) H (W − Ŵ)ᵀ)`` over ``Ŵ = (⌊W / step⌋ + h(v)) · step``, with h the
    rectified sigmoid of v, from where Ŵ is W. There is no sampling: the data are in H.

    Args:
        codes: What is to be beaten, shape (rows, features).
        rows: Weights, shape (rows, features).
        gram: H, damped, shape (features, features).
        scale: Scales, shape (rows, features / block).
        bits: Bits per code.
        column: Scales of the columns, shape (features,).
        schedule: How long it takes.

    Raises:
        DependencyError: If torch is not installed.

    Source:
        Nagel et al. 2020, AdaRound (arXiv:2004.10568), eq. 21 to 25, on the layer's own least
        squares problem instead of batches of its inputs.
    """
    low, high = limits(bits)
    step = np.repeat(scale, rows.shape[1] // scale.shape[1], axis=1)
    step = step if column is None else step * column
    floor = np.clip(np.floor(rows / step), low, high - 1).astype(np.float32)
    share = np.clip(rows / step - floor, 0.02, 0.98)
    unit = max(float(lost(codes, rows, gram, step).sum()) / rows.size, 1e-30)
    found = _optimised(floor, share, rows, gram / unit, step, schedule or Schedule())
    polished = descended(
        found.astype(code_type(bits)), rows, gram, scale, bits, column=column, passes=2
    )
    gains = lost(polished, rows, gram, step) < lost(codes, rows, gram, step)
    result: Array = np.where(gains[:, None], polished, codes)
    return result


def lost(codes: Array, rows: Array, gram: Array, step: Array) -> Array:
    """Return ``(w − ŵ) H (w − ŵ)ᵀ`` of each row, float64, shape (rows,).

    Args:
        codes: Codes, shape (rows, features).
        rows: W, the same shape.
        gram: H.
        step: Value of one step of each code, the same shape.
    """
    error = rows.astype(np.float64) - codes * step.astype(np.float64)
    result: Array = np.einsum("rk,rk->r", error @ gram, error)
    return result


def _optimised(
    floor: Array, share: Array, rows: Array, gram: Array, step: Array, schedule: Schedule
) -> Array:
    """Return the codes that gradient descent ends with."""
    torch = _torch()
    made = [torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in (floor, rows, step)]
    base, target, steps = made
    matrix = torch.from_numpy(gram.astype(np.float32))
    share = (share - STRETCH[0]) / (STRETCH[1] - STRETCH[0])
    v = torch.from_numpy(np.log(share / (1 - share)).astype(np.float32)).requires_grad_()
    # As the rows are independent of each other, Adam's steps depend on no other row's.
    adam = torch.optim.Adam([v], lr=schedule.rate)
    for iteration in range(schedule.iterations):
        adam.zero_grad()
        h = torch.clamp(torch.sigmoid(v) * (STRETCH[1] - STRETCH[0]) + STRETCH[0], 0, 1)
        error = target - (base + h) * steps
        loss = torch.sum((error @ matrix) * error)
        done = iteration / schedule.iterations
        if done >= schedule.warm_up:
            part = (done - schedule.warm_up) / (1 - schedule.warm_up)
            beta = schedule.betas[1] + (schedule.betas[0] - schedule.betas[1]) * (1 - part)
            loss = loss + schedule.penalty * torch.sum(1 - torch.abs(2 * h - 1) ** beta)
        loss.backward()
        adam.step()
    up: Array = (v.detach().numpy() >= 0).astype(np.float32)
    return floor + up


def is_available() -> bool:
    """Return whether torch is installed."""
    return importlib.util.find_spec("torch") is not None


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise DependencyError(
            "rounding cannot be learned: torch is not installed\n"
            "  Install it: pip install 'onnxsqueeze[torch]'"
        ) from None
