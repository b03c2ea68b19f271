"""Graphs of whole numbers, so that float32 sums are exact in any order, and what cuts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnxsqueeze.analysis.units import Dependencies, Units, dependencies, joined
from onnxsqueeze.graph import edit
from onnxsqueeze.passes.cut_units import cut_units
from onnxsqueeze.runtime import ort
from onnxsqueeze.runtime.shapes import measured_shapes
from tests import models

Array = npt.NDArray[Any]
Feed = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]
Kept = Mapping[str, Array]


def whole(text: str, opset: int = 17, seed: int = 0) -> ir.Model:
    """Build a model; weights without values are −1, 0 or 1; those named var* are 1."""
    model = ir.from_proto(models.build(text, opset))
    edit.set_opsets(model)
    rng = np.random.default_rng(seed)
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        old = value.const_value.numpy()
        if name.startswith("var"):
            edit.set_value(value, np.ones_like(old))
        elif not np.array_equal(old, np.rint(old)):
            edit.set_value(value, rng.integers(-1, 2, old.shape).astype(old.dtype))
    return model


def feeds(*dims: int) -> list[Feed]:
    """Two inputs x of whole numbers, of two batch sizes; ``dims`` are those after the batch."""
    rng = np.random.default_rng(1)
    return [{"x": rng.integers(-3, 4, (n, *dims)).astype(np.float32)} for n in (2, 3)]


def found(model: ir.Model, given: Sequence[Feed]) -> tuple[Dependencies, Shapes]:
    """The units of a model, and its shapes on the first feed."""
    shapes = [measured_shapes(model, feed) for feed in given]
    return dependencies(model, shapes), shapes[0]


def silenced(
    model: ir.Model, units: Sequence[Units], kept: Kept, shapes: Mapping[str, tuple[int, ...]]
) -> ir.Model:
    """A copy where weights that are summed over with a unit that goes are zero there."""
    copy, read = model.clone(), joined(model, shapes).read
    for one in units:
        for name, axis in set(one.entries) & read if one.name in kept else ():
            value = copy.graph.initializers[name]
            assert value.const_value is not None
            unit = one.entries[name, axis]
            stays = (unit < 0) | np.isin(unit, kept[one.name])
            along = [-1 if k == axis else 1 for k in range(value.const_value.numpy().ndim)]
            edit.set_value(value, value.const_value.numpy() * stays.reshape(along).astype(np.int8))
    return copy


def rest(units: Sequence[Units], gone: int = 1) -> dict[str, Array]:
    """All groups without their first units."""
    return {one.name: np.arange(gone, one.count) for one in units}


def cut_exactly(
    model: ir.Model, units: Sequence[Units], kept: Kept, shapes: Shapes, given: Sequence[Feed]
) -> ir.Model:
    """Cut units that were made silent, prove that no output changed; return the cut model."""
    silent = silenced(model, units, kept, shapes)
    before = onnx.ModelProto.SerializeToString(ir.to_proto(silent), deterministic=True)
    cut = cut_units(silent, units, kept, shapes)
    assert before == ir.to_proto(silent).SerializeToString(deterministic=True)
    onnx.checker.check_model(ir.to_proto(cut), full_check=True)
    whole_session, cut_session = (ort.session(m, optimization="off") for m in (silent, cut))
    for feed in given:
        wanted, got = ort.run(whole_session, feed), ort.run(cut_session, feed)
        for name, values in wanted.items():
            np.testing.assert_array_equal(got[name], values, strict=True)
    _assert_narrowed(measured_shapes(cut, given[0]), shapes, units, kept)
    return cut


def _assert_narrowed(after: Shapes, shapes: Shapes, units: Sequence[Units], kept: Kept) -> None:
    expected = {name: list(shape) for name, shape in shapes.items()}
    for one in units:
        for (name, axis), unit in one.entries.items() if one.name in kept else ():
            gone = (unit >= 0) & ~np.isin(unit, kept[one.name])
            expected[name][axis] -= int(gone.sum())
    for name in after.keys() & expected.keys():
        assert list(after[name]) == expected[name], name
