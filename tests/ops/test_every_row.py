"""Every row of the operator table is held against the ONNX schema and against ONNX Runtime."""

from __future__ import annotations

import itertools
from collections import defaultdict
from functools import cache

import numpy as np
import onnx
import pytest

from onnxsqueeze.ops import OP_TABLE, row_of
from onnxsqueeze.ops.row import Row, Tie, inputs, outputs
from tests.ops.example import Example
from tests.ops.examples import EXAMPLES, NEEDS_A_GRAPH
from tests.ops.running import Array, ports, run

Entry = tuple[str, int, int]


def _row(example: Example) -> Row:
    row = row_of(example.model().graph[0])
    assert row is not None
    return row


def _ports(example: Example, arrays: dict[str, Array]) -> dict[str, Array]:
    model = example.model(arrays)
    return ports(model.graph[0], arrays, run(model, arrays))


@cache
def _shapes(example: Example) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in _ports(example, example.arrays()).items()}


def _ties(example: Example, shapes: dict[str, tuple[int, ...]]) -> list[Tie]:
    row = _row(example)
    return row.ties(example.model().graph[0], shapes) if row.ties else []


def _channels(ties: list[Tie], shapes: dict[str, tuple[int, ...]]) -> list[set[Entry]]:
    """Return the connected entries (port, axis, entry), as the pruning of a whole model does.

    An entry of a tied axis that no tie names is a channel of its own.
    """
    parent: dict[Entry, Entry] = {}

    def root(entry: Entry) -> Entry:
        while parent.setdefault(entry, entry) != entry:
            entry = parent[entry]
        return entry

    for tie in ties:
        for a, b in zip(tie.a_index.tolist(), tie.b_index.tolist(), strict=True):
            parent[root((tie.a.name, tie.a.axis, a))] = root((tie.b.name, tie.b.axis, b))
        for port in (tie.a, tie.b):
            for entry in range(shapes[port.name][port.axis] if port.name in shapes else 0):
                root((port.name, port.axis, entry))
    channels = defaultdict(set)
    for entry in list(parent):
        channels[root(entry)].add(entry)
    return list(channels.values())


def _cut(arrays: dict[str, Array], channel: set[Entry]) -> dict[str, Array]:
    result = dict(arrays)
    by_axis = defaultdict(list)
    for name, axis, entry in channel:
        by_axis[name, axis].append(entry)
    for (name, axis), entries in by_axis.items():
        if name in result:
            result[name] = np.delete(result[name], entries, axis)
    return result


def _silenced(example: Example, arrays: dict[str, Array], channel: set[Entry]) -> dict[str, Array]:
    """Return the inputs with the channel's entries zero in those that are not initializers."""
    result = {name: array.copy() for name, array in arrays.items()}
    varying = [name for name in arrays if name not in example.constant]
    for name, axis, entry in channel:
        if name in varying:
            np.moveaxis(result[name], axis, 0)[entry] = 0
    return result


def test_every_row_has_an_example():
    covered = {id(_row(example)) for example in EXAMPLES}
    missing = [f"{row.op_type}-{row.since}" for row in OP_TABLE if id(row) not in covered]
    assert missing == [f"{name}-{row_since(name)}" for name in NEEDS_A_GRAPH]


def row_since(op_type: str) -> int:
    return next(row.since for row in OP_TABLE if row.op_type == op_type)


def test_rows_are_unique():
    keys = [(row.domain, row.op_type, row.since) for row in OP_TABLE]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("row", OP_TABLE, ids=lambda row: f"{row.op_type}-{row.since}")
def test_row_is_an_operator_of_its_opset(row):
    schema = onnx.defs.get_schema(row.op_type, row.since, row.domain)
    assert not schema.deprecated


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_ports_are_named_as_in_the_schema(example):
    node = example.model().graph[0]
    row = _row(example)
    sources = set(inputs(node))
    schema = onnx.defs.get_schema(example.op_type, example.version, row.domain)
    inputs_of_schema = {parameter.name for parameter in schema.inputs}
    named = [weight.name for weight in (row.weights(node) if row.weights else ())]
    linear = row.linear(node) if row.linear else None
    if linear is not None:
        named += [name for name in (linear.x, linear.w, linear.bias) if name]
        assert linear.y in outputs(node)
    grid = row.grid(node) if row.grid else None
    if grid is not None:
        named += [*grid.reads, *([grid.bias] if grid.bias else [])]
    assert set(named) <= inputs_of_schema
    arrays = example.arrays()
    for weight in row.weights(node) if row.weights else ():
        assert weight.name in sources
        assert 0 <= weight.axis < arrays[weight.name].ndim


