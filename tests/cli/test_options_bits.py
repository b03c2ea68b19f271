"""``--bits``: widths for all weights, and for those of one operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from onnxsqueeze.cli import options
from onnxsqueeze.cli.option_types import BitsType
from onnxsqueeze.config import WIDTHS, Limits


@click.command()
@options.output_options
@options.limit_options
def command(**values: Any) -> Limits:
    return options.limits(values)


def limits(*arguments: str) -> Limits:
    found: Limits = command.main([*arguments], standalone_mode=False)
    return found


@pytest.mark.parametrize(
    ("text", "bits", "by_operator"),
    [
        ("4,8", (4, 8), {}),
        ("Conv=8,Gemm=4", WIDTHS, {"Conv": (8,), "Gemm": (4,)}),
        ("8, 16, Conv=4/8", (8, 16), {"Conv": (4, 8)}),
        ("Conv=4,Conv=8", WIDTHS, {"Conv": (4, 8)}),
        ("4,Conv=32", (4,), {"Conv": (32,)}),
    ],
)
def test_widths_are_for_all_or_for_an_operator(
    text: str, bits: tuple[int, ...], by_operator: dict[str, tuple[int, ...]]
) -> None:
    found = limits("--bits", text)
    assert (found.bits, found.operator_bits) == (bits, by_operator)
    assert found.bits_of("Conv") == by_operator.get("Conv", bits)
    assert found.bits_of("MatMul") == bits


@pytest.mark.parametrize("text", ["few", "Conv", "Conv=", "Conv=many", "4,,8", "=8", "4, =8"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not of the form 8,16 or Conv=8,Gemm=4/8"):
        BitsType().convert(text, None, None)


def test_a_width_that_is_not_there_names_the_option() -> None:
    with pytest.raises(click.UsageError, match="--bits"):
        limits("--bits", "Conv=9")


def test_all_widths_are_allowed_without_it() -> None:
    assert limits().bits == WIDTHS
    assert limits().operator_bits == {}


@pytest.mark.parametrize("value", ['[4, "Conv=8"]', '"4,Conv=8"'])
def test_a_configuration_file_may_list_them(value: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"bits = {value}\n")
    found = limits("--config", str(file))
    assert (found.bits, found.operator_bits) == ((4,), {"Conv": (8,)})


def test_what_was_converted_stays() -> None:  # click converts defaults again
    pairs = BitsType().convert("4,Conv=8/16", None, None)
    assert BitsType().convert(pairs, None, None) == pairs
