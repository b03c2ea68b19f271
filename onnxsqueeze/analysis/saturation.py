"""Where sums of two products could leave 16 bits, and which type of weight codes follows from it.

x64 kernels without VNNI multiply unsigned activations by signed weights with ``vpmaddubsw``: two
products are added in 16 bits, and what does not fit is cut off. Partners are features 2k and
2k + 1; in a convolution features are ordered with the channels innermost. Depthwise convolutions
multiply one by one.

Unsigned weights are exact everywhere: ONNX Runtime's kernels for them widen the factors to 16 bits
and add in 32 (SSE, AVX2, AVX512: ``vpmaddwd``), or multiply unsigned to 16 bits, where 255 · 255
fits, and add in 32 (NEON, ``uadalp``; dot product instructions).

Source:
    ONNX Runtime's MLAS, ``MLAS_GEMM_U8U8_KERNEL_AVX2`` (its packed A is int16) and
    ``MLAS_GEMM_U8X8_KERNEL_NEON`` (signed codes are made unsigned); its guide "Quantize ONNX
    models", section on data types. The pairs were found by experiment with ONNX Runtime 1.32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.grids import Candidate
from onnxsqueeze.facts.kernels import Kernels
from onnxsqueeze.numerics.grid import as_rows, from_rows, max_scale, to_grid
from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import Linear, attribute

Array = npt.NDArray[Any]

LARGEST_SUM = 128
"""Weights of two products that fit in 16 bits whatever the activations: 255 · 128 < 2^15."""
LEAST_GAIN = 1.03
"""Ratio of times under which signed weights are not called faster."""
_BLOCK = 1 << 22
_LOW, _HIGH = -(1 << 15), (1 << 15) - 1


@dataclass(frozen=True)
class Risk:
    """What could be cut off in one node, whatever its activations.

    Attributes:
        pairs: Pairs of weights whose products are added in 16 bits.
        over: Those that can leave 16 bits.
        channels: Output channels with such a pair.
    """

    pairs: int
    over: int
    channels: int


@dataclass(frozen=True)
class Saturation:
    """What was cut off in one node, over sampled rows of its input.

    Attributes:
        sums: Sums of two products.
        cut: Those that left 16 bits.
        outputs: Outputs.
        wrong: Those with such a sum.
        largest: Largest error of an output, in units of activation code times weight code.
    """

    sums: int
    cut: int
    outputs: int
    wrong: int
    largest: int


@dataclass(frozen=True)
class WeightType:
    """The type of a weight's codes, whether neighbours must fit in 16 bits together, and why."""

    dtype: Literal["uint8", "int8"]
    reason: str
    paired: bool = False


def nearest_codes(weight: Array, axis: int) -> Array:
    """Return a weight's nearest signed 8-bit codes, one scale per entry of ``axis``.

    Example:
        >>> nearest_codes(np.array([[1.0, -0.5], [0.1, 0.2]], np.float32), 0).tolist()
        [[127, -64], [64, 127]]
    """
    rows = as_rows(weight, axis)
    return from_rows(to_grid(rows, max_scale(rows, bits=8), bits=8), weight.shape, axis)


def risks(
    model: ir.Model,
    candidates: Iterable[Candidate],
    codes: Mapping[str, Array] | None = None,
) -> dict[str, Risk]:
    """Return what could be cut off in each able candidate, by its output ``y``.

    Args:
        model: The model that the candidates are of.
        candidates: As ``integer_candidates`` returns them.
        codes: Signed codes around zero by weight, in the weight's shape; others are rounded to
            the nearest.
    """
    nodes = {out.name: node for node in model.graph for out in node.outputs}
    given = codes or {}
    found = {}
    for one in candidates:
        if one.reason:
            continue
        chosen = given.get(one.weight)
        if chosen is None:
            tensor = model.graph.initializers[one.weight].const_value
            assert tensor is not None  # candidates multiply by initializers with values
            chosen = nearest_codes(tensor.numpy(), one.axis)
        found[one.y] = risk(nodes[one.y], chosen)
    return found


def risk(node: ir.Node, codes: Array) -> Risk:
    """Return which pairs of a node's weights could make a sum that leaves 16 bits.

    Two weights of unlike sign never do; of like sign they can if their magnitudes sum to more than
    128: the largest activation is 255.

    Args:
        node: A product with a weight.
        codes: Its weight as signed codes around zero, in the weight's shape.
    """
    pairs = _pairs(_ordered(_linear(node), node, codes))
    over = np.abs(pairs.sum(axis=-1, dtype=np.int16)) > LARGEST_SUM
    return Risk(over.size, int(over.sum()), int(over.any(axis=-1).sum()))


