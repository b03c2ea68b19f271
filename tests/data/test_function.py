from __future__ import annotations

import gc
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onnxsqueeze.data import open_samples
from onnxsqueeze.errors import DataError
from onnxsqueeze.graph.signature import InputSpec

SPECS = (InputSpec("x", np.dtype("float32"), ("N", 2)),)
CODE = """
import numpy as np

def feed(k):
    return {"x": np.full((1, 2), k, np.float32)}

def listed():
    return [(feed(0), 5), (feed(1), 6)]

def streamed():
    for k in range(4):
        yield feed(k), k * 10

def endless():
    k = 0
    while True:
        yield feed(k)
        k += 1

def stacked():
    return {"x": np.zeros((3, 1, 2), np.float32)}

class Source:
    def feeds(self):
        return [feed(9)]

source = Source()

def number():
    return 7

def lists():
    yield feed(0)
    yield [1, 2]

def half_labelled():
    yield feed(0), 1
    yield feed(1)

def raising():
    raise KeyError("no such table")

def breaking():
    yield feed(0)
    raise OSError("disk went away")

def wrong():
    while True:
        yield {"x": np.zeros((1, 3), np.float32)}

def nothing():
    return []

constant = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "users_samples.py").write_text(CODE)
    (tmp_path / "users_broken.py").write_text("import no_such_package_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = list(sys.path)
    yield "users_samples"
    assert sys.path == before
    sys.modules.pop("users_samples", None)


def firsts(source: object, **options: object) -> list[float]:
    samples = open_samples(source, SPECS, **options)  # type: ignore[arg-type]
    assert [float(f["x"][0, 0]) for f in samples] == [float(f["x"][0, 0]) for f in samples]
    return [float(feed["x"][0, 0]) for feed in samples]


def refused(source: object) -> str:
    with pytest.raises(DataError) as caught:
        open_samples(source, SPECS)  # type: ignore[arg-type]
    return str(caught.value)


def test_function_in_the_current_folder(module: str) -> None:
    assert firsts(f"{module}:listed") == [0, 1]
    assert firsts(f"{module}:streamed") == [0, 1, 2, 3]
    assert firsts(f"{module}:stacked") == [0, 0, 0]
    assert firsts(f"{module}:source.feeds") == [9]
    assert open_samples(f"{module}:streamed", SPECS).source == f"{module}:streamed"


def test_labels_come_with_the_feeds(module: str) -> None:
    for name, expected in (("listed", [5, 6]), ("streamed", [0, 10, 20, 30])):
        labels = open_samples(f"{module}:{name}", SPECS).labels
        assert labels is not None
        assert labels.tolist() == expected


def test_limit_stops_an_endless_stream_and_its_labels(module: str) -> None:
    samples = open_samples(f"{module}:endless", SPECS, limit=3, labels=np.arange(100))

    assert [float(feed["x"][0, 0]) for feed in samples] == [0, 1, 2]
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "first_line"),
    [
        ("number", "users_samples:number returned a int, and feeds are needed"),
        ("constant", "users_samples:constant is a int and cannot be called"),
        ("absent", "users_samples has no 'absent'"),
        ("raising", "users_samples:raising failed with KeyError: 'no such table'"),
        (
            "breaking",
            "users_samples:breaking failed at sample 1 with OSError: disk went away",
        ),
        ("lists", "sample 1 is a list, and a mapping from input name to array is needed"),
        ("half_labelled", "1 of 2 samples have a label, or labels differ in shape"),
        ("wrong", "input 'x' has size 3 on axis 1, shape [1, 3], and the model needs 2"),
        ("nothing", "users_samples:nothing holds 0 samples, at least 1 is needed"),
    ],
)
def test_refusals(module: str, name: str, first_line: str) -> None:
    assert refused(f"{module}:{name}").split("\n")[0] == first_line


@pytest.mark.usefixtures("module")
def test_module_that_cannot_be_imported_is_refused() -> None:
    assert refused("users_absent:f").startswith(
        "users_absent cannot be imported: ModuleNotFoundError: No module named 'users_absent'\n"
    )
    assert "no_such_package_at_all" in refused("users_broken:f")


def test_stream_is_spooled_once_and_the_folder_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = itertools.count()

    def stream() -> Iterator[dict[str, np.ndarray]]:
        for k in range(3):
            next(made)
            yield {"x": np.full((1, 2), k, np.float32)}

    samples = open_samples(stream(), SPECS)

    assert [float(feed["x"][0, 0]) for feed in samples] == [0, 1, 2]
    assert [float(feed["x"][0, 1]) for feed in samples] == [0, 1, 2]
    assert next(made) == 3
    assert len(list(tmp_path.iterdir())) == 1
    del samples
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_list_of_feeds_of_several_shapes() -> None:
    feeds = [{"x": np.full((n, 2), n, np.float32)} for n in (1, 3)]

    samples = open_samples(feeds, SPECS)

    assert [feed["x"].shape for feed in samples] == [(1, 2), (3, 2)]
    assert samples.fingerprint == open_samples(iter(feeds), SPECS).fingerprint


def test_any_input_name_and_text_can_be_spooled() -> None:
    specs = (
        InputSpec("file", np.dtype("float32"), (1,)),
        InputSpec("a/b:0", np.dtype(object), ("N",)),
    )
    feed = {"file": np.ones(1, np.float32), "a/b:0": np.array(["x", "yz"], object)}

    (sample,) = open_samples(iter([feed]), specs)

    assert sample["a/b:0"].tolist() == ["x", "yz"]
    assert sample["file"].tolist() == [1]


@pytest.mark.filterwarnings("error")
def test_bfloat16_survives_the_spool() -> None:
    import ml_dtypes

    specs = (InputSpec("x", np.dtype(ml_dtypes.bfloat16), (1, 2)),)
    value = np.array([[1.5, -2]], ml_dtypes.bfloat16)

    (sample,) = open_samples(iter([{"x": value}]), specs)

    assert sample["x"].dtype == ml_dtypes.bfloat16
    assert sample["x"].astype(np.float32).tolist() == [[1.5, -2]]
