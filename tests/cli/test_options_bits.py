"""``--bits``: widths for all weights, and for those of one operator."""

from __future__ import annotations

from typing import Any

import click
import pytest

from onnxsqueeze.cli import options
from onnxsqueeze.cli.option_types import BitsType
from onnxsqueeze.config import WIDTHS, Limits


def limits(text: Any) -> Limits:
    bits = BitsType().convert(text, None, None)
    assert BitsType().convert(bits, None, None) == bits  # click converts defaults again
    rest = {"keep": (), "prune_below": None, "time_limit": None, "effort": "standard"}
    return options.limits({"bits": bits, **rest})


@pytest.mark.parametrize(
    ("text", "bits", "by_operator"),
    [
        ("4,8", (4, 8), {}),
        ([4, 8], (4, 8), {}),  # of a TOML file
        ("Conv=8,Gemm=4", WIDTHS, {"Conv": (8,), "Gemm": (4,)}),
        ("8, 16, Conv=4/8", (8, 16), {"Conv": (4, 8)}),
        ("Conv=4,Conv=8", WIDTHS, {"Conv": (4, 8)}),
    ],
)
def test_widths_are_for_all_or_for_an_operator(
    text: Any, bits: tuple[int, ...], by_operator: dict[str, tuple[int, ...]]
) -> None:
    found = limits(text)
    assert (found.bits, found.operator_bits) == (bits, by_operator)
    assert found.bits_of("Conv") == by_operator.get("Conv", bits)
    assert found.bits_of("MatMul") == bits


@pytest.mark.parametrize("text", ["few", "Conv", "Conv=", "Conv=many", "4,,8"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not of the form 8,16 or Conv=8,Gemm=4/8"):
        BitsType().convert(text, None, None)


def test_a_width_that_is_not_there_names_the_option() -> None:
    with pytest.raises(click.UsageError, match="--bits"):
        limits("Conv=9")
