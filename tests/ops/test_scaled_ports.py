"""What the table says of scaling holds in ONNX Runtime: twice the inputs, twice the output."""

from __future__ import annotations

import numpy as np
import pytest

from onnxsqueeze.ops import row_of
from onnxsqueeze.ops.row import Scaling, inputs
from tests.ops.example import Example
from tests.ops.examples import EXAMPLES
from tests.ops.running import Array, run


def scaling(example: Example) -> Scaling | None:
    node = example.model().graph[0]
    row = row_of(node)
    return row.scaling(node) if row is not None and row.scaling is not None else None


SCALED = [
    example
    for example in EXAMPLES
    if (found := scaling(example)) is not None and not found.ignored
]


def outputs_with(example: Example, ports: tuple[str, ...], factor: float) -> list[Array]:
    arrays = example.arrays()
    changed = {
        name: (array * factor).astype(array.dtype)
        if name in ports and array.dtype == np.float32
        else array
        for name, array in arrays.items()
    }
    return run(example.model(changed), changed)


@pytest.mark.parametrize("example", SCALED, ids=str)
def test_a_power_of_two_goes_through_to_the_bit(example: Example) -> None:
    found = scaling(example)
    assert found is not None
    (plain, *_) = run(example.model(), example.arrays())
    ways = [found.together, found.gains, *((port,) for port in found.one_of)]
    for ports in filter(None, ways):
        (changed, *_) = outputs_with(example, ports, 4.0)
        np.testing.assert_array_equal(changed, plain * np.float32(4.0))


def test_operators_of_every_kind_are_among_them() -> None:
    kinds = {example.op_type for example in SCALED}
    assert {"Relu", "Add", "Mul", "MaxPool", "LayerNormalization", "Transpose"} <= kinds


@pytest.mark.parametrize("example", SCALED, ids=str)
def test_ports_are_those_of_the_node(example: Example) -> None:
    found = scaling(example)
    assert found is not None
    named = {name.split("[")[0] for name in inputs(example.model().graph[0])}
    mentioned = {name.split("[")[0] for name in (*found.together, *found.one_of, *found.gains)}
    assert mentioned <= named


def clip(low: float | None, high: float | None) -> Scaling | None:
    ports = {"input": (2, 3)}
    limits = {"min": low, "max": high}
    given = {name: np.float32(value) for name, value in limits.items() if value is not None}
    return scaling(Example("Clip", {**ports, **given}, constant=tuple(given)))


def test_a_clamp_goes_with_every_scale_only_where_it_is_relu() -> None:
    assert clip(0.0, None) == Scaling(together=("input",))
    assert clip(0.0, 6.0) is None
    assert clip(-1.0, None) is None
    assert clip(None, None) is None
