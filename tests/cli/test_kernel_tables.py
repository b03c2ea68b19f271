from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from onnxsqueeze.cli.kernel_tables import advice, exactness, speeds
from onnxsqueeze.facts.kernels import Exactness
from tests.facts.test_kernels import exactness as row
from tests.facts.test_kernels import kernels, speed


def shown(table: Any) -> list[list[str]]:
    """The cells of each line under the head."""
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().rpartition("─\n")[2].splitlines()
    return [line.split("  ") for line in lines if line.strip()]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("int8", 9)], "exact"),
        ([row("int8", 1, 0, 3)], "75% wrong"),
        ([row("int8", 9, kernel="")], "stays float"),
        ([row("int8", kernel="").model_copy(update={"refused": "no"})], "refused"),
    ],
)
def test_a_cell_says_what_a_spelling_does(rows: list[Exactness], words: str) -> None:
    (cells,) = shown(exactness(kernels(*rows)))
    assert [cell.strip() for cell in cells if cell.strip()] == ["Conv", "–", words, "–"]


def test_a_product_is_named_once_and_in_the_order_of_the_probe() -> None:
    found = kernels(speeds=(speed("M", 0.5, 0.25), speed("Conv", 1.0, 0.5), speed("M", 1.0, 1.0)))
    cells = [[cell.strip() for cell in line if cell.strip()] for line in shown(speeds(found))]
    size, ms = "channels 4", "1.000 ms"
    assert cells == [
        ["M", size, ms, "2.00×", "4.00×"],
        [size, ms, "1.00×", "1.00×"],
        ["Conv", size, ms, "1.00×", "2.00×"],
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("int8", 1, 0, 3)], "saturate here, as on x64 processors without VNNI"),
        ([row("int8", 9)], "both exact here"),
        ([row("int8", 9, kernel="")], "no integer kernels for signed weights"),
    ],
)
def test_advice_follows_from_the_rows(rows: list[Exactness], words: str) -> None:
    assert words in advice(kernels(*rows))
