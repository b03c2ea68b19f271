"""The parts of tools/bench that need no model: metrics, cases, table, limits."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from benchmark import build, compare, methods, metrics, table, watch
from benchmark.cases import CaseError, Stored, cases_in, read_samples, write_case
from benchmark.cli import main

GB = 1e9
FEED = {"x": np.arange(24, dtype=np.float32).reshape(4, 1, 6)}


def case_folder(folder: Path) -> Path:
    source = folder / "source.onnx"
    source.write_bytes(b"model")
    labels = {"y": np.array([1, 2, 3, 4])}
    target = folder / "cases" / "tiny"
    write_case(target, source, FEED, FEED, labels, {"kind": "acc", "metric": "accuracy"})
    return target


# Metrics


@pytest.mark.parametrize(
    ("indices", "word"),
    [
        ([], ""),
        ([0, 0, 0], ""),
        ([1, 1, 1], "a"),
        ([1, 0, 1], "aa"),
        ([0, 1, 2, 2, 0, 2, 3], "abb"),
    ],
)
def test_word_is_read_with_repeats_merged_and_blanks_dropped(
    indices: list[int], word: str
) -> None:
    assert metrics.read_word(np.array(indices, np.int64), ["", "a", "b", " "]) == word


def test_accuracy_counts_the_largest_logit() -> None:
    logits = [np.array([[0.0, 2.0, 1.0]]), np.array([[3.0, 2.0, 1.0]])]
    found = [metrics.REDUCE["acc"](output) for output in logits]
    hits = metrics.hits("acc", found, found, {"y": np.array([1, 2, 0])})
    assert hits.tolist() == [1, 0]


def test_words_are_compared_whole() -> None:
    probabilities = np.eye(3, dtype=np.float32)[None, [1, 1, 0, 2]]
    found = [metrics.REDUCE["ocr"](probabilities)] * 2
    hits = metrics.hits("ocr", found, found, {"words": np.array(["ab", "a"])}, ["", "a", "b"])
    assert hits.tolist() == [1, 0]


def test_retrieval_pairs_first_half_with_second() -> None:
    rows = [np.array(row, np.float32) for row in ([1, 0], [0, 1], [1, 0], [0.5, -1])]
    assert metrics.hits("retrieval", rows, rows, {}).tolist() == [1, 0]


def test_mask_is_intersection_over_union_and_one_where_both_are_empty() -> None:
    reduce = metrics.REDUCE["mask"]
    found = [reduce(np.array([[0.9, 0.9], [0.1, 0.1]])), reduce(np.zeros((2, 2)))]
    reference = [reduce(np.array([[0.9, 0.1], [0.9, 0.1]])), reduce(np.zeros((2, 2)))]
    assert metrics.hits("mask", found, reference, {}) == pytest.approx([1 / 3, 1])


def test_probability_agrees_on_the_same_side_of_a_half() -> None:
    reduce = metrics.REDUCE["prob"]
    found = [reduce(np.array([[0.51]])), reduce(np.array([[0.49]]))]
    reference = [reduce(np.array([[0.99]])), reduce(np.array([[0.99]]))]
    assert metrics.hits("prob", found, reference, {}).tolist() == [1, 0]


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no metric of kind 'bleu'"):
        metrics.hits("bleu", [], [], {})


def test_difference_has_the_paired_standard_error() -> None:
    found = metrics.difference(np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0]))
    # Differences 0, -1, 0, 0: variance 1/4 over n - 1, standard error sqrt(1/4 / 4).
    assert found == pytest.approx((0.75, 1.0, 0.25))
    assert metrics.difference(np.ones(3), np.ones(3)).standard_error == 0
    assert metrics.difference(np.ones(1), np.zeros(1)).standard_error == 0


def test_sqnr_is_that_of_all_samples_together() -> None:
    energies = metrics.Energies()
    assert energies.add(np.ones(2), np.ones(2)).sqnr_db() == math.inf
    for reference in (np.array([3.0, 0.0]), np.array([1.0, 0.0])):
        energies = energies.add(reference + np.array([0.0, 0.1]), reference)
    # Signal 9 + 1, noise 2 · 0.01.
    assert energies.sqnr_db() == pytest.approx(10 * math.log10(10 / 0.02))
    assert metrics.Energies(signal=0, noise=1).sqnr_db() == -math.inf


# Cases


def test_samples_of_an_uncompressed_file_are_read_one_by_one(tmp_path: Path) -> None:
    samples = read_samples(case_folder(tmp_path) / "eval.npz")
    assert isinstance(samples.arrays["x"], Stored)
    assert len(samples) == 4
    for index, feed in enumerate(samples):
        np.testing.assert_array_equal(feed["x"], FEED["x"][index])
    with pytest.raises(IndexError):
        samples[4]


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3).T, np.arange(3), np.array(["a"])])
def test_samples_of_any_array_come_as_they_were(tmp_path: Path, array: np.ndarray) -> None:
    np.savez(tmp_path / "plain.npz", x=array)
    np.savez_compressed(tmp_path / "packed.npz", x=array)
    for name in ("plain", "packed"):
        found = [feed["x"] for feed in read_samples(tmp_path / f"{name}.npz")]
        np.testing.assert_array_equal(np.array(found), array)


def test_case_is_written_again_whole(tmp_path: Path) -> None:
    folder = case_folder(tmp_path)
    (folder / "stale").touch()
    case_folder(tmp_path)
    assert not (folder / "stale").exists()
    (case,) = cases_in(tmp_path / "cases", [])
    assert (case.name, case.kind, case.metric) == ("tiny", "acc", "accuracy")
    assert case.labels()["y"].tolist() == [1, 2, 3, 4]


def test_what_is_no_case_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no case in"):
        cases_in(tmp_path, [])
    with pytest.raises(CaseError, match=r"other is no case: model\.onnx, calib\.npz"):
        cases_in(tmp_path, ["other"])


def test_magika_sees_the_file_from_its_first_and_to_its_last_letter() -> None:
    settings = {"beg_size": 4, "end_size": 4, "padding_token": 256, "block_size": 4096}
    assert build.magika_features(b"  abcdef\n", settings) == [*b"abcd", *b"cdef"]
    assert build.magika_features(b" ab ", settings) == [*b"ab ", 256, 256, *b" ab"]


# Methods and limits


def test_command_lines_name_program_case_and_result(tmp_path: Path) -> None:
    (case,) = cases_in(case_folder(tmp_path).parent, [])
    ours = methods.command("ours latency", case, tmp_path / "out.onnx")
    assert ours[1:3] == ["compress", str(case.model)]
    assert ours[-9:] == [
        *("--max-drop", "1%", "--objective", "latency"),
        *("--run", str(tmp_path / "out.squeeze")),
        *("-o", str(tmp_path / "out.onnx"), "--json"),
    ]
    theirs = methods.command("ort dynamic", case, tmp_path / "out.onnx")
    assert theirs[1:4] == ["-m", "benchmark.methods", "ort dynamic"]


def python(code: str, log: Path, seconds: float = 30, memory: float = 2 * GB) -> watch.Outcome:
    command = [sys.executable, "-c", code]
    return watch.run(command, time_limit_s=seconds, memory_limit_bytes=memory, log=log)


def test_outcome_has_output_memory_and_no_reason(tmp_path: Path) -> None:
    held = 200_000_000
    found = python(f"x = b'1' * {held}; print('done')", tmp_path / "log")
    assert (found.exit_code, found.reason, found.output) == (0, "", "done\n")
    assert found.peak_bytes > held


def test_what_a_command_leaves_behind_is_removed(tmp_path: Path) -> None:
    code = "import pathlib; pathlib.Path('left').touch(); print(pathlib.Path('left').absolute())"
    left = Path(python(code, tmp_path / "log").output.strip())
    assert left.name == "left"
    assert not left.parent.exists()


def test_failure_has_the_last_line_of_its_error(tmp_path: Path) -> None:
    found = python("import sys; print('a\\nb\\n', file=sys.stderr); sys.exit(3)", tmp_path / "log")
    assert (found.exit_code, found.reason) == (3, "b")
    assert python("raise SystemExit(4)", tmp_path / "log").reason == "exit code 4"
    killed = python("import os; os.kill(os.getpid(), 15)", tmp_path / "log")
    assert (killed.exit_code, killed.reason) == (-15, "ended by signal 15")


def test_command_over_its_time_is_ended(tmp_path: Path) -> None:
    found = python("import time; time.sleep(60)", tmp_path / "log", seconds=0.3)
    assert found.reason == "over 0.3 s"
    assert found.seconds < 30


def test_command_over_its_memory_is_ended_children_counted(tmp_path: Path) -> None:
    hold = "x = b'1' * 400_000_000; import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    found = python(code, tmp_path / "log", memory=0.3 * GB)
    assert found.reason == "over 0.3 GB of memory"
    assert found.peak_bytes > 0.3 * GB


def test_what_an_earlier_run_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "ours.squeeze" / "facts").mkdir(parents=True)
    for name in ("ours.onnx", "ours.score.log", "ours_too.onnx"):
        (tmp_path / name).touch()
    compare.clear(tmp_path, "ours")
    assert [path.name for path in tmp_path.iterdir()] == ["ours_too.onnx"]


def test_json_is_the_last_line_that_is_some() -> None:
    assert compare.last_json('noise\n{"a": 1}\n{"a": 2}\nmore\n') == {"a": 2}
    assert compare.last_json("noise\n") == {}


# Table


SCORED = {
    "metric": 0.75, "metric_float": 0.8, "metric_se": 0.01, "sqnr_db": 20.04, "size_ratio": 3.999,
    "speed": 1.005, "compress_s": 61.4, "peak_bytes": 1_234_000_000, "reason": "",
}  # fmt: skip
FAILED = {"compress_s": 600.2, "peak_bytes": 2e6, "reason": "over | 600\ns"}


def test_table_shows_the_newest_record_of_each_case_and_method() -> None:
    records = [
        {"case": "a", "method": "x", **FAILED},
        {"case": "b", "method": "x", **SCORED, "sqnr_db": math.inf, "reason": "budget not met"},
        {"case": "a", "method": "y", **FAILED},
        {"case": "a", "method": "x", **SCORED},
    ]
    assert table.table(records).splitlines()[2:] == [
        "| a (0.8000) | x | 0.7500 ± 0.0100 | 20.0 | 4.00 | 1.00 | 61 | 1234 |",
        "| a (0.8000) | y | failed: over \\| 600 s | – | – | – | 600 | 2 |",
        "| b (0.8000) | x | 0.7500 ± 0.0100 (budget not met) | ∞ | 4.00 | 1.00 | 61 | 1234 |",
    ]


def test_table_has_as_many_cells_in_every_line() -> None:
    lines = table.table([{"case": "a", "method": "x", **SCORED}]).splitlines()
    assert {line.count("|") for line in lines} == {9}


def test_table_command_reads_what_run_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.dumps({"case": "a", "method": "x", **SCORED})
    (tmp_path / "results.jsonl").write_text(f"{record}\n\n", "utf-8")
    assert main(["table", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("\n") == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table", "--out", "{}"], "error: no results in"),
        (["fetch", "nothing", "--cache", "{}"], "error: no case named nothing; there are ocr_rec"),
        (["run", "--cases-from", "{}"], "error: no case in"),
        (["calibration", "--cases-from", "{}"], "ocr_det is no case"),
    ],
)
def test_mistakes_are_said_on_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(tmp_path) for word in words]) == 1
    assert message in capsys.readouterr().err
