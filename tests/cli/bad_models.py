"""Models that are missing, damaged, or not what they say."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.cli.case import COMPRESS, Case
from tests.cli.place import Place
from tests.models import build


def _folder(place: Place) -> None:
    place.model.unlink()
    place.model.mkdir()


def _cut(place: Place) -> None:
    content = place.model.read_bytes()
    place.model.write_bytes(content[: len(content) // 2])


def _zipped(place: Place) -> None:
    place.model.write_bytes(gzip.compress(place.model.read_bytes()))


def _other_format(place: Place) -> None:
    """The head of a TensorFlow Lite file."""
    place.model.write_bytes(b"\x1c\0\0\0TFL3" + bytes(200))


def _changed(place: Place, change: str) -> None:
    model = onnx.load(place.model)
    if change == "no outputs":
        del model.graph.output[:]
    elif change == "no graph":
        model.ClearField("graph")
    elif change == "unknown operator":
        model.graph.node[1].op_type = "Relux"
    elif change == "new opset":
        model.opset_import[0].version = 999
    elif change == "unknown value":
        model.graph.node[1].input[0] = "nowhere"
    elif change == "input twice":
        model.graph.input.append(model.graph.input[0])
    elif change == "input of a sequence":
        made = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
        model.graph.input.append(made)
    elif change == "short weight":
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    place.model.write_bytes(model.SerializeToString())


def _case(name: str, says: str) -> Case:
    return Case(name, 3, says, lambda place: _changed(place, name))


def _cycle(place: Place) -> None:
    # The parser sorts nothing, so that a can need b and b need a.
    text = "g (float[N,8] x) => (float[N,8] y) { a = Add (x, b) b = Relu (a) y = Add (a, b) }"
    place.model.write_bytes(build(text).SerializeToString())


def _external(place: Place, location: str, bytes_there: int) -> None:
    """Put the first weight into a file ``weights.bin``, and say that it is at ``location``."""
    model = onnx.load(place.model)
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    place.model.write_bytes(model.SerializeToString())
    assert bytes_there <= len(content) == 4 * math.prod(tensor.dims)
    if bytes_there:
        (place.folder / "weights.bin").write_bytes(content[:bytes_there])


def _outside(place: Place) -> None:
    """Move the model one folder down, and leave its weights where they are."""
    _external(place, "../weights.bin", 2048)
    _down(place)


def _link(place: Place) -> None:
    _external(place, "linked.bin", 2048)
    inner = _down(place)
    (inner / "linked.bin").symlink_to(place.folder / "weights.bin")


def _down(place: Place) -> Path:
    inner = place.folder / "inner"
    inner.mkdir()
    place.model.rename(inner / "model.onnx")
    return inner


def _not_running(place: Place) -> None:
    """A Reshape that no ONNX checker sees through: 8 values into 7."""
    shape = numpy_helper.from_array(np.array([-1, 7]), "shape")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    place.model.write_bytes(model.SerializeToString())


INNER = ("compress", "inner/model.onnx", *COMPRESS[2:])

CASES = [
    Case("model missing", 3, r"no file .*model\.onnx", lambda place: place.model.unlink()),
    Case("model is a folder", 3, r"model\.onnx is a folder", _folder),
    Case("model empty", 3, r"is empty", lambda place: place.model.write_bytes(b"")),
    Case("model is text", 3, r"text file", lambda place: place.model.write_text("hello\n" * 9)),
    Case("model compressed with gzip", 3, "not an ONNX model", _zipped),
    Case("model of another format", 3, "not an ONNX model", _other_format),
    _case("input twice", "'x' is defined twice"),
    _case("input of a sequence", "only tensors can be fed"),
    Case("model cut short", 3, r"cut short at \d+ bytes", _cut),
    _case("no outputs", "graph without outputs"),
    _case("no graph", "holds no graph"),
    _case("unknown operator", "Relux"),
    _case("new opset", "opset 999"),
    _case("unknown value", "'nowhere', which nothing produces"),
    _case("short weight", r"'w1' holds 2044 bytes, and FLOAT \[8, 64\] needs 2048"),
    Case("cycle", 3, "cycle", _cycle),
    Case("model does not run", 3, "Reshape|does not run", _not_running),
    Case(
        "external data missing",
        3,
        "'w1' is missing: there is no file 'weights.bin'",
        lambda place: _external(place, "weights.bin", 0),
    ),
    Case(
        "external data short",
        3,
        "file of 100, and its shape .* needs 2048",
        lambda place: _external(place, "weights.bin", 100),
    ),
    Case("external data outside", 3, r"'\.\./weights\.bin', which is not", _outside, INNER),
    Case("external data through a link", 3, "a link that leaves", _link, INNER),
    Case(
        "inspect of a missing model",
        3,
        "no file",
        lambda place: place.model.unlink(),
        ("inspect", "model.onnx"),
    ),
    Case(
        "validate against a missing model",
        3,
        r"no file .*gone\.onnx",
        arguments=("validate", "model.onnx", "gone.onnx", "--data", "data.npz"),
    ),
    Case(
        "measure of a text file",
        3,
        "text file",
        lambda place: place.model.write_text("hello\n"),
        ("measure", "model.onnx", "--data", "data.npz"),
    ),
]
