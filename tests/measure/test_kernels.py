"""Integer kernels of this machine against exact sums, with real ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsqueeze.errors import DataError, ProviderError
from onnxsqueeze.facts.kernels import SPELLINGS, Kernels, Spelling
from onnxsqueeze.facts.store import Store
from onnxsqueeze.measure.kernel_cases import (
    EXACT_CASES,
    SPEED_CASES,
    Case,
    in_rows,
    model,
    reference,
)
from onnxsqueeze.measure.kernels import (
    TIMED,
    cache_file,
    cached,
    exact_kernels,
    exactness,
    kernels,
    probe,
    speed,
)
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.runtime import ort

UNSIGNED, SIGNED = (one for one in SPELLINGS if one.per == "channel" and one.activation == "uint8")
SMALL = Case("Conv", "Conv", (1, 4, 4, 4), (2, 4, 3, 3))
MATMUL = Case("MatMul", "MatMul", (2, 8), (8, 4))
# x64 that adds in 16 bits; all of VNNI's spellings contain its name.
IS_16_BIT = machine().system.endswith("x86_64") and not any(
    "vnni" in flag or "amx" in flag for flag in machine().features
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "onnxsqueeze"


def ids(case: Case) -> str:
    return case.kind


def drawn(case: Case, codes: tuple[int, ...], values: tuple[float, ...]) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    return rng.choice(np.array(codes, np.int8), case.w), rng.choice(
        np.array(values, np.float32), case.x
    )


def outputs(
    case: Case, spelling: Spelling | None, *, precise: bool, x: Any, codes: Any, step: float
) -> Any:
    options = ort.session_options()
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    made = ort.session(model(case, spelling, codes, 1.0, step), options=options)
    return in_rows(case, ort.run(made, {"x": x})["y"])


def test_reference_is_the_exact_sum() -> None:
    codes, x = drawn(MATMUL, (-127, 3, 127), (-128, 127))
    assert reference(MATMUL, x, codes).tolist() == [(x.astype(int) @ codes.astype(int)).tolist()]


@pytest.mark.parametrize("case", EXACT_CASES, ids=ids)
def test_floats_give_the_reference(case: Case) -> None:
    # Sums of 256 products of codes stay below 2^23: exact in floats, in whatever order.
    codes, x = drawn(case, (-127, 0, 5, 127), (-128, 1, 127))
    y = outputs(case, None, precise=False, x=x, codes=codes, step=1.0)
    assert np.array_equal(y, reference(case, x, codes))


@pytest.mark.parametrize("case", EXACT_CASES, ids=ids)
def test_unsigned_weights_per_channel_are_exact_on_every_machine(case: Case) -> None:
    found = exactness(case, UNSIGNED)
    assert found.kernel
    assert found.wrong_fraction == 0
    assert sum(found.differences) == reference(case, *reversed(drawn(case, (1,), (1.0,)))).size


@pytest.mark.parametrize("case", EXACT_CASES, ids=ids)
def test_unsigned_weights_do_not_depend_on_the_kernels_precision(case: Case) -> None:
    # What a portable file relies on: both kinds of x64 kernels, 16 bits and more, agree.
    codes, x = drawn(case, (-127, 127), (-128, 127))
    step = float(np.abs(reference(case, x, codes)).max()) / 126
    given = {"x": x, "codes": codes, "step": step}
    fast, precise = (outputs(case, UNSIGNED, precise=on, **given) for on in (False, True))
    assert np.abs(fast - precise).max() <= step * (1 + 1e-6)


@pytest.mark.skipif(not IS_16_BIT, reason="this processor adds products in more than 16 bits")
@pytest.mark.parametrize("case", EXACT_CASES, ids=ids)
def test_signed_weights_saturate_without_vnni(case: Case) -> None:
    depthwise = case.attributes.get("group") == case.x[1]
    assert (exactness(case, SIGNED).wrong_fraction > 0.1) is not depthwise
    codes, x = drawn(case, (-127, 127), (-128, 127))
    sums = reference(case, x, codes)
    step = float(np.abs(sums).max()) / 126
    precise = outputs(case, SIGNED, precise=True, x=x, codes=codes, step=step)
    assert np.abs(precise - sums).max() <= step * (1 + 1e-6)


def test_dynamic_products_are_only_probed_with_unsigned_activations() -> None:
    dynamic = EXACT_CASES[-1]
    found = probe(machine(), cases=(dynamic,), timed=())
    assert [str(row.spelling)[:2] for row in found.exactness] == ["u8"] * 4
    assert found.speeds == found.left_out == ()


def test_speed_holds_paired_times_of_every_spelling() -> None:
    found = speed(SMALL, TIMED, pairs=3)
    assert set(found.integer_ms) == set(found.speedup) == {str(one) for one in TIMED}
    times = [found.float_ms, *found.integer_ms.values()]
    assert {len(one) for one in times} == {3}
    assert min(min(one) for one in times) > 0
    for name, one in found.speedup.items():
        ratios = [a / b for a, b in zip(found.float_ms, found.integer_ms[name], strict=True)]
        assert one.value == pytest.approx(float(np.median(ratios)))


def test_a_probe_out_of_time_names_what_it_left_out(cache: Path) -> None:
    steps = []
    found = kernels(time_limit_s=0.0, progress=lambda *step: steps.append(step))
    assert found.speeds == ()
    assert len(found.left_out) == len(SPEED_CASES)
    assert found.left_out[0] == "Conv 3x3, channels 16, places 56"
    total = len(EXACT_CASES) + len(SPEED_CASES)
    assert steps[-1] == ("probing the integer kernels", total, total)
    # kept, and not probed again unless asked for
    (file,) = cache.iterdir()
    assert (file, Kernels.load(file)) == (cache_file(machine()), found)
    steps.clear()
    assert kernels(progress=lambda *step: steps.append(step)) == found
    assert steps == []
    again = kernels(again=True, time_limit_s=0.0)
    assert again.exactness == found.exactness
    assert again.seconds != found.seconds


@pytest.mark.parametrize("damage", ["", "{}", "other machine"])
def test_what_is_not_of_this_machine_is_not_reused(cache: Path, damage: str) -> None:
    here = machine()
    found = probe(here, cases=(MATMUL,), timed=())
    place = cache_file(here)
    assert cached(here) is None
    cache.mkdir()
    found.save(place)
    assert cached(here) == found
    if damage == "other machine":
        other = here.model_copy(update={"features": ("other",)})
        found.model_copy(update={"machine": other}).save(place)
    else:
        place.write_text(damage)
    assert cached(here) is None


def test_a_given_file_goes_before_this_machine(cache: Path, tmp_path: Path) -> None:
    other = machine().model_copy(update={"processor": "another"})
    made = probe(other, cases=(MATMUL,), timed=())
    made.save(tmp_path / "k.json")
    assert kernels(file=tmp_path / "k.json") == made
    assert not cache.exists()
    with pytest.raises(DataError, match="cannot be read as facts of a target"):
        kernels(file=tmp_path / "gone.json")


def test_a_relative_cache_folder_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_file(machine()).parent == tmp_path / ".cache" / "onnxsqueeze"


def test_a_cache_that_cannot_be_written_costs_only_the_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kernels(time_limit_s=0.0).exactness


def test_a_missing_provider_is_an_error() -> None:
    with pytest.raises(ProviderError, match="NoSuchProvider"):
        probe(machine(), "NoSuchProvider", cases=(MATMUL,), timed=())


def test_exactness_alone_is_probed_once_per_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store(tmp_path / "facts")
    first = exact_kernels(store)
    assert first.speeds == ()
    assert {row.case for row in first.exactness} == {case.kind for case in EXACT_CASES}
    assert exact_kernels(store) == first  # with the time at which it was made
    assert not (tmp_path / "cache").exists()  # it would keep a whole probe from being made


def test_an_earlier_whole_probe_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole = exact_kernels(Store(tmp_path / "one")).model_copy(update={"seconds": 123.0})
    place = cache_file(whole.machine, whole.provider)
    place.parent.mkdir(parents=True)
    whole.save(place)
    assert exact_kernels(Store(tmp_path / "other")).seconds == 123.0
