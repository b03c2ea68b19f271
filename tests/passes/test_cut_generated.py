"""Graphs put together at random: units whose weights are zero can be cut, and nothing changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from onnxsqueeze.analysis.units import Units, dependencies
from onnxsqueeze.graph.verify import verify
from onnxsqueeze.measure.prune_moments import input_moments
from onnxsqueeze.measure.prune_readers import Reader, readers
from onnxsqueeze.measure.prune_repair import Repaired, repaired
from onnxsqueeze.passes.cut_units import cut_units
from onnxsqueeze.passes.fix_reshapes import fix_reshapes
from onnxsqueeze.runtime.shapes import measured_shapes
from tests.models import RESIDUAL, Array, build, feed, outputs
from tests.passes import cut_images as images
from tests.passes import cut_sequences as sequences
from tests.passes.cut_kinds import IMAGES, KINDS, SEQUENCES, Kind
from tests.passes.cut_text import Text

EXAMPLES = 2000 if settings.get_current_profile_name() == "full" else 100
ROUNDING = 1e-4
"""Part of the largest output: float32 sums in another order, through at most six blocks."""


def silenced(
    model: ir.Model, units: Sequence[Units], kept: Mapping[str, Array]
) -> ir.Model:
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
