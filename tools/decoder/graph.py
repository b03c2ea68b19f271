"""The graph of a decoder, as ONNX text: RMS norms, rotated positions, gated feed-forward parts.

The ops are those that exporters write: the norms and SiLU in their parts, the causal mask made of
ranges in the graph, a tied head as a Transpose of the table. With a cache the model also takes
``attention_mask``, ``position_ids`` and ``past_key_values.N.key`` and ``.value`` of shape
(batch, key heads, past, head dim), and gives ``present.N.key`` and ``.value``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from decoder.shape import Shape

OPSET = 21
MASKED = -3.4028234663852886e38
EPSILON = 1e-6
ROTARY_BASE = 10000.0

# ONNX text knows no dots in names, and the names of caches have them.
_DOT = "__"


def build(shape: Shape, weights: Iterable[ir.TensorProtocol], *, has_cache: bool) -> ir.Model:
    """Return the model of ``shape`` with ``weights``, named as ``shape.weights()`` names them."""
    cosine, sine = rotations(shape)
    tables = [ir.tensor(cosine, name="cosine"), ir.tensor(sine, name="sine")]
    model = ir.from_onnx_text(text(shape, has_cache=has_cache), initializers=[*weights, *tables])
    # ONNX text declares what has no value there as inputs.
    fed = [value for value in model.graph.inputs if value.const_value is None]
    model.graph.inputs.clear()
    model.graph.inputs.extend(fed)
    model.producer_name = "tools/make_decoder"
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.name = (value.name or "").replace(_DOT, ".")
    return model


def rotations(shape: Shape) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return cosines and sines of shape (positions, head dim), each half of a head alike.

    Source: Su et al., RoFormer, arXiv 2104.09864, eq. 34, with halves in place of pairs.
    """
    half = shape.head_dim // 2
    frequencies = ROTARY_BASE ** (-np.arange(half) / half)
    angles = np.outer(np.arange(shape.positions), np.tile(frequencies, 2))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def text(shape: Shape, *, has_cache: bool) -> str:
    """Return the graph as ONNX text; weights are names without values."""
    inputs = ["int64[batch, sequence] input_ids"]
    outputs = [f"float[batch, sequence, {shape.vocabulary}] logits"]
    if has_cache:
        inputs += ["int64[batch, total] attention_mask", "int64[batch, sequence] position_ids"]
        for layer in range(shape.layers):
            cache = f"batch, {shape.key_heads}"
            for part in ("key", "value"):
                inputs.append(
                    f"float[{cache}, past, {shape.head_dim}] past_key_values__{layer}__{part}"
                )
                outputs.append(f"float[{cache}, total, {shape.head_dim}] present__{layer}__{part}")
    body = _start(has_cache)
    for layer in range(shape.layers):
        body += _attention(layer, shape, has_cache)
        body += _feed_forward(f"layer{layer}", f"stream{layer + 1}")
    body += _norm(f"stream{shape.layers}", "last_gain", "last")
    body += _head(shape)
    inputs += [f"{_type(dims)} {name}" for name, (_, dims) in shape.weights().items()]
    inputs += [f"{_type((shape.positions, shape.head_dim))} {one}" for one in ("cosine", "sine")]
    nodes = "\n".join(f"  {line}" for line in body)
    constants = ", ".join(_constants(shape, has_cache))
    return (
        f'<ir_version: 10, opset_import: ["" : {OPSET}]>\n'
        f"decoder ({', '.join(inputs)}) => ({', '.join(outputs)})\n<{constants}>\n{{\n{nodes}\n}}"
    )


def _type(dims: tuple[int, ...]) -> str:
    return f"float[{', '.join(map(str, dims))}]"


def _constants(shape: Shape, has_cache: bool) -> list[str]:
    return [
        "int64 zero = {0}",
        "int64 one = {1}",
        "int64[1] axis0 = {0}",
        "int64[1] axis1 = {1}",
        "int64[1] last_axis = {-1}",
        "int64[2] mask_axes = {1, 2}" if has_cache else "int64[2] mask_axes = {0, 1}",
        f"int64[4] split_shape = {{0, 0, -1, {shape.head_dim}}}",
        f"int64[5] readers_shape = {{1, 1, {shape.readers}, 1, 1}}",
        f"int64[4] read_shape = {{0, {shape.heads}, -1, {shape.head_dim}}}",
        "int64[1] axis2 = {2}",
        f"int64[3] joined_shape = {{0, 0, {shape.dim}}}",
        f"float epsilon = {{{EPSILON}}}",
        "float two = {2.0}",
        f"float shrink = {{{shape.head_dim**-0.5}}}",
        "float open = {0.0}",
        f"float masked = {{{MASKED}}}",
    ]


