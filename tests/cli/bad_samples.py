"""Samples, labels and metrics that do not fit the model."""

from __future__ import annotations

import numpy as np

from tests.cli.case import COMPRESS, Case
from tests.cli.place import SAMPLES, Place
from tests.models import Array

X = np.random.default_rng(1).standard_normal((SAMPLES, 1, 8)).astype(np.float32)
LABELS = np.zeros(SAMPLES, np.int64)
TWO_INPUTS = "g (float[N,8] x, float[N,8] z) => (float[N,8] y) { y = Add (x, z) }"


def _arrays(name: str, says: str, code: int = 5, **arrays: Array) -> Case:
    return Case(name, code, says, lambda place: np.savez(place.data, **arrays))


def _one_nan(place: Place) -> None:
    x = X.copy()
    x[3, 0, 5] = np.nan
    np.savez(place.data, x=x)


def _objects(place: Place) -> None:
    objects = np.empty(2, object)
    objects[:] = [X[0], "text"]
    np.savez(place.data, allow_pickle=True, x=objects)


def _half(place: Place) -> None:
    content = place.data.read_bytes()
    place.data.write_bytes(content[: len(content) // 2])


def _two_inputs(place: Place) -> None:
    from tests.models import build

    place.model.write_bytes(build(TWO_INPUTS).SerializeToString())
    np.savez(place.data, x=X, z=X[:7])


def _labels(place: Place) -> None:
    np.save(place.folder / "labels.npy", LABELS[:9])


def _module(place: Place, text: str) -> None:
    # Each test has a folder of its own, and a module is imported once: hence a name per text.
    (place.folder / f"loader_{len(text)}.py").write_text(text)


RAISING = "def feeds():\n    raise KeyError('image')\n"
NO_FUNCTION = "samples = 3\n"
NO_FEEDS = "def feeds():\n    return 12345\n"


def _loader(name: str, text: str, says: str) -> Case:
    source = f"loader_{len(text)}:feeds"
    arguments = ("compress", "model.onnx", "--data", source, "-o", "out/small.onnx")
    return Case(name, 5, says, lambda place: _module(place, text), arguments)


CASES = [
    Case("data missing", 5, r"no samples at data\.npz", lambda place: place.data.unlink()),
    Case("text named .npz", 5, "no .npz archive", lambda place: place.data.write_text("a,b\n")),
    Case("npz cut short", 5, "damaged", _half),
    Case("pickled objects", 5, "pickled Python objects", _objects),
    _arrays("input missing", "'x' is missing", labels=LABELS),
    _arrays("name misspelt", "'xs' is no input of the model", xs=X),
    _arrays("name unknown beside", "'other' is no input", x=X, other=X),
    _arrays("dtype", "'x' is int64, and the model needs float32", x=X.astype(np.int64)),
    _arrays("complex numbers", "'x' is complex64", x=X.astype(np.complex64)),
    _arrays("booleans", "'x' is bool, and the model needs float32", x=X > 0),
    _arrays("words", "'x' is <U1, and the model needs float32", x=np.full(X.shape, "a")),
    _arrays("one sample not stacked", r"rank 1, shape \[8\]", x=X[0, 0]),
    Case(
        "samples are a table of text",
        5,
        r"rows\.csv is no \.npz archive",
        lambda place: (place.folder / "rows.csv").write_text("1,2,3\n"),
        (*COMPRESS[:3], "rows.csv", *COMPRESS[4:]),
    ),
    Case(
        "samples are an empty folder",
        5,
        "empty holds no samples",
        lambda place: (place.folder / "empty").mkdir(),
        (*COMPRESS[:3], "empty", *COMPRESS[4:]),
    ),
    _arrays("rank", "rank", x=X[..., None, None]),
    _arrays("fixed dimension", "size 7 on axis 1.* needs 8", x=X[..., :7]),
    _arrays("no samples", "holds 0 samples", x=X[:0]),
    _arrays("one sample", "1 sample.* cannot be split", x=X[:1]),
    _arrays("labels of another length", "9 labels and 40 samples", x=X, labels=LABELS[:9]),
    _arrays("double beyond float32", "float64, and 8 of 8", x=np.full((SAMPLES, 1, 8), 1e300)),
    Case("NaN", 5, "'x' holds NaN or infinity in 1 of 8 values", _one_nan),
    Case("unequal counts", 5, r"40.*7|7.*40", _two_inputs),
    Case(
        "labels file of another length",
        5,
        "9 labels and 40 samples",
        _labels,
        (*COMPRESS, "--labels", "labels.npy"),
    ),
    Case(
        "labels missing",
        5,
        r"no labels at gone\.npy",
        arguments=(*COMPRESS, "--labels", "gone.npy"),
    ),
    Case(
        "accuracy without labels",
        5,
        "accuracy.*label|label.*accuracy",
        lambda place: np.savez(place.data, x=X),
        (*COMPRESS, "--metric", "accuracy"),
    ),
    Case(
        "metric unknown",
        5,
        "no metric 'f2'",
        arguments=(*COMPRESS, "--metric", "f2"),
    ),
    Case(
        "metric not importable",
        5,
        "'no_such_module_here:score' cannot be imported",
        arguments=(*COMPRESS, "--metric", "no_such_module_here:score"),
    ),
    Case(
        "metric is no function",
        5,
        "'math:pi' is a float, and cannot be called",
        arguments=(*COMPRESS, "--metric", "math:pi"),
    ),
    Case(
        "loader module missing",
        5,
        "no_such_module_here cannot be imported",
        arguments=(*COMPRESS[:3], "no_such_module_here:feeds", *COMPRESS[4:]),
    ),
    _loader("loader without the function", NO_FUNCTION, "has no 'feeds'"),
    _loader("loader raises", RAISING, "failed with KeyError: 'image'"),
    _loader("loader returns a number", NO_FEEDS, "returned a int, and feeds are needed"),
    Case(
        "evaluated on the calibration samples",
        5,
        "the same samples",
        arguments=(*COMPRESS, "--eval", "data.npz"),
    ),
    Case(
        "labels without samples",
        5,
        "labels were given without",
        arguments=("compress", "model.onnx", "-o", "out/small.onnx", "--labels", "data.npz"),
    ),
    Case(
        "validate on a missing file",
        5,
        r"no samples at gone\.npz",
        arguments=("validate", "model.onnx", "model.onnx", "--data", "gone.npz"),
    ),
]
