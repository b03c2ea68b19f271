from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsqueeze.errors import ModelError, OutputError
from onnxsqueeze.graph import io, walk
from tests import models


def external(folder: Path, location: str = "w.bin") -> onnx.ModelProto:
    """RESIDUAL with the data of w2 in a file of its own."""
    model = models.build(models.RESIDUAL)
    tensor = next(t for t in model.graph.initializer if t.name == "w2")
    (folder / "w.bin").write_bytes(tensor.raw_data)
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def arrays(model: ir.Model) -> dict[str, np.ndarray]:
    return {v.name: v.const_value.numpy() for _, v in walk.initializers(model)}


def assert_same_weights(a: ir.Model, b: ir.Model) -> None:
    left, right = arrays(a), arrays(b)
    assert left.keys() == right.keys()
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name])


@pytest.mark.parametrize("name", models.ALL)
def test_a_model_survives_read_write_read_byte_for_byte(tmp_path: Path, name: str) -> None:
    path = models.saved(models.build(models.ALL[name][0]), tmp_path)

    io.write(io.read(path), tmp_path / "first.onnx")
    io.write(io.read(tmp_path / "first.onnx"), tmp_path / "second.onnx")

    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
    assert_same_weights(io.read(path), io.read(tmp_path / "second.onnx"))


def test_every_subgraph_knows_its_opset(tmp_path: Path) -> None:
    model = io.read(models.saved(models.build(models.SUBGRAPH, opset=13), tmp_path))

    assert [graph.opset_imports[""] for graph in walk.graphs(model)] == [13, 13, 13]


def test_the_long_name_of_the_standard_domain_is_understood(tmp_path: Path) -> None:
    proto = models.build(models.RESIDUAL)
    proto.opset_import[0].domain = "ai.onnx"

    assert io.read(models.saved(proto, tmp_path)).opset_imports == {"": 17}


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    proto = models.build(models.RESIDUAL)
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)

    model = io.read(models.saved(proto, tmp_path))

    assert [n.op_type for n in model.graph][:2] == ["Conv", "Relu"]


def test_external_weights_are_mapped_and_come_home(tmp_path: Path) -> None:
    path = models.saved(external(tmp_path), tmp_path)
    model = io.read(path)
    assert isinstance(model.graph.initializers["w2"].const_value, ir.ExternalTensor)

    (tmp_path / "out").mkdir()
    io.write(model, tmp_path / "out" / "one.onnx")

    assert [p.name for p in (tmp_path / "out").iterdir()] == ["one.onnx"]
    assert_same_weights(model, io.read(tmp_path / "out" / "one.onnx"))
    assert isinstance(model.graph.initializers["w2"].const_value, ir.ExternalTensor)


def test_external_on_request_writes_one_data_file(tmp_path: Path) -> None:
    model = io.read(models.saved(models.build(models.RESIDUAL), tmp_path))
    (tmp_path / "out").mkdir()

    io.write(model, tmp_path / "out" / "m.onnx", external=True)

    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["m.onnx", "m.onnx.data"]
    back = io.read(tmp_path / "out" / "m.onnx")
    assert isinstance(back.graph.initializers["w2"].const_value, ir.ExternalTensor)
    assert_same_weights(model, back)
    sizes = sum(p.stat().st_size for p in (tmp_path / "out").iterdir())
    assert io.size_bytes(tmp_path / "out" / "m.onnx") == sizes


def test_size_and_fingerprint_of_a_plain_file_are_those_of_the_file(tmp_path: Path) -> None:
    path = models.saved(models.build(models.RESIDUAL), tmp_path)

    assert io.size_bytes(path) == path.stat().st_size
    assert io.fingerprint(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_fingerprint_covers_the_external_data(tmp_path: Path) -> None:
    path = models.saved(external(tmp_path), tmp_path)
    before = io.fingerprint(path)
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "w.bin").write_bytes(bytes(data))

    assert io.fingerprint(path) != before


def test_a_written_file_is_not_larger_for_declarations_of_weights(tmp_path: Path) -> None:
    path = models.saved(models.build(models.RESIDUAL), tmp_path)
    io.write(io.read(path), tmp_path / "out.onnx")

    assert list(onnx.load(tmp_path / "out.onnx").graph.value_info) == []
    assert (tmp_path / "out.onnx").stat().st_size <= path.stat().st_size


# --- writing: refusals ---


def test_writing_to_a_missing_folder_is_refused(tmp_path: Path) -> None:
    model = io.read(models.saved(models.build(models.RESIDUAL), tmp_path))
    with pytest.raises(OutputError, match=r"there is no folder .*missing to write out.onnx to"):
        io.write(model, tmp_path / "missing" / "out.onnx")


def test_writing_over_a_folder_is_refused(tmp_path: Path) -> None:
    model = io.read(models.saved(models.build(models.RESIDUAL), tmp_path))
    with pytest.raises(OutputError, match="is a folder"):
        io.write(model, tmp_path)


