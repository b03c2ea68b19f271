"""Conv, ConvTranspose, Gemm and MatMul: the operators that multiply by weight matrices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsqueeze.ops.axes import broadcast, count, known, rank
from onnxsqueeze.ops.im2col import conv_rows, drawn, pads_of
from onnxsqueeze.ops.row import (
    Array,
    Blocks,
    Grid,
    Linear,
    Port,
    Refit,
    Row,
    Shapes,
    Tie,
    WeightPort,
    attribute,
    inputs,
    same,
)


def _conv_matrix(node: ir.Node, w: Array) -> Array:
    group = int(attribute(node, "group"))
    matrix: Array = w.reshape(group, w.shape[0] // group, count(w.shape[1:]))
    return matrix


def _reshaped(_: ir.Node, matrix: Array, shape: tuple[int, ...]) -> Array:
    return matrix.reshape(shape)


def _conv_linear(_: ir.Node) -> Linear:
    return Linear("X", "W", "B", "Y", _conv_matrix, _reshaped, conv_rows, x_axis=1)


def _conv_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (N, C, ...), W (M, C/group, ...), B (M,) -> Y (N, M, ...)."""
    if not known(shapes, "X", "Y"):
        return []
    group, c, m = int(attribute(node, "group")), shapes["X"][1], shapes["Y"][1]
    x, w_in, w_out = Port("X", 1), Port("W", 1), Port("W", 0)
    b, y = Port("B", 0), Port("Y", 1)
    ties = [same(Port("X", 0), Port("Y", 0), shapes["Y"][0]), same(w_out, y, m), same(b, y, m)]
    if group == 1:
        return [*ties, same(x, w_in, c)]
    if group == c:  # depthwise: channel i of X makes m/c of Y; W axis 1 has dim 1
        return [*ties, Tie(y, x, np.arange(m), np.arange(m) // (m // c))]
    # Groups must stay equal in size, so entry k of every group goes together.
    ties.append(Tie(x, w_in, np.arange(c), np.arange(c) % (c // group)))
    ties.append(Tie(y, y, np.arange(m), np.arange(m) % (m // group)))
    return ties


def _transposed_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """X (N, C, ...), W (C, M/group, ...), B (M,) -> Y (N, M, ...)."""
    if not known(shapes, "X", "Y"):
        return []
    group, c, m = int(attribute(node, "group")), shapes["X"][1], shapes["Y"][1]
    x, w_in, w_out = Port("X", 1), Port("W", 0), Port("W", 1)
    b, y = Port("B", 0), Port("Y", 1)
    ties = [same(Port("X", 0), Port("Y", 0), shapes["Y"][0]), same(x, w_in, c), same(b, y, m)]
    if group == 1:
        return [*ties, same(w_out, y, m)]
    if group == c:
        return [*ties, Tie(y, x, np.arange(m), np.arange(m) // (m // c))]
    ties.append(Tie(x, x, np.arange(c), np.arange(c) % (c // group)))
    ties.append(Tie(y, w_out, np.arange(m), np.arange(m) % (m // group)))
    return ties


def _group(node: ir.Node, channels: int, per_group: int) -> Refit:
    group = channels // per_group
    return Refit({"group": group}) if group != attribute(node, "group") else Refit()


def _conv_refit(node: ir.Node, shapes: Shapes) -> Refit:
    return _group(node, shapes["X"][1], shapes["W"][1])


def _transposed_refit(node: ir.Node, shapes: Shapes) -> Refit:
    return _group(node, shapes["Y"][1], shapes["W"][1])


def _conv_macs(_: ir.Node, shapes: Shapes) -> int:
    return count(shapes["Y"]) * count(shapes["W"][1:]) if known(shapes, "Y", "W") else 0


def _conv_pads_apart(node: ir.Node, shapes: Shapes) -> tuple[int, int] | None:
    """A kernel (k, 1) over a column (H, 1), with stride 1 and pads of at most H.

    Timed with ONNX Runtime 1.32 on AVX2: it takes 1.3 to 1.8 times as long where it pads itself.
    Other strides and wider inputs gain nothing by a Pad, nor do more pads.
    """
    x, w = shapes.get("X", ()), shapes.get("W", ())
    if len(x) != 4 or len(w) != 4 or x[3] != 1 or w[3] != 1:
        return None
    strides = tuple(attribute(node, "strides") or (1, 1))
    dilations = attribute(node, "dilations") or (1, 1)
    reach = ((w[2] - 1) * dilations[0] + 1, 1)
    column, across = pads_of(node, x[2:], reach, strides)
    pays = strides[0] == 1 and across == (0, 0) and 0 < sum(column) <= x[2]
    return column if pays else None


def _transposed_macs(_: ir.Node, shapes: Shapes) -> int:
    return count(shapes["X"]) * count(shapes["W"][1:]) if known(shapes, "X", "W") else 0


def _gemm_matrix(node: ir.Node, w: Array) -> Array:
    matrix: Array = w if attribute(node, "transB") else w.T
    return matrix[np.newaxis]


def _gemm_tensor(node: ir.Node, matrix: Array, shape: tuple[int, ...]) -> Array:
    w: Array = matrix[0] if attribute(node, "transB") else matrix[0].T
    return w.reshape(shape)


def _gemm_rows(
    node: ir.Node, x: Array, _: tuple[int, ...], limit: int, rng: np.random.Generator
) -> Array:
    """Return at most ``limit`` rows of alpha·A, (1, rows, K)."""
    rows = x.T if attribute(node, "transA") else x
    picked: Array = rows[drawn(len(rows), limit, rng)][np.newaxis]
    alpha = attribute(node, "alpha")
    return picked if alpha == 1.0 else (picked * alpha).astype(x.dtype)


def _gemm_linear(node: ir.Node) -> Linear:
    has_vector = attribute(node, "beta") == 1.0 and rank(node, "C") in (None, 1)
    bias = "C" if has_vector else None
    x_axis = 0 if attribute(node, "transA") else 1
    return Linear("A", "B", bias, "Y", _gemm_matrix, _gemm_tensor, _gemm_rows, x_axis)


def _is_row(node: ir.Node) -> bool:
    """Return whether C is known to be (N,) or (1, N)."""
    c = inputs(node)["C"]
    shape = c.shape if c.const_value is None else c.const_value.shape
    return shape is not None and (len(shape) == 1 or (len(shape) == 2 and shape[0] == 1))


def _gemm_weights(node: ir.Node) -> tuple[WeightPort, ...]:
    return (WeightPort("B", 0 if attribute(node, "transB") else 1, "linear"),)


def _gemm_ties(node: ir.Node, shapes: Shapes) -> list[Tie]:
    """A' (M, K), B' (K, N), C broadcast to (M, N) -> Y (M, N)."""
    if not known(shapes, *inputs(node), "Y"):
        return []
    trans_a, trans_b = bool(attribute(node, "transA")), bool(attribute(node, "transB"))
    a_m, a_k = Port("A", int(trans_a)), Port("A", int(not trans_a))
    b_k, b_n = Port("B", int(trans_b)), Port("B", int(not trans_b))
    m, n = shapes["Y"]
    bias = broadcast(shapes, [name for name in inputs(node) if name == "C"], "Y")
    return [
        same(a_m, Port("Y", 0), m),
        same(b_n, Port("Y", 1), n),
        same(a_k, b_k, shapes["A"][a_k.axis]),
        *bias,
    ]


def _gemm_grid(node: ir.Node) -> Grid | None:
    """QGemm adds one int32 row at the scale of the product, so both factors must be one."""
    if attribute(node, "alpha") != 1.0 or attribute(node, "beta") != 1.0:
        return None
    if "C" in inputs(node) and not _is_row(node):
        return None
    return Grid(("A", "B"), "own", bias="C", float_output=True)


def _gemm_blocks(node: ir.Node) -> Blocks | None:
    """Read back: ONNX Runtime 1.32 fuses Gemm<transB=0> of plain rows, with a vector or none."""
    factors = attribute(node, "alpha"), attribute(node, "beta")
    if attribute(node, "transA") or factors != (1.0, 1.0):
        return None
    return Blocks("A", "B", 0 if attribute(node, "transB") else 1, {"transB": 0}, "C")


def _gemm_macs(node: ir.Node, shapes: Shapes) -> int:
    if not known(shapes, "A", "Y"):
        return 0
    return count(shapes["Y"]) * shapes["A"][0 if attribute(node, "transA") else 1]


def _matmul_weights(node: ir.Node) -> tuple[WeightPort, ...]:
    """The columns of B and the rows of A; a vector has neither, it is all summed over."""
    ports = []
    for name, axis in (("B", -1), ("A", -2)):
        ndim = rank(node, name)
        if name in inputs(node) and ndim is not None and ndim >= 2:
            ports.append(WeightPort(name, axis + ndim, "linear"))
    return tuple(ports)


def _matmul_matrix(_: ir.Node, w: Array) -> Array:
    matrix: Array = w.T[np.newaxis]
    return matrix


def _matmul_tensor(_: ir.Node, matrix: Array, shape: tuple[int, ...]) -> Array:
    w: Array = matrix[0].T.reshape(shape)
    return w


def _matmul_rows(
    _: ir.Node, x: Array, w_shape: tuple[int, ...], limit: int, rng: np.random.Generator
) -> Array:
    """Return at most ``limit`` rows of A with all its leading axes as rows, (1, rows, K)."""
    rows = x.reshape(-1, w_shape[0])
    picked: Array = rows[drawn(len(rows), limit, rng)][np.newaxis]
    return picked


def _matmul_linear(node: ir.Node) -> Linear | None:
    if rank(node, "B") != 2:
        return None
    return Linear("A", "B", None, "Y", _matmul_matrix, _matmul_tensor, _matmul_rows)


def _matmul_blocks(node: ir.Node) -> Blocks | None:
    return Blocks("A", "B", 1, {}, None) if rank(node, "B") in (None, 2) else None


def _matmul_ties(_: ir.Node, shapes: Shapes) -> list[Tie]:
    """A (..., M, K), B (..., K, N) -> Y (..., M, N); a vector lacks M or N, and so does Y then."""
    if not known(shapes, "A", "B", "Y"):
        return []
    a, b, y = shapes["A"], shapes["B"], shapes["Y"]
    a_k, b_k = Port("A", len(a) - 1), Port("B", max(len(b) - 2, 0))
    ties = [same(a_k, b_k, a[-1])]
    if len(b) > 1:
        ties.append(same(Port("B", len(b) - 1), Port("Y", len(y) - 1), b[-1]))
    if len(a) > 1:
        row_axis = len(y) - (2 if len(b) > 1 else 1)
        ties.append(same(Port("A", len(a) - 2), Port("Y", row_axis), a[-2]))
    batch = y[: max(len(y) - (len(a) > 1) - (len(b) > 1), 0)]
    leading = {"A": a[:-2], "B": b[:-2], "Y": batch}
    return ties + broadcast(leading, ["A", "B"], "Y")


def _matmul_macs(_: ir.Node, shapes: Shapes) -> int:
    return count(shapes["Y"]) * shapes["A"][-1] if known(shapes, "A", "Y") else 0


ROWS = (
    Row(
        "Conv",
        weights=lambda _: (WeightPort("W", 0, "linear"),),
        linear=_conv_linear,
        ties=_conv_ties,
        grid=lambda _: Grid(("X", "W"), "own", bias="B"),
        refit=_conv_refit,
        macs=_conv_macs,
        pads_apart=_conv_pads_apart,
    ),
    Row(
        "ConvTranspose",
        weights=lambda _: (WeightPort("W", 1, "linear"),),
        ties=_transposed_ties,
        refit=_transposed_refit,
        macs=_transposed_macs,
    ),
    Row(
        "Gemm",
        since=7,  # before, C was broadcast by an attribute
        weights=_gemm_weights,
        linear=_gemm_linear,
        ties=_gemm_ties,
        grid=_gemm_grid,
        blocks=_gemm_blocks,
        macs=_gemm_macs,
    ),
    Row(
        "MatMul",
        weights=_matmul_weights,
        linear=_matmul_linear,
        ties=_matmul_ties,
        grid=lambda _: Grid(("A", "B"), "own", float_output=True),
        blocks=_matmul_blocks,
        macs=_matmul_macs,
    ),
)
