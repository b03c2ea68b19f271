"""A search for TensorRT's symmetric grids, with its trials run on this machine's CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsqueeze import api, search, stages
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.graph import io, walk
from onnxsqueeze.passes.insert_qdq import activation_grid
from onnxsqueeze.search import Search
from onnxsqueeze.search.engine_grids import most_on_grid
from tests.cli.place import network

TENSORRT = Target(provider="tensorrt", objective="latency")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Planned for TensorRT; only its reference, and so every trial, is run on the CPU."""
    folder: Path = tmp_path_factory.mktemp("symmetric")
    place = network(folder)
    data = DataSettings(str(place.data))
    measured = api.measure(place.model, data, run=folder / "run", target=TENSORRT)
    budget = Budget(max_drop=0.2)
    known = stages.reference_of(measured.loaded, budget, Target())
    limits = Limits(effort="quick", prune="off")
    return stages.search_in(measured, known, budget, TENSORRT, limits)


def scaled(model: ir.Model) -> dict[str, ir.Node]:
    """Every QuantizeLinear and DequantizeLinear, by its output."""
    return {
        str(node.outputs[0].name): node
        for node in walk.nodes(model)
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}
    }


def test_all_zero_points_are_zero_and_biases_stay_float(searched: Search) -> None:
    assert searched.facts.ranges
    assert searched.facts.latencies == {}  # a node alone says nothing of an engine

    integer, stored = search.trials(searched)

    assert stored.plan.grid == "affine"
    assert integer.plan.grid == "symmetric"
    assert integer.plan.compute == "float32"
    assert integer.is_within(searched.budget)
    planned = {name for name, one in integer.plan.weights.items() if one.form == "qdq"}
    assert planned == {"w1", "w2", "w3"}
    model = searched.applied(integer.plan).model
    nodes = scaled(model)
    assert len(nodes) >= 2 * 3 + 3  # what the three read, and their weights
    for node in nodes.values():
        zero = node.inputs[2].const_value.numpy()
        assert (zero.dtype, np.abs(zero).max()) == (np.int8, 0)
    types = {name: value.dtype for name, value in model.graph.initializers.items()}
    assert ir.DataType.INT32 not in types.values()
    per_channel = [node.inputs[1].const_value.size for node in nodes.values()]
    assert sorted(size for size in per_channel if size > 1) == [6, 32, 64]


def test_a_budget_that_allows_none_leaves_what_is_stored(searched: Search) -> None:
    stored = search.smallest(searched)
    assert stored is not None
    strict = Search(**{**vars(searched), "budget": Budget(max_drop=0.0)})
    assert most_on_grid(strict, stored, "symmetric") is stored


def test_kept_weights_stay(searched: Search) -> None:
    stored = search.smallest(searched)
    assert stored is not None
    limits = searched.limits.model_copy(update={"keep": ("w2",)})
    found = most_on_grid(Search(**{**vars(searched), "limits": limits}), stored, "symmetric")
    assert {name for name, one in found.plan.weights.items() if one.form == "qdq"} == {"w1", "w3"}


def test_npus_get_activations_of_16_bits_and_biases_of_32(tmp_path: Path) -> None:
    place = network(tmp_path)
    done = api.compress(
        place.model,
        tmp_path / "npu.onnx",
        DataSettings(str(place.data)),
        budget=Budget(max_drop=0.2),
        target=Target(npu=True, objective="size"),
        limits=Limits(effort="quick"),
        run=tmp_path / "run",
    )
    assert done.is_met
    assert done.plan.portable
    assert done.plan.grid == "wide"
    planned = {name for name, one in done.plan.weights.items() if one.form == "qdq"}
    assert planned == {"w1", "w2", "w3"}
    nodes = scaled(io.read(done.output))
    zeros = [node.inputs[2].const_value.numpy() for node in nodes.values() if node.inputs[2:]]
    assert {zero.dtype.name for zero in zeros} == {"uint8", "uint16", "int32"}
    for node in nodes.values():
        zero = node.inputs[2].const_value.numpy()
        is_weight = node.inputs[0].is_initializer()
        assert (zero.dtype == np.uint16) == (not is_weight)
        if zero.dtype == np.uint8:
            assert set(zero.reshape(-1)) == {128}
    # 8-bit weights are what is left to lose: 16 bits lose no more than 2**-16 of a range each.
    assert done.report.validation.fidelity[0].drop.high <= 0.2


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 7.0), (-5.0, 0.0), (0.0, 0.0)])
def test_wide_grids_meet_their_ends(low: float, high: float) -> None:
    scale, zero = activation_grid(low, high, np.uint16)
    assert zero.dtype == np.uint16
    step, span = float(scale), high - low
    assert -int(zero) * step <= low + step / 2
    assert (65535 - int(zero)) * step >= high - step / 2
    if span:
        # Zero's code is off by half a code, so one side has at least n − ½ codes instead of n.
        n = min(side for side in (-low, high) if side > 0) / span * 65535
        rounding = 1 + np.finfo(np.float32).eps
        assert step <= span / 65535 * n / (n - 0.5) * rounding
