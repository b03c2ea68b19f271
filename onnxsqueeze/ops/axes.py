"""How rows read a node's shapes, axes and constants, and the ties that many operators share."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsqueeze.ops.row import Array, Port, Shapes, Tie, attribute, inputs, same


def count(shape: Iterable[int]) -> int:
    """Return the number of elements of a shape.

    >>> count((2, 3))
    6
    """
    return prod(int(dim) for dim in shape)


def constant(node: ir.Node, name: str) -> Array | None:
    """Return an input that is the same in every run, or None where it is absent or varies."""
    value = inputs(node).get(name)
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def setting(node: ir.Node, name: str) -> Any:
    """Return an attribute, or the constant input of the same name that a newer opset has instead.

    None where the node has neither, or where the input varies.
    """
    if name in node.attributes:
        return attribute(node, name)
    found = constant(node, name)
    if found is not None:
        return found.tolist()
    return None if name in inputs(node) else attribute(node, name)


def varies(node: ir.Node, name: str) -> bool:
    """Return whether the node has an input of this name that is only known in a run."""
    return name in inputs(node) and constant(node, name) is None


def rank(node: ir.Node, name: str) -> int | None:
    """Return the number of axes of an input as far as the graph knows it, else None."""
    value = inputs(node).get(name)
    if value is None:
        return None
    shape = value.const_value.shape if value.const_value is not None else value.shape
    return None if shape is None else len(shape)


def known(shapes: Shapes, *names: str) -> bool:
    """Return whether all these ports have a measured shape."""
    return all(name in shapes for name in names)


def numbered(shapes: Shapes, name: str) -> list[str]:
    """Return the ports of a variadic parameter, in order.

    >>> numbered({"inputs[1]": (2,), "inputs[0]": (3,), "concat_result": (5,)}, "inputs")
    ['inputs[0]', 'inputs[1]']
    """
    found = [port for port in shapes if port.startswith(f"{name}[")]
    return sorted(found, key=lambda port: int(port[len(name) + 1 : -1]))


def broadcast(shapes: Shapes, sources: Iterable[str], output: str) -> list[Tie]:
    """Return the ties of inputs that are broadcast to the output; an axis of dim 1 stays as it is.

    An output axis that no input spans (all have dim 1 there) has no tie. There are no ties at all
    where a shape is unknown, for that input might need the same cut.

    >>> ties = broadcast({"A": (8, 4), "B": (4,), "C": (8, 4)}, ("A", "B"), "C")
    >>> [(tie.a, tie.b) for tie in ties][2]
    (Port(name='B', axis=0), Port(name='C', axis=1))
    """
    names = list(sources)
    if not known(shapes, output, *names):
        return []
    target = shapes[output]
    ties = []
    for source in names:
        shift = len(target) - len(shapes[source])
        ties += [
            same(Port(source, axis), Port(output, axis + shift), dim)
            for axis, dim in enumerate(shapes[source])
            if dim == target[axis + shift] and dim > 1
        ]
    return ties


def passing(shapes: Shapes, source: str, output: str, but: Iterable[int] = ()) -> list[Tie]:
    """Return ties of each axis of ``source`` to the same axis of ``output``, all but some axes.

    Axes in ``but`` may be negative. Axes whose dims differ are left out.
    """
    if not known(shapes, source, output) or len(shapes[source]) != len(shapes[output]):
        return []
    left_out = {axis % len(shapes[source]) for axis in but}
    pairs = enumerate(zip(shapes[source], shapes[output], strict=True))
    return [
        same(Port(source, axis), Port(output, axis), dim)
        for axis, (dim, dim_out) in pairs
        if axis not in left_out and dim == dim_out
    ]


def factored(shapes: Shapes, source: str, output: str) -> list[Tie]:
    """Return the ties of a row-major reshape; axes of dim 1 have none.

    Axes are matched in blocks of equal size. An axis that is split into several, or made of
    several, goes with the outermost of them, and the others have no tie; a block of several on
    both sides has none at all.

    >>> tie, _ = factored({"data": (6, 4), "reshaped": (3, 2, 1, 4)}, "data", "reshaped")
    >>> tie.a, tie.b, tie.b_index.tolist()
    (Port(name='data', axis=0), Port(name='reshaped', axis=0), [0, 0, 1, 1, 2, 2])
    """
    if (
        not known(shapes, source, output)
        or count(shapes[source]) != count(shapes[output])
        or 0 in shapes[source]
    ):
        return []
    ties = []
    for left, right in _blocks(shapes[source], shapes[output]):
        one, many = (left, right) if len(left) == 1 else (right, left)
        if len(one) > 1:
            continue
        names = (source, output) if one is left else (output, source)
        (axis, dim), (outermost, dim_outermost) = one[0], many[0]
        every = np.arange(dim)
        inner = every // (dim // dim_outermost)
        ties.append(Tie(Port(names[0], axis), Port(names[1], outermost), every, inner))
    return ties


_Block = list[tuple[int, int]]


def _blocks(a: tuple[int, ...], b: tuple[int, ...]) -> list[tuple[_Block, _Block]]:
    """Return the shortest runs of (axis, dim) that have equal sizes, of two shapes of one size."""
    left, right = ([(k, dim) for k, dim in enumerate(shape) if dim > 1] for shape in (a, b))
    blocks = []
    while left:
        run_a, run_b = [left.pop(0)], [right.pop(0)]
        size_a, size_b = run_a[0][1], run_b[0][1]
        while size_a != size_b:
            if size_a < size_b:
                run_a.append(left.pop(0))
                size_a *= run_a[-1][1]
            else:
                run_b.append(right.pop(0))
                size_b *= run_b[-1][1]
        blocks.append((run_a, run_b))
    return blocks
