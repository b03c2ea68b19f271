from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxsqueeze.errors import ModelError
from onnxsqueeze.graph import edit, io, sparse, walk
from onnxsqueeze.runtime import ort
from tests import models
from tests.runtime.made import made, random, run

TEXT = """
g (float[N,32] x) => (float[N,24] y) <float[32,24] w, float[24] b> {
  h = MatMul (x, w)
  y = Add (h, b)
}"""


def thinned(zeros: float) -> np.ndarray:
    w = random(32, 24)
    w.ravel()[: int(zeros * w.size)] = 0
    return w


def marked(zeros: float, *names: str):
    model = made(TEXT, w=thinned(zeros))
    for _, value in walk.initializers(model):
        if value.name in names:
            sparse.mark(value)
    return model


def test_a_marked_initializer_is_written_sparsely_and_read_back(tmp_path: Path) -> None:
    model, path, again = marked(0.9, "w"), tmp_path / "a.onnx", tmp_path / "b.onnx"
    io.write(model, path)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=False)
    (one,) = proto.graph.sparse_initializer
    assert (one.values.name, list(one.dims)) == ("w", [32, 24])
    assert [tensor.name for tensor in proto.graph.initializer] == ["b"]
    feed = {"x": random(5, 32, seed=3)}
    expected = run(model, feed)["y"]
    np.testing.assert_array_equal(ort.run(ort.session(path), feed)["y"], expected)
    back = io.read(path)
    assert sparse.marked(back) == {"w"}
    np.testing.assert_array_equal(run(back, feed)["y"], expected)
    io.write(back, again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("zeros", "is_sparse"), [(0.6, False), (0.66, False), (0.68, True)])
def test_it_stays_dense_where_indices_take_more_than_zeros(
    tmp_path: Path, zeros: float, is_sparse: bool
) -> None:
    path = tmp_path / "a.onnx"
    io.write(marked(zeros, "w"), path)
    assert len(onnx.load(path).graph.sparse_initializer) == is_sparse


def test_without_a_mark_and_beside_external_data_it_stays_dense(tmp_path: Path) -> None:
    io.write(marked(0.9), tmp_path / "a.onnx")
    io.write(marked(0.9, "w"), tmp_path / "b.onnx", external=True)
    for name in ("a.onnx", "b.onnx"):
        assert not onnx.load(tmp_path / name).graph.sparse_initializer
        np.testing.assert_array_equal(
            io.read(tmp_path / name).graph.initializers["w"].const_value.numpy(), thinned(0.9)
        )


def test_all_zeros_stay_dense(tmp_path: Path) -> None:
    model = marked(0.9, "w")
    edit.set_value(model.graph.initializers["w"], np.zeros((32, 24), np.float32))
    io.write(model, tmp_path / "a.onnx")
    assert not onnx.load(tmp_path / "a.onnx").graph.sparse_initializer


def foreign(folder: Path, values: np.ndarray, places: np.ndarray, dims: list[int]) -> Path:
    """A file whose w is a sparse initializer, as someone else wrote it."""
    proto = models.build(TEXT)
    dense = [tensor for tensor in proto.graph.initializer if tensor.name != "w"]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(dense)
    one = proto.graph.sparse_initializer.add()
    one.values.CopyFrom(numpy_helper.from_array(values, "w"))
    one.indices.CopyFrom(numpy_helper.from_array(places))
    one.dims.extend(dims)
    return models.saved(proto, folder)


@pytest.mark.parametrize("kind", [np.int64, np.int32])
@pytest.mark.parametrize("by_axis", [False, True])
def test_other_spellings_are_read(tmp_path: Path, kind: type, by_axis: bool) -> None:
    w = thinned(0.9)
    places = np.flatnonzero(w)
    values = w.ravel()[places]
    if by_axis:
        places = np.stack(np.unravel_index(places, w.shape), axis=1)
    model = io.read(foreign(tmp_path, values, places.astype(kind), [32, 24]))
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), w)


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("values", "places", "dims", "match"),
    [
        (ONE, np.array([768]), [32, 24], "an index lies outside of shape .32, 24."),
        (ONE, np.array([-1]), [32, 24], "an index lies outside"),
        (ONE, np.array([[0, 24]]), [32, 24], "cannot be read"),
        (ONE, np.array([[0, 0, 0]]), [32, 24], "indices .1, 3. are not for shape"),
        (ONE, np.array([1, 2]), [32, 24], "1 values have 2 indices"),
        (ONE, np.array([0]), [10**12, 24], "shape .1000000000000, 24. cannot be dense"),
        (ONE, np.array([0]), [-32, 24], "cannot be dense"),
    ],
)
def test_a_malformed_one_is_refused(
    tmp_path: Path, values: np.ndarray, places: np.ndarray, dims: list[int], match: str
) -> None:
    with pytest.raises(ModelError, match="sparse initializer 'w' cannot be read") as raised:
        io.read(foreign(tmp_path, values, places, dims))
    assert raised.match(match)
