"""Which axes of a node's inputs and outputs have the same entries, one by one."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import Tie, ports

Shape = tuple[int, ...]
Place = tuple[str, int]
"""A port, or a tensor, and one of its axes."""


class AxisTies:
    """Axes of a node's ports whose entries are those of another, entry k with entry k."""

    def __init__(self) -> None:
        self._tied: dict[Place, set[Place]] = {}

    def add(self, a: Place, b: Place) -> None:
        """Tie two axes."""
        self._tied.setdefault(a, set()).add(b)
        self._tied.setdefault(b, set()).add(a)

    def __getitem__(self, place: Place) -> set[Place]:
        return self._tied.get(place, set())


def axis_ties(node: ir.Node, shapes: Mapping[str, Shape]) -> AxisTies:
    """Return the ties of whole axes, in order; ties that mix, repeat or leave out are none.

    Args:
        node: A node; without a row in the operator table it has no ties.
        shapes: Measured shapes by tensor.
    """
    row, ties = row_of(node), AxisTies()
    if row is None or row.ties is None:
        return ties
    there = ports(node)
    known = {port: shapes[str(v.name)] for port, v in there.items() if str(v.name) in shapes}
    for tie in row.ties(node, known):
        if _is_identity(tie, known):
            ties.add((tie.a.name, tie.a.axis), (tie.b.name, tie.b.axis))
    return ties


def _is_identity(tie: Tie, known: Mapping[str, Shape]) -> bool:
    dims = {known[port.name][port.axis] for port in (tie.a, tie.b) if port.name in known}
    is_whole = dims == {len(tie.a_index)}  # none are known of a port that is left out
    return is_whole and bool((tie.a_index == tie.b_index).all())
