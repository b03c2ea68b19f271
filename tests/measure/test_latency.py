from __future__ import annotations

import pytest

from onnxsqueeze.errors import DataError
from onnxsqueeze.measure import latency as module
from onnxsqueeze.measure.latency import latency, noise_floor, verdict
from onnxsqueeze.numerics.statistics import Estimate, median_interval
from tests.measure.pairs import LINEAR, samples, saved

FEEDS = [[[float(i), 1.0]] for i in range(20)]


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.01)


@pytest.mark.parametrize("threads", [1, 2])
def test_times_are_paired_and_the_verdict_is_by_the_right_clock(tmp_path, threads):
    path = saved(tmp_path, "a", LINEAR)

    found = latency(path, path, samples(LINEAR, FEEDS), threads=threads)

    lists = (found.original_ms, found.result_ms, found.original_wall_ms, found.result_wall_ms)
    assert [len(times) for times in lists] == [15] * 4
    assert min(map(min, lists)) > 0
    before, after = lists[:2] if threads == 1 else lists[2:]
    expected = median_interval([a / b for a, b in zip(before, after, strict=True)])
    assert tuple(found.speedup.model_dump().values()) == expected
    assert found.threads == threads


def test_time_limit_leaves_three_pairs(tmp_path):
    path = saved(tmp_path, "a", LINEAR)

    found = latency(path, path, samples(LINEAR, FEEDS), seconds=0.0)

    assert len(found.original_ms) == 3


def test_order_and_feeds_take_turns(tmp_path, monkeypatch):
    calls = []

    def noted(session, feed, repeats):
        calls.append((session, float(feed["x"][0, 0]), repeats))
        return 1.0, 2.0

    monkeypatch.setattr(module, "_timed", noted)
    path = saved(tmp_path, "a", LINEAR)

    found = latency(path, path, samples(LINEAR, FEEDS), pairs=16)

    original = calls[0][0]
    order = [session is original for session, _, _ in calls]
    assert order[:4] == [True, False, False, True]
    # 8 of 20 samples, and the second time that one comes the order is the other.
    feeds = [feed for _, feed, _ in calls]
    assert feeds[::2] == feeds[1::2] == [0, 2, 5, 7, 10, 12, 15, 17] * 2
    assert all(a != b for a, b in zip(order[:16], order[16:], strict=True))
    assert (found.speedup.value, found.verdict) == (1.0, "same")


def test_a_fast_model_is_repeated_until_the_pairs_last_long_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_warmed", lambda _made, feeds, _end: (feeds, 0.0001))
    seen = []
    monkeypatch.setattr(
        module, "_timed", lambda _s, _f, repeats: seen.append(repeats) or (1.0, 1.0)
    )
    path = saved(tmp_path, "a", LINEAR)

    latency(path, path, samples(LINEAR, FEEDS[:1]), pairs=10)

    assert set(seen) == {10}  # 10 pairs of 0.1 ms, ten times, are the 10 ms asked for


@pytest.mark.parametrize(
    ("cpu", "threads", "speedup"), [(1.0, 1, 1.0), (0.0, 1, 2.0), (1.0, 2, 2.0)]
)
def test_wall_time_decides_where_thread_time_says_nothing(
    tmp_path, monkeypatch, cpu, threads, speedup
):
    """The original is given twice the wall time of the result, and the same thread time."""
    sessions = []

    def given(session, _feed, _repeats):
        if session not in sessions:
            sessions.append(session)
        return cpu, 2.0 if sessions.index(session) == 1 else 4.0

    monkeypatch.setattr(module, "_timed", given)
    path = saved(tmp_path, "a", LINEAR)

    found = latency(path, path, samples(LINEAR, FEEDS), threads=threads)

    assert found.speedup.value == speedup
    assert found.again_ms == ((4.0,) * 15 if threads > 1 else ())
    assert found.verdict == ("faster" if speedup > 1 else "same")


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        ((1.0, 1.0, 1.0), "same"),
        ((1.029, 1.02, 1.04), "same"),
        ((0.972, 0.97, 0.98), "same"),
        ((1.5, 0.99, 1.6), "same"),
        ((1.031, 1.01, 1.04), "faster"),
        ((0.9, 0.8, 0.95), "slower"),
    ],
)
def test_verdict(estimate, expected):
    assert verdict(Estimate(*estimate)) == expected


def test_refusals(tmp_path):
    path, given = saved(tmp_path, "a", LINEAR), samples(LINEAR, FEEDS)
    with pytest.raises(DataError, match="latency needs samples, and there are 0"):
        latency(path, path, given[:0])
    with pytest.raises(ValueError, match="pairs must be at least 3, not 2"):
        latency(path, path, given, pairs=2)


def test_what_the_original_differs_from_itself_is_no_difference(tmp_path, monkeypatch):
    """The result takes 0.8 of the original's wall time, and so does the original, once more."""
    sessions = []

    def given(session, _feed, _repeats):
        if session not in sessions:
            sessions.append(session)
        return 1.0, 4.0 if sessions.index(session) == 0 else 3.2

    monkeypatch.setattr(module, "_timed", given)
    path = saved(tmp_path, "a", LINEAR)

    found = latency(path, path, samples(LINEAR, FEEDS), threads=2)

    assert found.speedup.value == pytest.approx(1.25)
    assert found.noise_floor == pytest.approx(0.25)
    assert found.verdict == "same"


@pytest.mark.parametrize(
    ("interval", "floor"),
    [((1.0, 1.0, 1.0), 0.03), ((1.0, 0.9, 1.05), 0.1), ((1.1, 1.08, 1.2), 0.2)],
)
def test_noise_floor_is_the_far_end(interval, floor):
    assert noise_floor(Estimate(*interval)) == pytest.approx(floor)