@pytest.mark.parametrize("example", [e for e in EXAMPLES if _row(e).ties], ids=str)
def test_ties_lie_within_the_measured_shapes(example):
    shapes = _shapes(example)
    absent = {"B"}
    for tie in _ties(example, shapes):
        assert len(tie.a_index) == len(tie.b_index)
        for port, index in ((tie.a, tie.a_index), (tie.b, tie.b_index)):
            if port.name not in shapes and port.name in absent:
                continue
            assert 0 <= port.axis < len(shapes[port.name])
            assert ((index >= 0) & (index < shapes[port.name][port.axis])).all()


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.cuts], ids=str)
def test_axes_that_should_be_free_are_tied(example):
    shapes = _shapes(example)
    axes: list[set[str]] = [
        {f"{name}{axis}" for name, axis, _ in channel}
        for channel in _channels(_ties(example, shapes), shapes)
    ]
    for wanted in example.cuts.split("|"):
        assert any(set(wanted.split()) <= found for found in axes), (wanted, axes)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.cuts is None], ids=str)
def test_frozen_nodes_have_no_ties(example):
    shapes = _shapes(example)
    assert _ties(example, shapes) == []


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.cuts], ids=str)
def test_cutting_a_channel_removes_it_and_changes_nothing_else(example):
    row, arrays = _row(example), example.arrays()
    before = _ports(example, arrays)
    shapes = {name: array.shape for name, array in before.items()}
    ties = _ties(example, shapes)
    channels = _channels(ties, shapes)
    tested = 0
    for channel in channels + [a | b for a, b in itertools.pairwise(channels)]:
        names_out = set(outputs(example.model().graph[0]))
        uncut = before
        if not any(name in names_out for name, _, _ in channel) or len(channel) > max(
            len(c) for c in channels
        ):
            uncut = _ports(example, _silenced(example, arrays, channel))
        expected = _cut(uncut, channel)
        if any(0 in array.shape for array in expected.values()):
            continue
        after = {name: expected[name] for name in arrays}
        for name in example.constant:
            after[name] = _cut(arrays, channel)[name]
        attributes = {}
        if row.refit:
            node = example.model(after).graph[0]
            new_shapes = {name: array.shape for name, array in expected.items()}
            refit = row.refit(node, new_shapes)
            assert set(refit.inputs) <= set(example.constant)
            after |= refit.inputs
            attributes = dict(refit.attributes)
        model = example.model(after, **attributes)
        results = ports(model.graph[0], after, run(model, after))
        for name in names_out:
            np.testing.assert_allclose(results[name], expected[name], rtol=1e-5, atol=1e-6)
        tested += 1
    assert tested > 0


@pytest.mark.parametrize("example", [e for e in EXAMPLES if _row(e).refit], ids=str)
def test_refit_of_an_uncut_node_changes_nothing(example):
    row, shapes = _row(example), _shapes(example)
    refit = row.refit(example.model().graph[0], shapes)
    assert not refit.attributes
    assert not refit.inputs


@pytest.mark.parametrize("example", [e for e in EXAMPLES if _row(e).ties], ids=str)
def test_unknown_shapes_freeze_what_cannot_be_tied_safely(example):
    """A tie may only be left out together with all that its entries are tied to."""
    shapes = _shapes(example)
    assert _ties(example, {}) == []
    whole = _channels(_ties(example, shapes), shapes)
    for name in shapes:
        known = {port: shape for port, shape in shapes.items() if port != name}
        for channel in _channels(_ties(example, known), known):
            same = [c for c in whole if c & channel]
            assert all(c <= channel for c in same), name
