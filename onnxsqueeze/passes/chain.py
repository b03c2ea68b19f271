"""Nodes that restore one weight, while they are put together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.graph import edit, walk
from onnxsqueeze.numerics.planes import packed, planes, split

Array = npt.NDArray[Any]


class Chain:
    """Nodes under construction, with their constants, all named after one weight."""

    def __init__(
        self,
        graph: ir.Graph,
        name: str,
        taken: set[str],
        shared: dict[tuple[ir.Graph, str], ir.Value],
    ) -> None:
        self.graph = graph
        self.name = name
        self.taken = taken
        self._shared = shared
        self.nodes: list[ir.Node] = []

    def constant(self, part: str, values: Array) -> ir.Value:
        """Return a new constant of this weight."""
        return edit.add_initializer(
            self.graph, f"{self.name}.{part}", np.asarray(values, order="C"), self.taken
        )

    def shared(self, part: str, values: Array) -> ir.Value:
        """Return a constant that all weights of a graph use alike."""
        key = self.graph, part
        if key not in self._shared:
            self._shared[key] = edit.add_initializer(self.graph, part, values, self.taken)
        return self._shared[key]

    def op(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> ir.Value:
        """Add a node and return its output."""
        name = walk.unused_name(f"{self.name}.{len(self.nodes)}", self.taken)
        output = ir.Value(name=name)
        node = ir.node(
            kind, inputs, _plain(attributes), domain=domain, outputs=[output], name=name
        )
        self.nodes.append(node)
        return output

    def shape(self, dims: tuple[int, ...]) -> ir.Value:
        """Return a shape as a constant, shared with equal ones."""
        name = "shape." + "x".join(str(dim) for dim in dims)
        return self.shared(name, np.array(dims, np.int64))

    def masked(self, values: Array) -> ir.Value:
        """Store a bit per value and the values that are not zero; return all in their shape."""
        flat = values.ravel()
        kept = flat != 0
        bits = self.constant("mask", np.packbits(kept, bitorder="little"))
        some = self.constant("some", np.concatenate([flat[:1] * 0, flat[kept]]))
        if flat.dtype == ml_dtypes.int4:  # ONNX Runtime gathers no 4-bit values
            some = self.op("Cast", [some], {"to": ir.DataType.INT8})
        line = self.unpacked(bits, 1, (flat.size,), ir.DataType.INT32)
        zero = self.shared("mask.zero", np.array(0, np.int64))
        place = self.op("Mul", [self.op("CumSum", [line, zero]), line])
        spread = self.op("Gather", [some, place], {"axis": 0})
        return self.op("Reshape", [spread, self.shape(values.shape)])

    def unpacked(
        self, packed: ir.Value, width: int, shape: tuple[int, ...], dtype: ir.DataType
    ) -> ir.Value:
        """Return the values of 1 or 2 bits that bytes hold, the first in the lowest bits."""
        per_byte = 8 // width
        column = self.op("Unsqueeze", [packed, self.shared("bits.last", np.array([1], np.int64))])
        # A value goes to the top, which drops those above it, and then to the bottom.
        ups = 8 - width * np.arange(1, per_byte + 1)
        up = self.shared(f"bits.up{width}", ups.astype(np.uint8)[None])
        top = self.op("BitShift", [column, up], {"direction": "LEFT"})
        down = self.shared(f"bits.down{width}", np.array([[8 - width]], np.uint8))
        low = self.op("BitShift", [top, down], {"direction": "RIGHT"})
        value = self.op("Cast", [low], {"to": dtype})
        size = math.prod(shape)
        if size % per_byte:
            value = self.op("Reshape", [value, self.shape((-1,))])
            first = self.shared("bits.first", np.array([0], np.int64))
            value = self.op("Slice", [value, first, self.shape((size,)), first])
        return self.op("Reshape", [value, self.shape(shape)])

    def coded(self, codes: Array, bits: int) -> ir.Value:
        """Store codes of 2 to 12 bits as planes; return them as float32, in their shape."""
        cut, (top, rest) = planes(bits), split(codes, bits)
        value = None
        if top is not None:
            typed = top.astype(ml_dtypes.int4) if cut.top == 4 else top
            value = self.op("Cast", [self.constant("int", typed)], {"to": ir.DataType.FLOAT})
        for plane, width in zip(rest, cut.rest, strict=True):
            low = self._plane(plane, width)
            if value is not None:
                step = self.shared(f"bits.step{width}", np.array(1 << width, np.float32))
                low = self.op("Add", [self.op("Mul", [value, step]), low])
            value = low
        assert value is not None  # every width has a plane
        if cut.offset:
            offset = self.shared(f"bits.offset{cut.offset}", np.array(cut.offset, np.float32))
            value = self.op("Sub", [value, offset])
        return value

    def _plane(self, plane: Array, width: int) -> ir.Value:
        if width == 4:
            kept = self.constant("bits4", plane.astype(ml_dtypes.uint4))
            return self.op("Cast", [kept], {"to": ir.DataType.FLOAT})
        kept = self.constant(f"bits{width}", packed(plane, width))
        return self.unpacked(kept, width, plane.shape, ir.DataType.FLOAT)


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {k: int(v) if isinstance(v, ir.DataType) else v for k, v in (attributes or {}).items()}
