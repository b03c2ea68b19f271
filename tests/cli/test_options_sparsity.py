"""``--sparsity``: a part of the single weights, or a pattern."""

from __future__ import annotations

from typing import Any

import click
import pytest

from onnxsqueeze.cli import options
from onnxsqueeze.cli.option_types import SparsityType
from onnxsqueeze.config import Limits


@click.command()
@options.output_options
@options.limit_options
def command(**values: Any) -> Limits:
    return options.limits(values)


def limits(*arguments: str) -> Limits:
    found: Limits = command.main([*arguments], standalone_mode=False)
    return found


@pytest.mark.parametrize(
    ("text", "sparsity", "pattern"),
    [("50%", 0.5, None), ("0.9", 0.9, None), ("2:4", None, "2:4"), ("4:16", None, "4:16")],
)
def test_a_fraction_or_a_pattern(text: str, sparsity: float | None, pattern: str | None) -> None:
    found = limits("--sparsity", text)
    assert (found.sparsity, found.pattern, found.shrink) == (sparsity, pattern, None)
    assert limits("--sparsity", text, "--shrink", "l1").shrink == "l1"


def test_without_it_nothing_is_asked() -> None:
    assert not limits().is_sparse


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("2:", "is no pattern; write 2:4"),
        ("0:4", "is no pattern; write 2:4"),
        ("half", "is no number"),
        ("50", "could mean 50%"),
        ("150%", "is not between 0% and 100%"),
    ],
)
def test_other_text_is_refused(text: str, match: str) -> None:
    with pytest.raises(click.BadParameter, match=match):
        SparsityType().convert(text, None, None)


@pytest.mark.parametrize(("text", "match"), [("4:2", "makes no weight zero"), ("100%", "less")])
def test_what_makes_no_sense_names_the_option(text: str, match: str) -> None:
    with pytest.raises(click.UsageError, match=match):
        limits("--sparsity", text)
