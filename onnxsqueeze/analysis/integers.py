"""What a model holds in integers already: it was decided elsewhere and stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.graph import walk
from onnxsqueeze.ops import integer_role, row_of

LARGEST_BITS = 8
"""Integers of at most so many bits are codes of a grid; wider ones are shapes and indices."""
FEW = 64
"""So few small integers are settings, not weights."""


@dataclass(frozen=True)
class AlreadyInteger:
    """What was quantized before the model came here.

    Attributes:
        nodes: Nodes that compute on integers: kernels of their own, and nodes whose weight, or all
            of whose operands and results, go through DequantizeLinear and QuantizeLinear.
        weights: Names of the initializers that hold integer weights.
        weight_bytes: Bytes of those.
    """

    nodes: tuple[ir.Node, ...]
    weights: tuple[str, ...]
    weight_bytes: int

    @property
    def note(self) -> str:
        """Say it in one line, or nothing where the model is float throughout."""
        if not self.nodes:
            return ""
        return (
            f"already in integers: {len(self.nodes)} node(s) kept as they are, with "
            f"{len(self.weights)} integer weight(s) of {self.weight_bytes} bytes"
        )


def already_integer(model: ir.Model) -> AlreadyInteger:
    """Return which nodes of a model compute on integers, and which integers they hold.

    Integers that are only stored, and made float by a Cast when the model loads, do not count:
    the nodes behind them compute on floats.
    """
    nodes = tuple(node for node in walk.nodes(model) if _is_integer(node))
    weights = [value for value in integer_weights(model) if _feeds_integers(value)]
    sizes = [value.const_value.nbytes for value in weights if value.const_value is not None]
    return AlreadyInteger(nodes, tuple(value.name or "" for value in weights), sum(sizes))


def integer_weights(model: ir.Model) -> list[ir.Value]:
    """Return the initializers that hold matrices of integers of at most 8 bits, but tiny ones."""
    found = []
    for _, value in walk.initializers(model):
        tensor = value.const_value
        if tensor is None or tensor.size <= FEW or len(tensor.shape) < 2:
            continue
        if tensor.dtype.is_integer() and tensor.dtype.bitwidth <= LARGEST_BITS:
            found.append(value)
    return found


def between_integers(node: ir.Node) -> bool:
    """Return whether ONNX Runtime may quantize a float weight of this node by itself.

    It does where the node reads what left the integers, and its result, or what a clamp makes of
    it, enters them again: the weight then has a scale that nobody chose and nobody measured.

    Source:
        ONNX Runtime 1.32, WeightBiasQuantization, read back from its optimized graphs.
    """
    return bool(_left(node)) and _enters_again(node)


def _is_integer(node: ir.Node) -> bool:
    role = integer_role(node)
    if role is not None:
        return role == "compute"
    left = _left(node)
    if any(_is_stored(value) for value in left):
        return True
    operands = [value for value in node.inputs if value is not None and not value.is_initializer()]
    return bool(operands) and len(left) == len(operands) and _enters_again(node)


def _left(node: ir.Node) -> list[ir.Value]:
    """Return the inputs that are made of integers."""
    return [
        value
        for value in node.inputs
        if value is not None
        and (producer := value.producer()) is not None
        and integer_role(producer) == "leave"
    ]


def _is_stored(value: ir.Value) -> bool:
    """Return whether a value that left the integers was a constant among them."""
    producer = value.producer()
    assert producer is not None  # it left the integers through a node
    source = producer.inputs[0]
    return source is not None and source.is_initializer()


def _enters_again(node: ir.Node) -> bool:
    for output in node.outputs:
        for reader in walk.readers(output):
            if integer_role(reader) == "enter":
                return True
            row = row_of(reader)
            if row is not None and row.clamps and _enters_again(reader):
                return True
    return False


def _feeds_integers(value: ir.Value) -> bool:
    return any(integer_role(node) is not None for node in walk.readers(value))
