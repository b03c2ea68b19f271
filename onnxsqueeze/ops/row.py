"""The vocabulary of the operator table: what one row may say about an operator.

A row names inputs and outputs by their names in the ONNX schema (``"X"``, ``"W"``, ``"Y"``); entry
``k`` of a variadic input or output is written ``"inputs[k]"``. A facet that is left out means
"unknown", and unknown means: leave alone, and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

if TYPE_CHECKING:
    from onnxsqueeze.ops.torch_call import Call

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
"""Shapes measured in a run, by port name; a port that is absent or unknown has no entry."""


@dataclass(frozen=True)
class Port:
    """One axis of one input or output of a node."""

    name: str
    axis: int


@dataclass(frozen=True)
class Tie:
    """Entry ``a_index[k]`` of axis ``a`` lives or dies with entry ``b_index[k]`` of axis ``b``."""

    a: Port
    b: Port
    a_index: Array
    b_index: Array


def same(a: Port, b: Port, dim: int) -> Tie:
    """Tie entry k of ``a`` to entry k of ``b``, for all k below ``dim``."""
    every = np.arange(dim)
    return Tie(a, b, every, every)


@dataclass(frozen=True)
class WeightPort:
    """An input that is a weight when it is an initializer.

    Attributes:
        name: Schema name of the input.
        axis: Axis whose entries keep their own scales (output channels; rows of an embedding).
        role: ``linear`` for products with activations, ``lookup`` for tables that are gathered
            from, ``recurrent`` for LSTM/GRU/RNN matrices.
    """

    name: str
    axis: int
    role: Literal["linear", "lookup", "recurrent"]


@dataclass(frozen=True)
class Linear:
    """A node as a matrix product: rows of its input times a weight matrix.

    Attributes:
        x: Port of the activation.
        w: Port of the weight.
        bias: Port of the bias, or None where the operator has none.
        y: Port of the output.
        matrix: ``(node, w) -> (groups, out, features)``, the weight as matrices.
        tensor: ``(node, matrix, shape) -> w``, the inverse of ``matrix``.
        rows: ``(node, x, w_shape, limit, rng) -> (groups, rows, features)``, at most ``limit``
            rows of what the weight matrix is multiplied with, drawn without replacement.
    """

    x: str
    w: str
    bias: str | None
    y: str
    matrix: Callable[[ir.Node, Array], Array]
    tensor: Callable[[ir.Node, Array, tuple[int, ...]], Array]
    rows: Callable[[ir.Node, Array, tuple[int, ...], int, np.random.Generator], Array]
    x_axis: int = -1


@dataclass(frozen=True)
class Grid:
    """How an operator becomes an integer kernel between Q/DQ pairs in ONNX Runtime's CPU provider.

    Attributes:
        reads: Ports that must come from an 8-bit grid; a variadic port is named without index.
        writes: ``own``: the output gets a grid of its own; ``same``: output and first input share
            one grid, otherwise the node runs in float.
        bias: Port stored as an int32 vector at scale x·w, or None.
        float_output: True if the kernel can also write floats, so that its output needs no grid.
    """

    reads: tuple[str, ...]
    writes: Literal["own", "same"]
    bias: str | None = None
    float_output: bool = False


@dataclass(frozen=True)
class Refit:
    """What must change in a node after a cut: new attribute and constant-input values."""

    attributes: Mapping[str, int | float | list[int]] = field(default_factory=dict)
    inputs: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Dim:
    """The length of one axis of a tensor."""

    tensor: str
    axis: int


Source = int | Dim | None
"""An entry of a shape: a number, the dim that it is, or None where neither is known."""
Sources = tuple[Source, ...]


@dataclass(frozen=True)
class Scaling:
    """What makes an output s times as large along an axis, for any s > 0 per entry.

    Attributes:
        together: Ports that do so when all of them are s times as large along that axis; a
            variadic port is named without index.
        one_of: Ports of which each does so alone.
        gains: Constant vectors that do so together, while the other inputs stay.
        gain_axis: Axis of the output that the gains run along.
        ignored: Ports whose values do not count, only their shapes.

    Source:
        Positive homogeneity as in Nagel et al. 2019 (arXiv:1906.04721), eq. 2: f(s·x) = s·f(x).
    """

    together: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    gains: tuple[str, ...] = ()
    gain_axis: int = -1
    ignored: tuple[str, ...] = ()


def homogeneous(*ports: str) -> Callable[[ir.Node], Scaling]:
    """Return the facet of an operator whose output grows with these inputs together."""
    return lambda _: Scaling(together=ports)


@dataclass(frozen=True)
class Blocks:
    """A product whose kernel reads a matrix as few bits with a scale per block of features.

    Attributes:
        x: Port of the activation.
        w: Port of the matrix.
        axis: Axis of the matrix that is that of the channels.
        attributes: What the node's attributes become when its weight lies (features, channels).
        bias: Port of what the kernel adds, which must be one value per channel, or None.
    """

    x: str
    w: str
    axis: int
    attributes: Mapping[str, int]
    bias: str | None


@dataclass(frozen=True)
class Lookup:
    """A node that takes whole rows, the entries of axis 0, out of a table with two axes."""

    table: str
    indices: str


IntegerRole = Literal["enter", "leave", "compute"]
"""``enter``: makes integers of floats; ``leave``: floats of integers; ``compute``: on integers."""

Kernel = Callable[["Call"], Sequence[Any]]
"""From one run of a node to its outputs, as torch tensors."""


@dataclass(frozen=True)
class Row:
    """Every fact about one operator; see the module docstring for what a missing facet means.

    Attributes:
        op_type: The operator's ONNX name.
        domain: Operator domain, ``""`` for ai.onnx.
        since: First opset that the row holds for.
        weights: ``node -> weight ports``.
        linear: ``node -> Linear`` or None where this node is not a matrix product.
        ties: ``(node, shapes) -> ties`` between axes of its ports. An empty list means that no
            axis may be cut; an axis that appears in no tie is frozen; an entry that appears in
            none, of an axis that does, may be cut by itself.
        grid: ``node -> Grid`` or None where there is no integer kernel for this node.
        clamps: True if the operator only limits values, so that a grid's range can absorb it.
        refit: ``(node, shapes after the cut) -> Refit``.
        macs: ``(node, shapes) -> multiply-adds``.
        sources: ``(node, shapes by tensor, sources of an input) -> sources``: what the entries of
            the output are where it is shape arithmetic, or None where not even their count is
            known.
        integers: What the operator is to the integers of a model that is integer already, or None.
        wide: True if it stays in float32 when the rest of a model computes in float16.
        kernel: How torch computes it; the functions lie in ``ops/torch_*.py``.
        scaling: ``node -> Scaling`` or None where this node's output cannot be scaled.
        blocks: ``node -> Blocks`` or None where no kernel reads a matrix of this node in blocks.
        lookup: ``node -> Lookup`` or None where this node does not take rows out of a table.
        turns: ``node -> axes`` of the input in the order of the output's, or None.
        pads_apart: ``(node, shapes) -> (begin, end)``: what a Pad before the node adds along axis
            2 of its first input faster than the node itself, or None where it is not.
    """

    op_type: str
    domain: str = ""
    since: int = 1
    weights: Callable[[ir.Node], tuple[WeightPort, ...]] | None = None
    linear: Callable[[ir.Node], Linear | None] | None = None
    ties: Callable[[ir.Node, Shapes], list[Tie]] | None = None
    grid: Callable[[ir.Node], Grid | None] | None = None
    clamps: bool = False
    refit: Callable[[ir.Node, Shapes], Refit] | None = None
    macs: Callable[[ir.Node, Shapes], int] | None = None
    sources: (
        Callable[[ir.Node, Shapes, Callable[[ir.Value], Sources | None]], Sources | None] | None
    ) = None
    integers: IntegerRole | None = None
    wide: bool = False
    kernel: Kernel | None = None
    scaling: Callable[[ir.Node], Scaling | None] | None = None
    blocks: Callable[[ir.Node], Blocks | None] | None = None
    lookup: Callable[[ir.Node], Lookup | None] | None = None
    turns: Callable[[ir.Node], tuple[int, ...] | None] | None = None
    pads_apart: Callable[[ir.Node, Shapes], tuple[int, int] | None] | None = None


@cache
def _schema_ports(
    op_type: str, domain: str, version: int
) -> tuple[tuple[tuple[str, bool], ...], ...]:
    schema = onnx.defs.get_schema(op_type, max_inclusive_version=version, domain=domain)
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    return tuple(
        tuple((parameter.name, parameter.option == variadic) for parameter in side)
        for side in (schema.inputs, schema.outputs)
    )


def has_schema(node: ir.Node) -> bool:
    """Return whether ONNX knows the node's operator: ONNX Runtime's own have no schema there.

    Example:
        >>> has_schema(ir.node("Add", [])), has_schema(ir.node("Gelu", [], domain="com.microsoft"))
        (True, False)
    """
    found: bool = onnx.defs.has(node.op_type, domain=node.domain)
    return found


@dataclass(frozen=True)
class TypedPort:
    """A port of a schema: the name of its type parameter, or its type, and what it may hold."""

    parameter: str
    types: frozenset[str]


@cache
def typed_ports(
    op_type: str, domain: str, version: int
) -> tuple[tuple[TypedPort, ...], tuple[TypedPort, ...]] | None:
    """Return inputs and outputs of an operator with their types, or None without a schema."""
    if not onnx.defs.has(op_type, domain=domain):
        return None
    schema = onnx.defs.get_schema(op_type, max_inclusive_version=version, domain=domain)
    inputs, outputs = (
        tuple(TypedPort(one.type_str, frozenset(one.types)) for one in side)
        for side in (schema.inputs, schema.outputs)
    )
    return inputs, outputs


def _named(
    parameters: tuple[tuple[str, bool], ...], values: tuple[ir.Value | None, ...]
) -> dict[str, ir.Value]:
    named: dict[str, ir.Value] = {}
    for index, value in enumerate(values):
        position = min(index, len(parameters) - 1)
        name, is_variadic = parameters[position]
        if value is not None:
            named[f"{name}[{index - position}]" if is_variadic else name] = value
    return named


def opset(node: ir.Node) -> int:
    """Return the opset that the node's graph imports for its domain, or the newest if none.

    Subgraphs carry no imports in the file; graph/io.py copies the model's into them on reading.
    """
    graph = node.graph
    imports = {} if graph is None else graph.opset_imports
    newest: int = onnx.defs.onnx_opset_version()
    return int(imports.get(node.domain, node.version or newest))


def adds(node: ir.Node) -> bool:
    """Return whether the node is an addition, which a product before it may take as its bias."""
    return (node.domain, node.op_type) == ("", "Add")


def inputs(node: ir.Node, version: int | None = None) -> dict[str, ir.Value]:
    """Return the node's present inputs by schema name; entry k of a variadic is ``name[k]``."""
    ports = _schema_ports(node.op_type, node.domain, version or opset(node))
    return _named(ports[0], tuple(node.inputs))


def outputs(node: ir.Node, version: int | None = None) -> dict[str, ir.Value]:
    """Return the node's outputs by schema name; entry k of a variadic one is ``name[k]``."""
    ports = _schema_ports(node.op_type, node.domain, version or opset(node))
    return _named(ports[1], tuple(node.outputs))


def ports(node: ir.Node) -> dict[str, ir.Value]:
    """Return inputs and outputs by schema name; an optional output that is left out has none."""
    return {name: v for name, v in {**inputs(node), **outputs(node)}.items() if v.name}


@cache
def _default(op_type: str, domain: str, version: int, name: str) -> Any:
    schema = onnx.defs.get_schema(op_type, max_inclusive_version=version, domain=domain)
    if name not in schema.attributes:
        return None
    proto = schema.attributes[name].default_value
    value = onnx.helper.get_attribute_value(proto) if proto.type else None
    return value.decode() if isinstance(value, bytes) else value


def attribute(node: ir.Node, name: str) -> Any:
    """Return an attribute's value, or the schema's default, or None where there is neither."""
    found = node.attributes.get(name)
    if found is not None:
        return found.value
    return _default(node.op_type, node.domain, opset(node), name)
