"""Blocks of images that go over places: pooling, reductions, normalizations, moves."""

from __future__ import annotations

from tests.passes.cut_text import Block, Text


def _pooled(g: Text, x: str, c: int) -> tuple[str, int]:
    operator = g.picked(("MaxPool", "AveragePool", "LpPool"))
    return g.line(f"{operator} <kernel_shape = [3,3], pads = [1,1,1,1]> ({x})"), c


def _pooled_to_one(g: Text, x: str, c: int) -> tuple[str, int]:
    operator = g.picked(("GlobalAveragePool", "GlobalMaxPool"))
    return g.line(f"Add ({x}, {g.line(f'{operator} ({x})')})"), c


def _halved(g: Text, x: str) -> str:
    return g.line(f"AveragePool <kernel_shape = [2,2], strides = [2,2]> ({x})")


def _resized(g: Text, x: str, c: int) -> tuple[str, int]:
    """Twice the places, by scales or by sizes that hold the channels too; then half of them."""
    if g.picked((True, False)):
        sizes = g.ints(c, 8, 8)
        y = g.line(f'Resize <mode = "nearest", axes = [1,2,3]> ({x}, , , {sizes})')
    else:
        y = g.line(f'Resize <mode = "linear"> ({x}, , {g.floats(1, 1, 2, 2)})')
    return _halved(g, y), c


def _padded(g: Text, x: str, c: int) -> tuple[str, int]:
    y = g.line(f"Pad ({x}, {g.ints(1, 1, 1, 1)}, , {g.ints(2, 3)})")
    return g.line(f"Conv ({y}, {g.weight(5, c, 3, 3)})"), 5


def _sampled(g: Text, x: str, c: int) -> tuple[str, int]:
    """At places that two channels of the model's input name."""
    two = g.line(f"Slice (x, {g.ints(0)}, {g.ints(2)}, {g.ints(1)})")
    grid = g.line(f"Transpose <perm = [0,2,3,1]> ({g.around(two)})")
    return g.line(f"GridSample ({x}, {grid})"), c


def _varying(g: Text, x: str) -> str:
    """Values with one channel of the input added: no channel is the same at all places."""
    one = g.line(f"Slice (x, {g.ints(0)}, {g.ints(1)}, {g.ints(1)})")
    return g.line(f"Add ({x}, {one})")


def _normalised_places(g: Text, x: str, c: int) -> tuple[str, int]:
    y = _varying(g, x)
    calls = (
        f"LayerNormalization <axis = 2> ({y}, {g.weight(4, 4)})",
        f"RMSNormalization <axis = 2> ({y}, {g.weight(4, 4)})",
        f"MeanVarianceNormalization ({y})",
    )
    return g.line(g.picked(calls)), c


def _unit_rows(g: Text, x: str, c: int) -> tuple[str, int]:
    return g.line(f"LpNormalization ({g.around(x, 1)})"), c


def _reduced(g: Text, x: str, c: int) -> tuple[str, int]:
    suffixes = (
        *("L1", "L2", "SumSquare", "Mean", "Sum"),
        *("LogSum", "LogSumExp", "Min", "Prod", "Max"),
    )
    operator, positive = f"Reduce{g.picked(suffixes)}", g.around(x, 1)
    if c % 2:
        return g.line(f"Add ({x}, {g.line(f'{operator} ({positive}, {g.ints(3)})')})"), c
    y = g.line(f"{operator} <keepdims = 0> ({positive}, {g.ints(-2)})")
    return g.line(f"Add ({x}, {g.line(f'Unsqueeze ({y}, {g.ints(2)})')})"), c


def soft(g: Text, x: str, c: int, axis: int = 3) -> tuple[str, int]:
    return g.line(f"{g.picked(('Softmax', 'LogSoftmax'))} <axis = {axis}> ({x})"), c


def hard(g: Text, x: str, c: int) -> tuple[str, int]:
    """What jumps works on weights, see ``cut_entrywise``."""
    return g.line(f"Add ({x}, {g.line(f'Hardmax <axis = 1> ({g.weight(c, 4, 4)})')})"), c


def _searched(g: Text, x: str, c: int) -> tuple[str, int]:
    operator = g.picked(("ArgMax", "ArgMin"))
    place = g.line(f"{operator} <axis = -1> ({g.weight(c, 4, 4)})")
    return g.line(f"Add ({x}, {g.line(f'Cast <to = 1> ({place})')})"), c


def _sorted(g: Text, x: str, c: int) -> tuple[str, int]:
    return g.line(f"TopK ({x}, {g.ints(4)})", 2).split(", ")[0], c


def _summed_up(g: Text, x: str, c: int) -> tuple[str, int]:
    return g.line(f"CumSum ({x}, {g.scalar('int64', 3)})"), c


def _triangle(g: Text, x: str, c: int) -> tuple[str, int]:
    return g.line(f"Trilu ({x})"), c


def _picked_places(g: Text, x: str, c: int) -> tuple[str, int]:
    return g.line(f"Gather <axis = 2> ({x}, {g.ints(1, 0, 3, 3)})"), c


def _one_place(g: Text, x: str, c: int) -> tuple[str, int]:
    """An axis of dim 1 comes and goes."""
    y = g.line(f"Unsqueeze ({x}, {g.ints(1)})")
    return g.line(f"Squeeze ({g.line(f'Relu ({y})')}, {g.ints(1)})"), c


PLACES: tuple[Block, ...] = (
    _pooled, _pooled_to_one, _resized, _padded, _sampled, _normalised_places, _unit_rows, _reduced,
    soft, hard, _searched, _sorted, _summed_up, _triangle, _picked_places, _one_place,
)  # fmt: skip
