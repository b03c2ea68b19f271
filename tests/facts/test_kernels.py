from __future__ import annotations

from pathlib import Path

import pytest

from onnxsqueeze.errors import DataError
from onnxsqueeze.facts.kernels import (
    SPELLINGS,
    Exactness,
    Kernels,
    Speed,
    Spelling,
    kernel_key,
    summary,
)
from onnxsqueeze.facts.records import Interval, Machine

MACHINE = Machine(
    processor="Some CPU",
    features=("avx2",),
    cores=2,
    memory_bytes=1 << 30,
    system="Linux 6 x86_64",
    versions={"onnxruntime": "1.32.0", "numpy": "2.0"},
    providers=("CPUExecutionProvider",),
)


def spelling(activation: str, weight: str) -> Spelling:
    return Spelling.model_validate({"activation": activation, "weight": weight, "per": "channel"})


def exactness(weight: str, *differences: int, kernel: str = "QLinearConv") -> Exactness:
    return Exactness(
        case="Conv", spelling=spelling("uint8", weight), kernel=kernel, differences=differences
    )


def speed(kind: str, unsigned: float, signed: float) -> Speed:
    times = {"u8u8 per channel": unsigned, "u8s8 per channel": signed}
    return Speed(
        kind=kind,
        size={"channels": 4},
        float_ms=(1.0, 1.0),
        integer_ms={name: (ms, ms) for name, ms in times.items()},
        speedup={
            name: Interval(value=1 / ms, low=1 / ms, high=1 / ms) for name, ms in times.items()
        },
    )


def kernels(*rows: Exactness, speeds: tuple[Speed, ...] = ()) -> Kernels:
    return Kernels(
        machine=MACHINE,
        provider="cpu",
        created="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        exactness=rows,
        speeds=speeds,
    )


def test_spellings_are_every_pair_of_types_and_both_kinds_of_scales() -> None:
    assert [str(one) for one in SPELLINGS] == [
        f"{short} per {per}" for short in ("u8u8", "u8s8", "s8s8") for per in ("tensor", "channel")
    ]


def test_one_step_is_rounding_and_two_are_wrong() -> None:
    assert exactness("int8", 6, 2).wrong_fraction == 0
    row = exactness("int8", 6, 1, 1)
    assert (row.wrong_fraction, row.largest) == (1 / 8, 2)
    assert (exactness("int8").wrong_fraction, exactness("int8").largest) == (0, 0)


@pytest.mark.parametrize(
    ("rows", "saturates", "is_exact"),
    [
        ((), False, False),
        ((exactness("int8", 9),), False, True),
        ((exactness("int8", 9), exactness("int8", 8, 0, 1)), True, False),
        ((exactness("uint8", 8, 0, 1),), False, False),  # of another type
        ((exactness("int8", 8, 0, 1, kernel=""),), False, False),  # it stays float
    ],
)
def test_exact_is_what_has_a_kernel_and_no_wrong_output(
    rows: tuple[Exactness, ...], saturates: bool, is_exact: bool
) -> None:
    found = kernels(*rows)
    assert (found.saturates("int8"), found.is_exact("int8")) == (saturates, is_exact)


def test_gain_is_the_median_over_sizes() -> None:
    found = kernels(
        speeds=(speed("Conv", 1.0, 0.5), speed("Conv", 1.0, 1.0), speed("M", 1.0, 4.0))
    )
    assert found.gain("Conv") == 1.5
    assert found.gain() == 1.0
    assert found.gain("M") == 0.25
    assert kernels().gain() == 1.0


def test_summary_says_what_is_exact_and_how_fast() -> None:
    found = kernels(
        exactness("uint8", 9),
        exactness("int8", 1, 0, 3),
        speeds=(speed("Conv", 0.5, 0.25), speed("Conv", 1.0, 1.0)),
    )
    told = (
        "saturates in 1 of 1 products, at worst (Conv) 75% of the outputs are wrong, "
        "by up to 2 steps"
    )
    assert summary(found) == (
        "u8u8 per tensor: no integer kernel",
        "u8u8 per channel: exact",
        "u8s8 per tensor: no integer kernel",
        f"u8s8 per channel: {told}",
        "s8s8 per tensor: no integer kernel",
        "s8s8 per channel: no integer kernel",
        "Conv: u8u8 1.00 to 2.00, u8s8 1.00 to 4.00 times its speed in floats",
    )


def test_record_survives_a_file(tmp_path: Path) -> None:
    found = kernels(exactness("int8", 1, 0, 3), speeds=(speed("Conv", 0.5, 0.25),))
    found.save(tmp_path / "k.json")
    assert Kernels.load(tmp_path / "k.json") == found
    assert [path.name for path in tmp_path.iterdir()] == ["k.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read as facts of a target: No such file"),
        ("{}", r"holds no facts of a target: machine: Field required"),
        ("no json", r"holds no facts of a target: the file: Invalid JSON"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    place = tmp_path / "k.json"
    if content is not None:
        place.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        Kernels.load(place)
    assert str(caught.value).splitlines()[1].endswith("onnxsqueeze doctor -o FILE")


def test_key_is_equal_where_the_same_kernels_run() -> None:
    key = kernel_key(MACHINE, "cpu")
    same = {"cores": 64, "memory_bytes": 1, "system": "Linux 7 x86_64"}
    assert kernel_key(MACHINE.model_copy(update=same), "cpu") == key
    others = [
        {"processor": "Other"},
        {"features": ("avx2", "avx512_vnni")},
        {"system": "Linux 6 aarch64"},
        {"versions": {"onnxruntime": "1.33.0"}},
    ]
    keys = {kernel_key(MACHINE.model_copy(update=one), "cpu") for one in others}
    assert len(keys | {key, kernel_key(MACHINE, "cuda")}) == len(others) + 2
