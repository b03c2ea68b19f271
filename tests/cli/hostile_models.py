"""Models made to do harm: to read other files, fill memory, never end, or fool a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.cli.case import COMPRESS, Case
from tests.cli.place import Place

Change = Callable[[onnx.ModelProto], object]
ANSI = "w\x1b[2J\x1b]0;owned\x07\x9b31m"
"""Clears the screen, sets the window's title, rings, and colours by an 8-bit control."""


def _changed(change: Change) -> Callable[[Place], None]:
    def arrange(place: Place) -> None:
        model = onnx.load(place.model)
        change(model)
        place.model.write_bytes(model.SerializeToString())

    return arrange


def _case(name: str, says: str, change: Change) -> Case:
    return Case(name, 3, says, _changed(change))


def renamed(model: onnx.ModelProto, name: str) -> None:
    """Call the first weight and all nodes so."""
    model.graph.initializer[0].name = name
    for node in model.graph.node:
        node.input[:] = [name if one == "w1" else one for one in node.input]
        node.name = name + node.output[0]


def _dims(*dims: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def _made_at_run_time(size: int) -> Change:
    """Let a node of a few bytes make ``size`` numbers, whose sum is added to the input."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.initializer.append(numpy_helper.from_array(np.array([size], np.int64), "size"))
        graph.node[0].input[0] = "sum"
        nodes = [
            helper.make_node("ConstantOfShape", ["size"], ["large"]),
            helper.make_node("ReduceSum", ["large"], ["one"], keepdims=0),
            helper.make_node("Add", ["x", "one"], ["sum"]),
        ]
        nodes += list(graph.node)
        del graph.node[:]
        graph.node.extend(nodes)

    return change


def _one_value(size: int, location: str = "") -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.ones(1, np.float32), "thin")
    if location:
        values.ClearField("raw_data")
        values.data_location = TensorProto.EXTERNAL
        entry = values.external_data.add()
        entry.key, entry.value = "location", location
    places = numpy_helper.from_array(np.zeros(1, np.int64))
    return helper.make_sparse_tensor(values, places, [size])


def _sparse(size: int, count: int = 1, location: str = "") -> Change:
    def change(model: onnx.ModelProto) -> None:
        for index in range(count):
            one = _one_value(size, location)
            one.values.name += str(index)
            model.graph.sparse_initializer.append(one)

    return change


def _sparse_attribute(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"], sparse_value=_one_value(2**40))
    model.graph.node.append(node)


def _functions(count: int, *, circular: bool) -> Change:
    """Functions of which each calls the next twice; the last one the first, if ``circular``."""

    def change(model: onnx.ModelProto) -> None:
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        for index in range(count):
            following = "f0" if index + 1 == count else f"f{index + 1}"
            nodes = [
                helper.make_node(following, ["a"], ["b"], domain="local"),
                helper.make_node(following, ["b"], ["c"], domain="local"),
            ]
            if index + 1 == count and not circular:
                nodes = [helper.make_node("Relu", ["a"], ["c"])]
            model.functions.append(
                helper.make_function("local", f"f{index}", ["a"], ["c"], nodes, opsets)
            )
        model.opset_import.append(opsets[1])
        model.graph.node[1].op_type, model.graph.node[1].domain = "f0", "local"

    return change


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, digits = len(content), b""
    while length > 127:
        digits, length = digits + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + digits + bytes([length]) + content


def _deep(place: Place) -> None:
    """60 graphs inside each other, which the protobuf library would refuse to write."""
    graph = _field(2, b"g")
    for _ in range(60):
        attribute = _field(1, b"then_branch") + _field(6, graph)
        graph = _field(1, _field(4, b"If") + _field(5, attribute))
    place.model.write_bytes(_field(7, graph))


def _foreign(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Mine", "com.example"


def _external(location: str, **more: str) -> Callable[[Place], None]:
    """Move the first weight to ``weights.bin``, and say that it is elsewhere, or of another size.

    The file has the 2048 bytes that are needed.
    """

    def arrange(place: Place) -> None:
        model = onnx.load(place.model)
        tensor = model.graph.initializer[0]
        (place.folder / "weights.bin").write_bytes(numpy_helper.to_array(tensor).tobytes())
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        place.model.write_bytes(model.SerializeToString())

    return arrange


def _hard_link(place: Place) -> None:
    _external("weights.bin")(place)
    os.link(place.folder / "weights.bin", place.folder / "other.bin")


def _linked_folder(place: Place) -> None:
    _external("inside/weights.bin")(place)
    outside = place.folder.parent / f"{place.folder.name}-outside"
    outside.mkdir()
    (place.folder / "weights.bin").rename(outside / "weights.bin")
    (place.folder / "inside").symlink_to(outside)


def _loop(place: Place) -> None:
    place.model.unlink()
    place.model.symlink_to(place.model)


def _data_loop(place: Place) -> None:
    _external("weights.bin")(place)
    (place.folder / "weights.bin").unlink()
    (place.folder / "weights.bin").symlink_to("weights.bin")


def _pipe(place: Place) -> None:
    place.model.unlink()
    os.mkfifo(place.model)


CASES = [
    _case(
        "2^80 weights declared",
        r"'w1' holds 2048 bytes, and FLOAT .* needs \d{25}",
        _dims(2**40, 2**40),
    ),
    _case("dims that multiply to 2^64", "holds 2048 bytes", _dims(2**32, 2**32)),
    _case("dims below zero", r"shape \[-8, -64\], which mean nothing", _dims(-8, -64)),
    _case("4 TB made at run time", "does not run.*ConstantOfShape", _made_at_run_time(2**40)),
    _case("2^62 numbers made at run time", "does not run", _made_at_run_time(2**62)),
    _case(
        "sparse and 4 TB when dense", r"shape \[1099511627776\] cannot be dense", _sparse(2**40)
    ),
    _case("40 sparse ones of 1.8 GB", r"40 sparse .* need 72000000000", _sparse(450_000_000, 40)),
    _case(
        "sparse values in another file", "another file, which is not", _sparse(4, 1, "data.npz")
    ),
    _case("sparse values at a path", "another file, which is not", _sparse(4, 1, "/etc/hostname")),
    _case("sparse attribute", "holds a sparse tensor", _sparse_attribute),
    _case("function that calls itself", "'f0' needs itself", _functions(1, circular=True)),
    _case("functions in a circle", r"'f\d' needs itself", _functions(3, circular=True)),
    _case(
        "functions that double 60 times", r"grow to \d{18} nodes", _functions(60, circular=False)
    ),
    Case("graphs 60 deep", 3, "not an ONNX model", _deep),
    _case("name of a million letters", "name of 1000000", lambda m: renamed(m, "w" * 10**6)),
    _case("NUL in a name", r"'w\\x00x' holds a NUL", lambda m: renamed(m, "w\0x")),
    _case("operator of a library", "com.example:Mine", _foreign),
    Case(
        "external data at a path", 3, "'/etc/hostname', which is not", _external("/etc/hostname")
    ),
    Case("external data without a name", 3, "at '', which is not", _external("")),
    Case("external data is the folder", 3, "there is no file '.'", _external(".")),
    Case("external data two folders up", 3, "which is not a path", _external("a/../../w.bin")),
    Case("external data before its file", 3, "bytes -4 to", _external("weights.bin", offset="-4")),
    Case(
        "external data behind its file",
        3,
        "2048.* needs 2048",
        _external("weights.bin", offset="1"),
    ),
    Case("external data at 2^63", 3, "bytes 9223", _external("weights.bin", offset=str(2**63))),
    Case("external data of 2^62", 3, r"\+4611", _external("weights.bin", length=str(2**62))),
    Case("external data of no number", 3, r"\+many", _external("weights.bin", length="many")),
    Case("external data with two names", 3, "several hard links", _hard_link),
    Case("external data in a linked folder", 3, "a link that leaves", _linked_folder),
    Case("external data is a link to itself", 3, "is missing", _data_loop),
    Case("model is a link to itself", 3, "Too many levels of symbolic links", _loop),
    Case("model is a pipe", 3, "a pipe or a device", _pipe),
    Case("model is a device", 3, "a pipe or a device", arguments=("inspect", "/dev/zero")),
    Case(
        "original is a device",
        3,
        "a pipe or a device",
        arguments=("validate", "/dev/zero", *COMPRESS[1:4]),
    ),
]
