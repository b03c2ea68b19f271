"""Random graphs, random cuts: the table, the solver, the cut, the checker and ONNX Runtime agree.

``--hypothesis-profile=full`` draws twenty times as many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from tests.passes.cutting import cut_exactly, feeds, found, whole


@dataclass(frozen=True)
class Maps:
    """A tensor (N, channels, size, size)."""

    name: str
    channels: int
    size: int


@dataclass
class Text:
    """A graph while it is written; every value stays within −4 … 4, in steps of 2⁻⁸ or more."""

    draw: st.DrawFn
    declared: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def weight(self, *dims: int, kind: str = "w") -> str:
        name = f"{kind}{len(self.declared)}"
        self.declared.append(f"float[{','.join(map(str, dims))}] {name}")
        return name

    def numbers(self, *values: int, kind: str = "int64") -> str:
        name = f"s{len(self.declared)}"
        listed = ", ".join(map(str, values))
        self.declared.append(f"{kind}[{len(values)}] {name} = {{{listed}}}")
        return name

    def node(self, call: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {call}")
        return name

    def clipped(self, call: str) -> str:
        return self.node(f"Clip ({self.node(call)}, low, high)")

    def text(self, output: str) -> str:
        declared = ["float low = {-4}", "float high = {4}", "float four = {4}", *self.declared]
        body = "\n".join([*self.lines, f"y = {output}"])
        return f"g (float[N,3,4,4] x) => (float[N,2] y) <{', '.join(declared)}> {{\n{body}\n}}"


def divisors(number: int) -> list[int]:
    return [k for k in range(1, number + 1) if number % k == 0]


def conv(text: Text, x: Maps, channels: int | None = None) -> Maps:
    channels = channels or text.draw(st.integers(2, 6))
    kernel = text.draw(st.sampled_from((1, 3)))
    w = text.weight(channels, x.channels, kernel, kernel)
    bias = f", {text.weight(channels, kind='b')}" if text.draw(st.booleans()) else ""
    pads = [kernel // 2] * 4
    call = f"Conv <pads = {pads}> ({x.name}, {w}{bias})"
    return Maps(text.clipped(call), channels, x.size)


def grouped(text: Text, x: Maps) -> Maps:
    groups = text.draw(
        st.sampled_from([k for k in range(1, x.channels + 1) if not x.channels % k])
    )
    channels = groups * text.draw(st.integers(1, 3))
    w = text.weight(channels, x.channels // groups, 3, 3)
    call = f"Conv <pads = [1,1,1,1], group = {groups}> ({x.name}, {w})"
    return Maps(text.clipped(call), channels, x.size)


def batch_norm(text: Text, x: Maps) -> Maps:
    vectors = ", ".join(text.weight(x.channels, kind=k) for k in ("g", "b", "m", "var"))
    call = f"BatchNormalization <epsilon = 0.0> ({x.name}, {vectors})"
    return Maps(text.clipped(call), x.channels, x.size)


def relu(text: Text, x: Maps) -> Maps:
    return Maps(text.node(f"Relu ({x.name})"), x.channels, x.size)


def gate(text: Text, x: Maps, y: str | None = None) -> Maps:
    """X times 0 … 4, whole numbers of a sigmoid."""
    sigmoid = text.node(f"Sigmoid ({y or x.name})")
    rounded = text.node(f"Round ({text.node(f'Mul ({sigmoid}, four)')})")
    return Maps(text.clipped(f"Mul ({x.name}, {rounded})"), x.channels, x.size)


def excite(text: Text, x: Maps) -> Maps:
    pooled = Maps(text.node(f"GlobalAveragePool ({x.name})"), x.channels, 1)
    return gate(text, x, conv(text, relu(text, conv(text, pooled)), x.channels).name)


def add(text: Text, x: Maps) -> Maps:
    other = conv(text, x, x.channels)
    return Maps(text.clipped(f"Add ({x.name}, {other.name})"), x.channels, x.size)


def concat(text: Text, x: Maps) -> Maps:
    other = conv(text, x)
    call = f"Concat <axis = 1> ({x.name}, {other.name})"
    return Maps(text.node(call), x.channels + other.channels, x.size)


def split(text: Text, x: Maps) -> Maps:
    """One part goes on; the other is added to it through a convolution, or put behind it."""
    if x.channels < 2:
        return x
    first = text.draw(st.integers(1, x.channels - 1))
    sizes = text.numbers(first, x.channels - first)
    a, b = f"p{len(text.lines)}", f"q{len(text.lines)}"
    text.lines.append(f"{a}, {b} = Split <axis = 1> ({x.name}, {sizes})")
    parts = [Maps(a, first, x.size), Maps(b, x.channels - first, x.size)]
    if text.draw(st.booleans()):
        same = conv(text, parts[1], first)
        return Maps(text.clipped(f"Add ({a}, {same.name})"), first, x.size)
    return Maps(text.node(f"Concat <axis = 1> ({b}, {a})"), x.channels, x.size)


def pool(text: Text, x: Maps) -> Maps:
    if x.size < 2:
        return x
    kind = text.draw(st.sampled_from(("MaxPool", "AveragePool")))
    call = f"{kind} <kernel_shape = [2,2], strides = [2,2]> ({x.name})"
    return Maps(text.node(call), x.channels, x.size // 2)


def last_axis(text: Text, x: Maps) -> Maps:
    """A product over channels that are brought to the last axis and back."""
    channels = text.draw(st.integers(2, 6))
    moved = text.node(f"Transpose <perm = [0,2,3,1]> ({x.name})")
    product = text.clipped(f"MatMul ({moved}, {text.weight(x.channels, channels)})")
    back = text.node(f"Transpose <perm = [0,3,1,2]> ({product})")
    return Maps(back, channels, x.size)


def shuffle(text: Text, x: Maps) -> Maps:
    """Channels in groups, groups and members swapped or left, and in a row again."""
    groups = text.draw(
        st.sampled_from([k for k in range(1, x.channels + 1) if not x.channels % k])
    )
    shape = text.numbers(0, groups, x.channels // groups, x.size * x.size)
    t = text.node(f"Reshape ({x.name}, {shape})")
    if text.draw(st.booleans()):
        t = text.node(f"Transpose <perm = [0,2,1,3]> ({t})")
    first = text.draw(st.sampled_from((-1, x.channels)))
    back = text.numbers(0, first, x.size, x.size)
    return Maps(text.node(f"Reshape ({t}, {back})"), x.channels, x.size)


STEPS: tuple[Callable[[Text, Maps], Maps], ...] = (
    conv, grouped, batch_norm, relu, gate, excite, add, concat, split, pool, last_axis, shuffle,
)  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> str:
    text = Text(draw)
    x = conv(text, Maps("x", 3, 4))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
        if x.channels <= 16:
            event(step.__name__)
            x = step(text, x)
    if draw(st.booleans()):
        x = Maps(text.node(f"GlobalAveragePool ({x.name})"), x.channels, 1)
    flat = text.node(f"Flatten ({x.name})")
    hidden = text.weight(x.channels * x.size**2, 4)
    h = text.clipped(f"Gemm ({flat}, {hidden}, {text.weight(4, kind='b')})")
    return text.text(f"Gemm <transB = 1> ({h}, {text.weight(2, 4)})")


@settings(deadline=None, derandomize=True)
@given(graphs(), st.data())
def test_a_cut_of_silent_units_changes_no_output(text: str, data: st.DataObject) -> None:
    given_inputs = feeds(3, 4, 4)
    model = whole(text)
    tied, shapes = found(model, given_inputs)
    assert tied.units, "the four features of the first Gemm can always go"
    kept = {
        one.name: np.array(sorted(data.draw(st.sets(st.integers(0, one.count - 1), min_size=1))))
        for one in tied.units
    }
    assume(any(len(kept[one.name]) < one.count for one in tied.units))
    event(f"{len(tied.units)} groups")
    cut_exactly(model, tied.units, kept, shapes, given_inputs)
