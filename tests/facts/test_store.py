from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest

from onnxsqueeze.facts.store import Store

KEY = {"model": "ab12", "seed": 0, "data": None}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "facts")


def test_what_was_put_is_found_again(store):
    saved = store.put("ranges", KEY, {"count": 3, "names": ["a"]}, {"low": np.arange(3.0)})
    found = Store(store.folder).get("ranges", KEY)
    for fact in (saved, found):
        assert fact.values == {"count": 3, "names": ["a"]}
        assert list(fact.arrays) == ["low"]
        np.testing.assert_array_equal(fact.arrays["low"], [0.0, 1.0, 2.0])


def test_a_record_without_arrays_has_none(store):
    assert dict(store.put("shapes", KEY, {"x": [1, 2]}).arrays) == {}


def test_infinite_and_missing_numbers_come_back(store):
    values = store.put("damage", KEY, {"w": float("inf"), "v": None}).values
    assert values == {"w": float("inf"), "v": None}


@pytest.mark.parametrize(
    "other",
    [
        {**KEY, "seed": 1},
        {**KEY, "seed": "0"},
        {**KEY, "seed": False},
        {**KEY, "data": ""},
        {"model": "ab12", "seed": 0},
        {**KEY, "more": None},
    ],
)
def test_only_an_equal_key_finds_a_record(store, other):
    store.put("ranges", KEY, {})
    assert store.get("ranges", other) is None
    assert store.get("ranges", dict(reversed(KEY.items()))) is not None
    assert store.get("grams", KEY) is None


def test_a_record_replaces_the_older_one_as_a_whole(store):
    store.put("ranges", KEY, {"count": 1}, {"low": np.zeros(2)})
    store.put("ranges", KEY, {"other": 2})
    found = store.get("ranges", KEY)
    assert (found.values, dict(found.arrays)) == ({"other": 2}, {})
    assert len(list(store.folder.iterdir())) == 1


def test_a_fact_in_hand_outlives_its_replacement(store):
    old = store.put("grams", KEY, {}, {"g": np.ones(4)})
    store.put("grams", KEY, {}, {"g": np.zeros(4)})
    np.testing.assert_array_equal(old.arrays["g"], np.ones(4))


def test_arrays_are_read_when_asked_for(store):
    store.put("grams", KEY, {}, {"a": np.zeros(2**20), "b": np.ones(2**20)})
    tracemalloc.start()
    fact = store.get("grams", KEY)
    tracemalloc.reset_peak()
    opened = tracemalloc.get_traced_memory()[1]
    fact.arrays["b"]
    one = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert opened < 2**20
    assert 2**23 <= one < 1.5 * 2**23  # one of the two arrays of 8 MiB


def fail(*_args, **_keywords):
    raise OSError("the disk is full")


def test_a_failed_write_keeps_the_older_record(store, monkeypatch):
    store.put("ranges", KEY, {"count": 1}, {"low": np.zeros(2)})
    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="the disk is full"):
        store.put("ranges", KEY, {"count": 2}, {"low": np.ones(2)})
    assert store.get("ranges", KEY).values == {"count": 1}


def test_a_process_killed_half_way_leaves_no_record(store):
    script = f"""
        import os, signal
        from pathlib import Path
        import numpy as np
        from onnxsqueeze.facts.store import Store

        class Killer:
            def __array__(self, dtype=None, copy=None):
                os._exit(9)

        arrays = {{"a": np.zeros(1000), "b": Killer()}}
        Store(Path({str(store.folder)!r})).put("ranges", {KEY!r}, {{}}, arrays)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=False, env=dict(os.environ)
    )
    assert ended.returncode == 9
    assert [path.suffix for path in store.folder.iterdir()] == [".part"]
    assert store.get("ranges", KEY) is None
    store.put("ranges", KEY, {"count": 1})
    assert [path.suffix for path in store.folder.iterdir()] == [""]


@pytest.mark.parametrize("name", ["record.json", "arrays.npz"])
@pytest.mark.parametrize("kept", [0, 20])
def test_a_file_that_ends_early_is_no_record(store, name, kept):
    store.put("grams", KEY, {"count": 1}, {"g": np.ones(4)})
    (place,) = store.folder.iterdir()
    (place / name).write_bytes((place / name).read_bytes()[:kept])
    assert store.get("grams", KEY) is None
    assert store.put("grams", KEY, {"count": 2}).values == {"count": 2}
