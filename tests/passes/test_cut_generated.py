"""Graphs put together at random: units whose weights are zero can be cut, and nothing changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsqueeze.analysis.units import Units, dependencies
from onnxsqueeze.passes.cut_units import cut_units
from onnxsqueeze.passes.fix_reshapes import fix_reshapes
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.models import RESIDUAL, Array, build, feed, outputs

EXAMPLES = 2000 if settings.get_current_profile_name() == "full" else 100
ROUNDING = 1e-4
"""Part of the largest output: float32 sums in another order, through at most six blocks."""


@dataclass
class Text:
    """A graph being written: lines, and weights with their shapes."""

    dims: tuple[int, ...]
    lines: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(f"float[{','.join(map(str, shape))}] {name}")
        return name

    def line(self, call: str, results: int = 1) -> str:
        names = [f"v{len(self.lines)}_{k}" for k in range(results)]
        self.lines.append(f"{', '.join(names)} = {call}")
        return ", ".join(names)

    def ints(self, *values: int) -> str:
        listed = ", ".join(map(str, values))
        return self.line(f"Constant <value = int64[{len(values)}] {{{listed}}}> ()")

    def model(self, result: str) -> ir.Model:
        head = f"g (float[N,{','.join(map(str, self.dims))}] x) => (float[] {result})"
        body = "\n".join(self.lines)
        return ir.from_proto(build(f"{head}\n<{', '.join(self.weights)}> {{\n{body}\n}}", 21, 10))


# Blocks of images: x (N, c, 4, 4) -> the result and its channels.


def _conv(g: Text, x: str, c: int) -> tuple[str, int]:
    w, b = g.weight(6, c, 3, 3), g.weight(6)
    return g.line(f"Conv <pads = [1,1,1,1]> ({x}, {w}, {b})"), 6


def _depthwise(g: Text, x: str, c: int) -> tuple[str, int]:
    w = g.weight(c, 1, 3, 3)
    return g.line(f"Conv <pads = [1,1,1,1], group = {c}> ({x}, {w})"), c


def _multiplied(g: Text, x: str, c: int) -> tuple[str, int]:
    w = g.weight(2 * c, 1, 1, 1)
    return g.line(f"Conv <group = {c}> ({x}, {w})"), 2 * c


def _grouped(g: Text, x: str, c: int) -> tuple[str, int]:
    y, _ = _conv(g, x, c)
    w = g.weight(4, 3, 1, 1)
    return g.line(f"Conv <group = 2> ({y}, {w})"), 4


def _transposed(g: Text, x: str, c: int) -> tuple[str, int]:
    w, b = g.weight(c, 3, 1, 1), g.weight(3)
    return g.line(f"ConvTranspose ({x}, {w}, {b})"), 3


def _normalised(g: Text, x: str, c: int) -> tuple[str, int]:
    scale, shift, mean, root = (g.weight(c) for _ in range(4))
    variance = g.line(f"Mul ({root}, {root})")
    return g.line(f"BatchNormalization ({x}, {scale}, {shift}, {mean}, {variance})"), c


def _instance(g: Text, x: str, c: int) -> tuple[str, int]:
    scale, shift = g.weight(c), g.weight(c)
    return g.line(f"InstanceNormalization ({x}, {scale}, {shift})"), c


def _residual(g: Text, x: str, c: int) -> tuple[str, int]:
    w = g.weight(c, c, 1, 1)
    y = g.line(f"Conv ({x}, {w})")
    return g.line(f"Add ({x}, {g.line(f'Relu ({y})')})"), c


def _squeezed(g: Text, x: str, c: int) -> tuple[str, int]:
    down, up = g.weight(3, c, 1, 1), g.weight(c, 3, 1, 1)
    pooled = g.line(f"GlobalAveragePool ({x})")
    low = g.line(f"Conv ({pooled}, {down})")
    low = g.line(f"Relu ({low})")
    scale = g.line(f"Conv ({low}, {up})")
    return g.line(f"Mul ({x}, {g.line(f'Sigmoid ({scale})')})"), c


def _split(g: Text, x: str, c: int) -> tuple[str, int]:
    if c < 2:
        return _conv(g, x, c)
    first, second = g.line(f"Split <axis = 1> ({x}, {g.ints(1, c - 1)})", 2).split(", ")
    turned = g.line(f"Relu ({second})")
    return g.line(f"Concat <axis = 1> ({turned}, {first})"), c


def _single_channels(g: Text, x: str, c: int) -> tuple[str, int]:
    parts = [g.line(f"Conv ({x}, {g.weight(1, c, 1, 1)})") for _ in range(3)]
    return g.line(f"Concat <axis = 1> ({', '.join(parts)})"), 3


def _dense(g: Text, x: str, c: int) -> tuple[str, int]:
    y = g.line(f"Conv ({x}, {g.weight(2, c, 1, 1)})")
    return g.line(f"Concat <axis = 1> ({x}, {y})"), c + 2


def _sliced(g: Text, x: str, c: int) -> tuple[str, int]:
    if c < 3:
        return _conv(g, x, c)
    y = g.line(f"Slice ({x}, {g.ints(0)}, {g.ints(c - 1)}, {g.ints(1)})")
    return y, c - 1


def _shuffled(g: Text, x: str, c: int) -> tuple[str, int]:
    if c % 2:
        return _conv(g, x, c)
    y = g.line(f"Reshape ({x}, {g.ints(0, 2, c // 2, 4, 4)})")
    y = g.line(f"Transpose <perm = [0,2,1,3,4]> ({y})")
    return g.line(f"Reshape ({y}, {g.ints(0, c, 4, 4)})"), c


def _depth(g: Text, x: str, c: int) -> tuple[str, int]:
    y = g.line(f"SpaceToDepth <blocksize = 2> ({x})")
    return g.line(f"DepthToSpace <blocksize = 2> ({y})"), c


def _centred(g: Text, x: str, c: int) -> tuple[str, int]:
    mean = g.line(f"ReduceMean ({x}, {g.ints(1)})")
    return g.line(f"Sub ({x}, {mean})"), c


IMAGE = (
    _conv, _conv, _depthwise, _multiplied, _grouped, _transposed, _normalised, _instance,
    _residual, _squeezed, _split, _single_channels, _dense, _sliced, _shuffled, _depth, _centred,
)  # fmt: skip

# Blocks of sequences: x (N, 4, d) -> the result and its features.


def _linear(g: Text, x: str, d: int) -> tuple[str, int]:
    y = g.line(f"MatMul ({x}, {g.weight(d, 6)})")
    return g.line(f"Add ({y}, {g.weight(6)})"), 6


def _gemm(g: Text, x: str, d: int) -> tuple[str, int]:
    rows = g.line(f"Reshape ({x}, {g.ints(-1, d)})")
    y = g.line(f"Gemm <transB = 1> ({rows}, {g.weight(5, d)}, {g.weight(5)})")
    return g.line(f"Reshape ({y}, {g.ints(-1, 4, 5)})"), 5


def _neurons(g: Text, x: str, d: int) -> tuple[str, int]:
    y = g.line(f"Gelu ({g.line(f'MatMul ({x}, {g.weight(d, 6)})')})")
    return g.line(f"Add ({x}, {g.line(f'MatMul ({y}, {g.weight(6, d)})')})"), d


def _gated(g: Text, x: str, d: int) -> tuple[str, int]:
    gate = g.line(f"Sigmoid ({g.line(f'MatMul ({x}, {g.weight(d, 5)})')})")
    y = g.line(f"Mul ({gate}, {g.line(f'MatMul ({x}, {g.weight(d, 5)})')})")
    return g.line(f"MatMul ({y}, {g.weight(5, d)})"), d


def _heads(g: Text, x: str, split: str, perm: str) -> str:
    y = g.line(f"Reshape ({x}, {split})")
    return g.line(f"Transpose <perm = [{perm}]> ({y})")


def _attention(g: Text, x: str, d: int) -> tuple[str, int]:
    """Three heads of two; shapes with the batch as it is in the run."""
    shape = g.line(f"Shape <start = 0, end = 2> ({x})")
    split = g.line(f"Concat <axis = 0> ({shape}, {g.ints(3, 2)})")
    joined = g.line(f"Concat <axis = 0> ({shape}, {g.ints(6)})")
    q, k, v = (g.line(f"MatMul ({x}, {g.weight(d, 6)})") for _ in range(3))
    q, k = _heads(g, q, split, "0,2,1,3"), _heads(g, k, split, "0,2,3,1")
    weights = g.line(f"Softmax ({g.line(f'MatMul ({q}, {k})')})")
    y = g.line(f"MatMul ({weights}, {_heads(g, v, split, '0,2,1,3')})")
    y = g.line(f"Reshape ({g.line(f'Transpose <perm = [0,2,1,3]> ({y})')}, {joined})")
    return g.line(f"Add ({x}, {g.line(f'MatMul ({y}, {g.weight(6, d)})')})"), d


def _layer_normalised(g: Text, x: str, d: int) -> tuple[str, int]:
    return g.line(f"LayerNormalization ({x}, {g.weight(d)}, {g.weight(d)})"), d


def _recurrent(g: Text, x: str, d: int) -> tuple[str, int]:
    y = g.line(f"Transpose <perm = [1,0,2]> ({x})")
    y = g.line(f"GRU <hidden_size = 3> ({y}, {g.weight(1, 9, d)}, {g.weight(1, 9, 3)})")
    y = g.line(f"Squeeze ({y}, {g.ints(1)})")
    return g.line(f"Transpose <perm = [1,0,2]> ({y})"), 3


SEQUENCE = (
    _linear, _linear, _gemm, _neurons, _gated, _attention, _layer_normalised, _recurrent,
)  # fmt: skip


def _image_model(blocks: list[int]) -> ir.Model:
    g = Text((3, 4, 4))
    x, c = "x", 3
    for block in blocks:
        x, c = IMAGE[block % len(IMAGE)](g, x, c)
    flat = g.line(f"Flatten ({x})")
    return g.model(g.line(f"MatMul ({flat}, {g.weight(16 * c, 3)})"))


def _sequence_model(blocks: list[int]) -> ir.Model:
    g = Text((4, 5))
    x, d = "x", 5
    for block in blocks:
        x, d = SEQUENCE[block % len(SEQUENCE)](g, x, d)
    return g.model(g.line(f"MatMul ({x}, {g.weight(d, 3)})"))


def _silenced(model: ir.Model, units: tuple[Units, ...], kept: dict[str, Array]) -> ir.Model:
    """Return a copy with zeros wherever an initializer belongs to a unit that is not kept.

    Weights that read a unit are zero then, so that whatever it holds changes nothing.
    """
    copy = model.clone()
    for one in units:
        for (name, axis), unit in one.entries.items():
            value = copy.graph.initializers.get(name)
            if one.name in kept and value is not None and value.const_value is not None:
                values = value.const_value.numpy().copy()
                np.moveaxis(values, axis, 0)[(unit >= 0) & ~np.isin(unit, kept[one.name])] = 0
                value.const_value = ir.tensor(values, name=name)
    return copy


def _check(model: ir.Model, dims: tuple[int, ...], seed: int) -> int:
    """Cut what may be cut, at random, and compare; return how many groups there are."""
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    rng = np.random.default_rng(seed)
    two, three = feed(x=(2, *dims)), feed(x=(3, *dims))
    model = fix_reshapes(model, measured_shapes(model, two))
    shapes = measured_shapes(model, two)
    units = dependencies(model, [shapes, measured_shapes(model, three)]).units
    kept = {
        one.name: np.sort(rng.permutation(one.count)[: rng.integers(1, one.count)])
        for one in units
        if rng.random() < 0.7
    }
    expected = _silenced(model, units, kept)
    result = cut_units(model, units, kept, shapes)
    for samples in (two, three):
        for name, wanted in outputs(expected, samples).items():
            found = outputs(result, samples)[name]
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).max() <= ROUNDING * max(1e-6, np.abs(wanted).max())
    return len(units)


BLOCKS = st.lists(st.integers(0, 999), min_size=1, max_size=6)


@settings(max_examples=EXAMPLES, deadline=None)
@given(blocks=BLOCKS, seed=st.integers(0, 999))
def test_silent_channels_can_be_cut(blocks: list[int], seed: int) -> None:
    _check(_image_model(blocks), (3, 4, 4), seed)


@settings(max_examples=EXAMPLES, deadline=None)
@given(blocks=BLOCKS, seed=st.integers(0, 999))
def test_silent_neurons_and_heads_can_be_cut(blocks: list[int], seed: int) -> None:
    _check(_sequence_model(blocks), (4, 5), seed)


def test_every_block_that_makes_units_gives_a_group() -> None:
    for block in (_conv, _depthwise, _grouped, _transposed, _residual, _squeezed, _dense):
        assert _check(_image_model([0, IMAGE.index(block)]), (3, 4, 4), 0) > 0, block
    for block in (_linear, _neurons, _gated, _attention):
        assert _check(_sequence_model([0, SEQUENCE.index(block)]), (4, 5), 0) > 0, block


def test_parts_of_one_channel_are_no_units_of_one_group() -> None:
    """Three Conv of one channel each, side by side: without its channel a Conv has no output.

    The depthwise Conv that follows has a weight that makes all three and another reads them.
    """
    g = Text((3, 4, 4))
    x, c = _depthwise(g, *_single_channels(g, "x", 3))
    model = g.model(g.line(f"Conv ({x}, {g.weight(2, c, 1, 1)})"))
    units = dependencies(model, [measured_shapes(model, feed(x=(2, 3, 4, 4)))]).units
    assert units == ()


def test_heads_and_neurons_are_found() -> None:
    """The features of the stream that both add to are the model's input, so they stay."""
    model = _sequence_model([SEQUENCE.index(_attention), SEQUENCE.index(_neurons)])
    shapes = measured_shapes(model, feed(x=(2, 4, 5)))
    model = fix_reshapes(model, shapes)
    units = dependencies(model, [measured_shapes(model, feed(x=(2, 4, 5)))]).units
    assert sorted(one.count for one in units) == [3, 6]


def test_residual_channels_are_one_group() -> None:
    model = ir.from_proto(build(RESIDUAL))
    (units,) = dependencies(model, [measured_shapes(model, feed(x=(2, 3, 8, 8)))]).units
    assert units.count == 4
    assert {"w1", "w2", "w3"} <= {name for name, _ in units.entries}