def test_writing_over_ones_own_weights_is_refused_and_leaves_them(tmp_path: Path) -> None:
    io.write(
        io.read(models.saved(models.build(models.RESIDUAL), tmp_path)),
        tmp_path / "m.onnx",
        external=True,
    )
    before = (tmp_path / "m.onnx.data").read_bytes()
    model = io.read(tmp_path / "m.onnx")

    with pytest.raises(OutputError, match="holds weights of the model"):
        io.write(model, tmp_path / "m.onnx", external=True)

    assert (tmp_path / "m.onnx.data").read_bytes() == before


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = models.saved(external(tmp_path), tmp_path)
    model = io.read(path)
    (tmp_path / "w.bin").unlink()
    (tmp_path / "old.onnx").write_bytes(b"old")

    with pytest.raises(OutputError, match=r"old\.onnx cannot be written: No such file"):
        io.write(model, tmp_path / "old.onnx")

    assert (tmp_path / "old.onnx").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "old.onnx"]


# --- reading: refusals ---


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        io.read(path)


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "no.onnx", "there is no file .*no.onnx")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"hello, this is text\n" * 9, "is a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"PK\x03\x04" + bytes(60), "is a zip archive, not an ONNX model"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "is an HDF5 file"),
        (b"\x1c\0\0\0TFL3" + bytes(60), "is a TensorFlow Lite model"),
        (b"\x80\x04\x95" + bytes(60), "is a Python pickle"),
        (b"\x93NUMPY\x01\0" + bytes(60), "is a NumPy array"),
        (b"\x0a\0\0\0\0\0\0\0{\"a\": {}}  ", "is a safetensors file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is not an ONNX model"),
        (b"\x08\x08", "holds no graph"),
    ],
)  # fmt: skip
def test_content_that_is_no_model(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    refused(tmp_path / "m.onnx", match)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_short(tmp_path: Path, part: float) -> None:
    path = models.saved(models.build(models.RESIDUAL), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refused(path, "is cut short at")


def test_every_prefix_of_a_file_is_refused_in_our_own_words(tmp_path: Path) -> None:
    path = models.saved(models.build(models.SHARED_WEIGHT), tmp_path)
    content = path.read_bytes()
    for length in range(len(content) - 1):
        path.write_bytes(content[:length])
        try:
            io.read(path)
        except ModelError:
            continue
        # Only the last fields (the opset) may be missing without harm to the structure.
        assert length > len(content) - 16


def changed(folder: Path, change: str) -> Path:
    """RESIDUAL with one thing wrong."""
    proto = models.build(models.RESIDUAL)
    graph = proto.graph
    if change == "no outputs":
        del graph.output[:]
    elif change == "training":
        proto.training_info.add()
    elif change == "sparse":
        sparse = graph.sparse_initializer.add()
        sparse.values.name = "s"
    elif change == "cycle":
        graph.node[1].input[0] = "s"
    elif change == "never produced":
        graph.node[2].input[0] = "nowhere"
    elif change == "output never produced":
        graph.output[0].name = "nowhere"
    elif change == "twice":
        graph.node[1].output[0] = "a"
    elif change == "initializer twice":
        graph.initializer.append(graph.initializer[0])
    elif change == "input twice":
        graph.input.append(graph.input[0])
    elif change == "no opset":
        del proto.opset_import[:]
    elif change == "future opset":
        proto.opset_import[0].version = 999
    elif change == "wrong bytes":
        graph.initializer[0].raw_data = b"1234"
    elif change == "wrong values":
        graph.initializer[0].ClearField("raw_data")
        graph.initializer[0].float_data.extend([1.0, 2.0])
    elif change == "nothing":
        graph.initializer[0].ClearField("raw_data")
    elif change == "absurd shape":
        graph.initializer[0].dims[0] = 10**12
    elif change == "negative dim":
        graph.initializer[0].dims[0] = -1
    elif change == "no type":
        graph.initializer[0].data_type = 999
    return models.saved(proto, folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("no outputs", "has a graph without outputs"),
        ("training", "holds 1 training graph"),
        ("sparse", "sparse initializer 's' cannot be read"),
        ("cycle", "holds a graph with a cycle"),
        ("never produced", r"node '' \(Conv\) reads 'nowhere', which nothing produces"),
        ("output never produced", "output 'nowhere' is produced by nothing"),
        ("twice", "value 'a' is defined twice"),
        ("initializer twice", "initializer 'w1' is defined twice"),
        ("input twice", "input 'x' is defined twice"),
        ("no opset", "does not say which ONNX opset"),
        ("future opset", "uses ONNX opset 999, and the installed onnx knows"),
        ("wrong bytes", r"tensor 'w1' holds 4 bytes, and FLOAT \[4, 3, 3, 3\] needs 432"),
        ("wrong values", r"tensor 'w1' holds 2 values, and FLOAT \[4, 3, 3, 3\] needs 108"),
        ("nothing", r"tensor 'w1' holds 0 values, and FLOAT \[4, 3, 3, 3\] needs 108"),
        ("absurd shape", r"tensor 'w1' holds 432 bytes, and FLOAT \[1000000000000, 3"),
        ("negative dim", "tensor 'w1' has data type 1 and shape .-1"),
        ("no type", "tensor 'w1' has data type 999"),
    ],
)  # fmt: skip
def test_a_graph_that_is_not_valid(tmp_path: Path, change: str, match: str) -> None:
    refused(changed(tmp_path, change), match)


def test_a_value_of_a_branch_is_not_seen_outside(tmp_path: Path) -> None:
    proto = models.build(models.SUBGRAPH)
    proto.graph.node.add(op_type="Relu", input=["t"], output=["z"])
    refused(models.saved(proto, tmp_path), "reads 't', which nothing produces")


def test_a_branch_that_reads_nothing_known_is_placed(tmp_path: Path) -> None:
    proto = models.build(models.SUBGRAPH)
    proto.graph.node[0].attribute[0].g.node[0].input[0] = "nowhere"
    refused(models.saved(proto, tmp_path), r"reads 'nowhere'.*\n.*node '' \(If\)")


# --- external data from anyone ---


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "a/../../secret.bin", ""])
def test_external_data_outside_the_folder_is_never_read(tmp_path: Path, location: str) -> None:
    refused(
        models.saved(external(tmp_path, location), tmp_path),
        "not a path inside the model's folder",
    )


