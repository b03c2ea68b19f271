"""Blocks of images: x (N, c, 4, 4) -> the result, of the same places, and its channels."""

from __future__ import annotations

from tests.passes.cut_entrywise import ENTRYWISE
from tests.passes.cut_places import PLACES, hard, soft
from tests.passes.cut_text import Block, Text


def conv(g: Text, x: str, c: int) -> tuple[str, int]:
    w, b = g.weight(6, c, 3, 3), g.weight(6)
    return g.line(f"Conv <pads = [1,1,1,1]> ({x}, {w}, {b})"), 6


def depthwise(g: Text, x: str, c: int) -> tuple[str, int]:
    w = g.weight(c, 1, 3, 3)
    return g.line(f"Conv <pads = [1,1,1,1], group = {c}> ({x}, {w})"), c


def _multiplied(g: Text, x: str, c: int) -> tuple[str, int]:
    w = g.weight(2 * c, 1, 1, 1)
    return g.line(f"Conv <group = {c}> ({x}, {w})"), 2 * c


def grouped(g: Text, x: str, c: int) -> tuple[str, int]:
    y, _ = conv(g, x, c)
    w = g.weight(4, 3, 1, 1)
    return g.line(f"Conv <group = 2> ({y}, {w})"), 4


def transposed(g: Text, x: str, c: int) -> tuple[str, int]:
    w, b = g.weight(c, 3, 1, 1), g.weight(3)
    return g.line(f"ConvTranspose ({x}, {w}, {b})"), 3


def _normalised(g: Text, x: str, c: int) -> tuple[str, int]:
    scale, shift, mean, root = (g.weight(c) for _ in range(4))
    variance = g.line(f"Mul ({root}, {root})")
    return g.line(f"BatchNormalization ({x}, {scale}, {shift}, {mean}, {variance})"), c


def _instance(g: Text, x: str, c: int) -> tuple[str, int]:
    scale, shift = g.weight(c), g.weight(c)
    return g.line(f"InstanceNormalization ({x}, {scale}, {shift})"), c


def residual(g: Text, x: str, c: int) -> tuple[str, int]:
    w = g.weight(c, c, 1, 1)
    y = g.line(f"Conv ({x}, {w})")
    return g.line(f"Add ({x}, {g.line(f'Relu ({y})')})"), c


def squeezed(g: Text, x: str, c: int) -> tuple[str, int]:
    down, up = g.weight(3, c, 1, 1), g.weight(c, 3, 1, 1)
    pooled = g.line(f"GlobalAveragePool ({x})")
    low = g.line(f"Conv ({pooled}, {down})")
    low = g.line(f"Relu ({low})")
    scale = g.line(f"Conv ({low}, {up})")
    return g.line(f"Mul ({x}, {g.line(f'Sigmoid ({scale})')})"), c


def _split(g: Text, x: str, c: int) -> tuple[str, int]:
    if c < 2:
        return conv(g, x, c)
    first, second = g.line(f"Split <axis = 1> ({x}, {g.ints(1, c - 1)})", 2).split(", ")
    turned = g.line(f"Relu ({second})")
    return g.line(f"Concat <axis = 1> ({turned}, {first})"), c


def single_channels(g: Text, x: str, c: int) -> tuple[str, int]:
    parts = [g.line(f"Conv ({x}, {g.weight(1, c, 1, 1)})") for _ in range(3)]
    return g.line(f"Concat <axis = 1> ({', '.join(parts)})"), 3


def dense(g: Text, x: str, c: int) -> tuple[str, int]:
    y = g.line(f"Conv ({x}, {g.weight(2, c, 1, 1)})")
    return g.line(f"Concat <axis = 1> ({x}, {y})"), c + 2


def _sliced(g: Text, x: str, c: int) -> tuple[str, int]:
    if c < 3:
        return conv(g, x, c)
    y = g.line(f"Slice ({x}, {g.ints(0)}, {g.ints(c - 1)}, {g.ints(1)})")
    return y, c - 1


def _shuffled(g: Text, x: str, c: int) -> tuple[str, int]:
    if c % 2:
        return conv(g, x, c)
    y = g.line(f"Reshape ({x}, {g.ints(0, 2, c // 2, 4, 4)})")
    y = g.line(f"Transpose <perm = [0,2,1,3,4]> ({y})")
    return g.line(f"Reshape ({y}, {g.ints(0, c, 4, 4)})"), c


def _depth(g: Text, x: str, c: int) -> tuple[str, int]:
    y = g.line(f"SpaceToDepth <blocksize = 2> ({x})")
    return g.line(f"DepthToSpace <blocksize = 2> ({y})"), c


def _centred(g: Text, x: str, c: int) -> tuple[str, int]:
    mean = g.line(f"ReduceMean ({x}, {g.ints(1)})")
    return g.line(f"Sub ({x}, {mean})"), c


def _halved(g: Text, x: str, c: int) -> tuple[str, int]:
    """Parts without stated sizes stay equal."""
    if c % 2:
        return conv(g, x, c)
    first, second = g.line(f"Split <axis = 1, num_outputs = 2> ({x})", 2).split(", ")
    return g.line(f"Sub ({first}, {second})"), c // 2


def _tiled(g: Text, x: str, c: int) -> tuple[str, int]:
    return g.line(f"Tile ({x}, {g.ints(1, 2, 1, 1)})"), 2 * c


def _expanded(g: Text, x: str, c: int) -> tuple[str, int]:
    places = g.line(f"Expand ({g.vector(c)}, {g.ints(c, 4, 1)})")
    return g.line(f"Add ({x}, {places})"), c


def _gathered(g: Text, x: str, c: int) -> tuple[str, int]:
    """Channels by number: they stay."""
    return g.line(f"Gather <axis = 1> ({x}, {g.ints(c - 1, 0, 0)})"), 3


def _local(g: Text, x: str, c: int) -> tuple[str, int]:
    return g.line(f"LRN <size = 3> ({x})"), c


def _group_normalised(g: Text, x: str, c: int) -> tuple[str, int]:
    call = f"GroupNormalization <num_groups = 1> ({x}, {g.weight(c)}, {g.weight(c)})"
    return g.line(call), c


def _soft_rows(g: Text, x: str, c: int) -> tuple[str, int]:
    """All places together, as before opset 13."""
    return soft(g, x, c, axis=2)


def _length(g: Text, x: str, c: int) -> tuple[str, int]:
    """ONNX Runtime has no kernel for its newest version."""
    return g.line(f"Add ({x}, {g.line(f'GlobalLpPool ({x})')})"), c


def _upsampled(g: Text, x: str, c: int) -> tuple[str, int]:
    y = g.line(f"Upsample ({x}, {g.floats(1, 1, 2, 2)})")
    return g.line(f"MaxPool <kernel_shape = [2,2], strides = [2,2]> ({y})"), c


NEW: tuple[Block, ...] = (
    conv, conv, depthwise, _multiplied, grouped, transposed, _normalised, _instance,
    residual, squeezed, _split, single_channels, dense, _sliced, _shuffled, _depth, _centred,
    _halved, _tiled, _expanded, _gathered, _local, _group_normalised, *PLACES, *ENTRYWISE,
)  # fmt: skip
OLD: tuple[Block, ...] = (
    conv, depthwise, _multiplied, grouped, transposed, _normalised, _instance, residual, squeezed,
    dense, _depth, hard, _soft_rows, _soft_rows, _length, _upsampled,
)  # fmt: skip
"""Blocks that are written alike in opset 9, and those of operators that have changed since."""
