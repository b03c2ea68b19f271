"""A network with groups of units made by hand, and a cut that only slices initializers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsqueeze.analysis.units import Units
from onnxsqueeze.graph import edit

Array = npt.NDArray[Any]


def units(name: str, count: int, *places: tuple[str, int], block: int = 1) -> Units:
    """Units that own ``block`` consecutive entries of each place."""
    entries = np.arange(count * block) // block
    return Units(name, count, dict.fromkeys(places, entries))


def deep(width: int) -> str:
    """Three layers, 6 to 4 features, with ``width`` neurons in each of the two between."""
    return f"""
g (float[N,6] x) => (float[N,4] y)
<float[6,{width}] w, float[{width}] b, float[{width},{width}] v, float[{width}] c,
 float[{width},4] u, float[4] d> {{
  h = MatMul (x, w)
  i = Add (h, b)
  r = Relu (i)
  k = MatMul (r, v)
  l = Add (k, c)
  s = Relu (l)
  z = MatMul (s, u)
  y = Add (z, d)
}}"""


def deep_units(width: int) -> list[Units]:
    """The neurons of ``deep``."""
    return [
        units("r", width, ("w", 1), ("b", 0), ("v", 0)),
        units("s", width, ("v", 1), ("c", 0), ("u", 0)),
    ]


class SliceCut:
    """Cuts initializers; enough for graphs whose attributes and shapes follow by themselves."""

    def __init__(self, groups: Sequence[Units]) -> None:
        self._groups = groups

    def __call__(self, model: ir.Model, kept: Mapping[str, Array]) -> ir.Model:
        copy = model.clone()
        for one in self._groups:
            for (name, axis), unit in one.entries.items() if one.name in kept else ():
                value = copy.graph.initializers.get(name)
                if value is None:  # an activation follows by itself
                    continue
                stay = np.flatnonzero((unit < 0) | np.isin(unit, kept[one.name]))
                values = np.take(value.const_value.numpy(), stay, axis=axis)
                edit.set_value(value, np.ascontiguousarray(values))
        for node in copy.graph:
            for output in node.outputs:
                if not output.is_graph_output():
                    output.shape = None
        return copy