def test_a_link_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = models.saved(external(tmp_path / "in", "link.bin"), tmp_path / "in")
    (tmp_path / "outside.bin").write_bytes((tmp_path / "in" / "w.bin").read_bytes())
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "outside.bin")

    refused(path, "a link that leaves the model's folder")


def test_a_hard_link_is_not_read(tmp_path: Path) -> None:
    path = models.saved(external(tmp_path), tmp_path)
    (tmp_path / "twin.bin").hardlink_to(tmp_path / "w.bin")

    refused(path, "a file with several hard links")


def test_missing_external_data(tmp_path: Path) -> None:
    path = models.saved(external(tmp_path), tmp_path)
    (tmp_path / "w.bin").unlink()

    refused(path, "external data of 'w2' is missing: there is no file 'w.bin' beside")


def test_short_external_data(tmp_path: Path) -> None:
    path = models.saved(external(tmp_path), tmp_path)
    (tmp_path / "w.bin").write_bytes(b"\0" * 100)

    refused(path, r"is bytes 0 to \+576 of a file of 100, and its shape \[4, 4, 3, 3\] needs 576")


@pytest.mark.parametrize(("key", "value"), [("offset", "-8"), ("offset", "x"), ("length", "4")])
def test_external_data_with_absurd_bounds(tmp_path: Path, key: str, value: str) -> None:
    proto = external(tmp_path)
    tensor = next(t for t in proto.graph.initializer if t.external_data)
    next(entry for entry in tensor.external_data if entry.key == key).value = value

    refused(models.saved(proto, tmp_path), "external data of 'w2' is bytes")


def test_external_data_of_an_attribute_is_checked_too(tmp_path: Path) -> None:
    proto = models.build(models.SUBGRAPH)
    tensor = proto.graph.node[0].attribute[1].g.node[0].attribute[0].t
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../k.bin")

    refused(models.saved(proto, tmp_path), "not a path inside the model's folder")


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    "dtype", ["INT4", "UINT4", "INT8", "BOOL", "FLOAT16", "DOUBLE", "COMPLEX64"]
)
@pytest.mark.parametrize("size", [0, 3])
def test_contents_of_every_width_are_read(
    tmp_path: Path, dtype: str, size: int, raw: bool
) -> None:
    number = onnx.TensorProto.DataType.Value(dtype)
    values = np.arange(size) % 2
    tensor = onnx.helper.make_tensor("w", number, [size], values)
    if raw:
        tensor = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), "w")
    proto = models.build("g () => (float[] y) { y = Cast <to = 1> (w) }")
    proto.graph.initializer.append(tensor)

    model = io.read(models.saved(proto, tmp_path))

    found = model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(found.astype(np.complex64), values)


def test_strings_are_counted(tmp_path: Path) -> None:
    proto = models.build("g () => (string[] y) { y = Identity (w) }")
    proto.graph.initializer.append(
        onnx.helper.make_tensor("w", onnx.TensorProto.STRING, [2], ["a", "b"])
    )
    assert io.read(models.saved(proto, tmp_path)).graph.initializers["w"].const_value.size == 2
    del proto.graph.initializer[0].string_data[1]
    refused(models.saved(proto, tmp_path), r"'w' holds 1 strings, and STRING \[2\] needs 2")


def test_weights_over_the_limit_go_to_a_file_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.read(models.RESIDUAL, tmp_path)
    monkeypatch.setattr(io, "LARGEST_FILE_BYTES", 1000)

    with pytest.raises(ModelError, match="the weights are 1124 bytes, and one ONNX file without"):
        io.serialized(model)
    io.write(model, tmp_path / "big.onnx")

    assert (tmp_path / "big.onnx.data").is_file()
    assert_same_weights(io.read(tmp_path / "big.onnx"), model)


def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    content = models.saved(models.build(models.SUBGRAPH), tmp_path).read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "m.onnx").write_bytes(bytes(damaged))
        try:
            io.read(tmp_path / "m.onnx")
            outcomes.add("read")
        except ModelError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