def _start(has_cache: bool) -> list[str]:
    lines = [
        "stream0 = Gather <axis = 0> (table, input_ids)",
        "sequence = Shape <start = 1, end = 2> (input_ids)",
        "sequence_size = Squeeze (sequence, axis0)",
    ]
    if has_cache:
        lines += [
            "past = Shape <start = 2, end = 3> (past_key_values__0__key)",
            "past_size = Squeeze (past, axis0)",
            "total_size = Add (past_size, sequence_size)",
            "rows = Range (past_size, total_size, one)",
            "columns = Range (zero, total_size, one)",
            "where = Identity (position_ids)",
        ]
    else:
        lines += [
            "rows = Range (zero, sequence_size, one)",
            "columns = Identity (rows)",
            "where = Unsqueeze (rows, axis0)",
        ]
    lines += [
        "row_column = Unsqueeze (rows, last_axis)",
        "causal = LessOrEqual (columns, row_column)",
    ]
    if has_cache:
        lines += [
            "given = Cast <to = 9> (attention_mask)",
            "given_rows = Unsqueeze (given, mask_axes)",
            "seen = And (causal, given_rows)",
        ]
    else:
        lines += ["seen = Unsqueeze (causal, mask_axes)"]
    return [
        *lines,
        "bias = Where (seen, open, masked)",
        "cosine_rows = Gather <axis = 0> (cosine, where)",
        "sine_rows = Gather <axis = 0> (sine, where)",
        "cosines = Unsqueeze (cosine_rows, axis1)",
        "sines = Unsqueeze (sine_rows, axis1)",
    ]


def _norm(x: str, gain: str, y: str) -> list[str]:
    return [
        f"{y}_square = Pow ({x}, two)",
        f"{y}_mean = ReduceMean <keepdims = 1> ({y}_square, last_axis)",
        f"{y}_moment = Add ({y}_mean, epsilon)",
        f"{y}_root = Sqrt ({y}_moment)",
        f"{y}_unit = Div ({x}, {y}_root)",
        f"{y} = Mul ({gain}, {y}_unit)",
    ]


def _rotated(x: str, y: str) -> list[str]:
    return [
        f"{x}_low, {x}_high = Split <axis = -1, num_outputs = 2> ({x})",
        f"{x}_minus = Neg ({x}_high)",
        f"{x}_turned = Concat <axis = -1> ({x}_minus, {x}_low)",
        f"{x}_cosine = Mul ({x}, cosines)",
        f"{x}_sine = Mul ({x}_turned, sines)",
        f"{y} = Add ({x}_cosine, {x}_sine)",
    ]


def _heads(layer: str, part: str) -> list[str]:
    name = f"{layer}_{part}"
    return [
        f"{name}_flat = MatMul ({layer}_normal, {name})",
        f"{name}_split = Reshape ({name}_flat, split_shape)",
        f"{name}_heads = Transpose <perm = [0, 2, 1, 3]> ({name}_split)",
    ]


def _cached(
    number: int, part: str, new: str, every: str, shape: Shape, has_cache: bool
) -> list[str]:
    present, lines = new, list[str]()
    if has_cache:
        present = f"present__{number}__{part}"
        lines = [f"{present} = Concat <axis = 2> (past_key_values__{number}__{part}, {new})"]
    if shape.readers == 1:
        return [*lines, f"{every} = Identity ({present})"]
    return [
        *lines,
        f"{every}_one = Unsqueeze ({present}, axis2)",
        f"{every}_each = Expand ({every}_one, readers_shape)",
        f"{every} = Reshape ({every}_each, read_shape)",
    ]


def _attention(number: int, shape: Shape, has_cache: bool) -> list[str]:
    name = f"layer{number}"
    return [
        *_norm(f"stream{number}", f"{name}_attention_gain", f"{name}_normal"),
        *(line for part in ("query", "key", "value") for line in _heads(name, part)),
        *_rotated(f"{name}_query_heads", f"{name}_query_placed"),
        *_rotated(f"{name}_key_heads", f"{name}_key_placed"),
        *_cached(number, "key", f"{name}_key_placed", f"{name}_keys", shape, has_cache),
        *_cached(number, "value", f"{name}_value_heads", f"{name}_values", shape, has_cache),
        f"{name}_across = Transpose <perm = [0, 1, 3, 2]> ({name}_keys)",
        f"{name}_product = MatMul ({name}_query_placed, {name}_across)",
        f"{name}_shrunk = Mul ({name}_product, shrink)",
        f"{name}_scores = Add ({name}_shrunk, bias)",
        f"{name}_shares = Softmax <axis = -1> ({name}_scores)",
        f"{name}_read = MatMul ({name}_shares, {name}_values)",
        f"{name}_beside = Transpose <perm = [0, 2, 1, 3]> ({name}_read)",
        f"{name}_joined = Reshape ({name}_beside, joined_shape)",
        f"{name}_attended = MatMul ({name}_joined, {name}_mixed)",
        f"{name}_stream = Add (stream{number}, {name}_attended)",
    ]


def _feed_forward(name: str, y: str) -> list[str]:
    return [
        *_norm(f"{name}_stream", f"{name}_feed_gain", f"{name}_feed"),
        f"{name}_gated = MatMul ({name}_feed, {name}_gate)",
        f"{name}_sigmoid = Sigmoid ({name}_gated)",
        f"{name}_silu = Mul ({name}_gated, {name}_sigmoid)",
        f"{name}_upper = MatMul ({name}_feed, {name}_up)",
        f"{name}_hidden = Mul ({name}_silu, {name}_upper)",
        f"{name}_fed = MatMul ({name}_hidden, {name}_down)",
        f"{y} = Add ({name}_stream, {name}_fed)",
    ]


def _head(shape: Shape) -> list[str]:
    if not shape.is_tied:
        return ["logits = MatMul (last, head)"]
    return [
        "table_across = Transpose <perm = [1, 0]> (table)",
        "logits = MatMul (last, table_across)",
    ]