def saturation(
    node: ir.Node,
    codes: Array,
    x: Array,
    scale: float,
    zero: int,
    *,
    limit: int = 256,
    seed: int = 0,
) -> Saturation:
    """Return how often sums of two products really leave 16 bits, for given activations.

    Args:
        node: A product with a weight.
        codes: Its weight as signed codes around zero, in the weight's shape.
        x: Its activation in floats.
        scale: Scale of the activation's unsigned grid.
        zero: Zero point of that grid.
        limit: Most rows that are looked at, drawn without replacement.
        seed: Draws them.
    """
    linear = _linear(node)
    rows = linear.rows(node, x, codes.shape, limit, np.random.default_rng(seed))
    unsigned = np.clip(np.rint(rows / scale) + zero, 0, 255).astype(np.int32)
    left = _pairs(_inner_last(unsigned, codes.shape, is_single(node, codes.shape)))
    right = _pairs(_ordered(linear, node, codes))
    groups, count, features, _ = left.shape
    total, cut, wrong, largest = 0, 0, 0, 0
    step = max(1, _BLOCK // max(1, right.shape[0] * right.shape[1] * features))
    for start in range(0, count, step):
        some = left[:, start : start + step, np.newaxis]
        sums = (some * right[:, np.newaxis]).sum(axis=-1, dtype=np.int32)
        error = np.abs((sums - np.clip(sums, _LOW, _HIGH)).sum(axis=-1))
        off = (sums < _LOW) | (sums > _HIGH)
        total, cut = total + sums.size, cut + int(off.sum())
        wrong += int(off.any(axis=-1).sum())
        largest = max(largest, int(error.max(initial=0)))
    return Saturation(total, cut, groups * count * right.shape[1], wrong, largest)


def weight_type(
    kernels: Kernels | None,
    *,
    portable: bool = False,
    is_single: bool = False,
    kind: str | None = None,
    gain: float | None = None,
) -> WeightType:
    """Return the type to store a weight's codes in.

    Unsigned codes around 128, one scale per channel, are exact on every x64 and Arm kernel. Signed
    ones are taken where the target's kernels are faster with them; where those saturate, the codes
    of neighbours must sum to at most 128, which makes them exact.

    Args:
        kernels: Facts of the target; None where they are not known.
        portable: The file should be right everywhere.
        is_single: The node's products are not added in pairs.
        kind: Kind of product as the probe's rows name it; None goes by all of them.
        gain: How much faster signed codes were measured to be for this node; None goes by kind.
    """
    if portable:
        return WeightType("uint8", "unsigned weights are exact on every x64 and Arm kernel")
    if kernels is None:
        return WeightType(
            "uint8", "the target's kernels were not probed; unsigned is exact on all"
        )
    if not kernels.is_exact("int8") and not kernels.saturates("int8"):
        return WeightType("uint8", "the target has no integer kernel for signed weights")
    gain = kernels.gain(kind) if gain is None else gain
    if gain < LEAST_GAIN and kernels.is_exact("uint8"):
        return WeightType(
            "uint8", f"signed weights run {gain:.2f} times as fast, which is no gain"
        )
    paired = kernels.saturates("int8") and not is_single
    why = "neighbours fit in 16 bits together" if paired else "they are exact"
    return WeightType("int8", f"signed weights run {gain:.2f} times as fast, and {why}", paired)


def is_single(node: ir.Node, w_shape: tuple[int, ...]) -> bool:
    """Return whether products are not paired: one channel in and out per group, with a kernel."""
    group = attribute(node, "group")
    return group is not None and len(w_shape) > 2 and w_shape[:2] == (group, 1) and group > 1


def _linear(node: ir.Node) -> Linear:
    row = row_of(node)
    linear = None if row is None or row.linear is None else row.linear(node)
    if linear is None:
        raise ValueError(f"{node.name or node.outputs[0].name!r} is no product with a weight")
    return linear


def _ordered(linear: Linear, node: ir.Node, codes: Array) -> Array:
    matrix = linear.matrix(node, codes).astype(np.int16)
    return _inner_last(matrix, codes.shape, is_single(node, codes.shape))


def _inner_last(matrix: Array, w_shape: tuple[int, ...], unpaired: bool) -> Array:
    """Return (groups, rows, features) as kernels order the features, in even number.

    Weights of convolutions are (M, C/group, *kernel), and kernels go over (*kernel, C/group).
    Where products are not paired each gets a zero for its partner.
    """
    if unpaired:
        return np.stack([matrix, np.zeros_like(matrix)], axis=-1).reshape(*matrix.shape[:2], -1)
    if len(w_shape) > 2:
        split = matrix.reshape(*matrix.shape[:2], *w_shape[1:])
        matrix = np.moveaxis(split, 2, -1).reshape(matrix.shape)
    odd = matrix.shape[-1] % 2
    return np.pad(matrix, [(0, 0), (0, 0), (0, odd)])


def _pairs(matrix: Array) -> Array:
    return matrix.reshape(*matrix.shape[:2], -1, 2)
