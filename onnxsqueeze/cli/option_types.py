"""Types of options: what a user may write for a fraction, a time, numbers, and bit widths."""

from __future__ import annotations

import re
from typing import Any

import click

from onnxsqueeze.config import PATTERN


class FractionType(click.ParamType[Any]):
    """``1%`` or ``0.01``; a bare number of 1 or more is refused, since it could mean either."""

    name = "fraction"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the fraction."""
        text = str(value).strip()
        number, is_percent = text.removesuffix("%"), text.endswith("%")
        try:
            fraction = float(number) / (100 if is_percent else 1)
        except ValueError:
            self.fail(f"{text!r} is no number; write 1% or 0.01", param, ctx)
        if not is_percent and fraction >= 1:
            self.fail(f"{text!r} could mean {text}% or all of it; write 1% or 0.01", param, ctx)
        if not 0 <= fraction <= 1:
            self.fail(f"{text!r} is not between 0% and 100%", param, ctx)
        return fraction


class SparsityType(click.ParamType[Any]):
    """``50%`` or ``0.5``, or a pattern, ``2:4``: of each 4 neighbours 2 stay."""

    name = "sparsity"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        """Return the fraction, or the pattern."""
        text = str(value).strip()
        if re.fullmatch(PATTERN, text):
            return text
        if ":" in text:
            self.fail(f"{text!r} is no pattern; write 2:4, how many of how many stay", param, ctx)
        return FractionType().convert(value, param, ctx)


class SecondsType(click.ParamType[Any]):
    """``90``, ``90s``, ``5m`` or ``1h``."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(value).strip())
        if not found or float(found[1]) <= 0:
            self.fail(f"{value!r} is no time; write 90s, 5m or 1h", param, ctx)
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


class NumbersType(click.ParamType[Any]):
    """Numbers with commas (``8,16``), or with ``x`` for a size (``224x224``)."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float], separator: str = ",") -> None:
        self.kind = kind
        self.separator = separator

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers."""
        if isinstance(value, list | tuple):
            return tuple(self.kind(one) for one in value)
        try:
            return tuple(self.kind(part) for part in str(value).split(self.separator))
        except ValueError:
            shape = self.separator.join(["8", "16"])
            self.fail(f"{value!r} is not of the form {shape}", param, ctx)


class BitsType(click.ParamType[Any]):
    """Widths, ``4,8``, and widths of operators, ``Conv=8,Gemm=4``; those of one with ``/``."""

    name = "bits"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[str, int], ...]:
        """Return pairs of operator and width; the operator is empty where none is named."""
        listed = value if isinstance(value, list | tuple) else str(value).split(",")
        pairs: list[tuple[str, int]] = []
        for part in listed:
            if isinstance(part, tuple):  # converted before
                pairs.append(part)
                continue
            found = re.fullmatch(r"\s*(?:(\w+)\s*=)?((?:\s*\d+\s*/)*\s*\d+\s*)", str(part))
            if not found:
                self.fail(f"{value!r} is not of the form 8,16 or Conv=8,Gemm=4/8", param, ctx)
            pairs += [(found[1] or "", int(width)) for width in found[2].split("/")]
        return tuple(pairs)


class ProviderOptionType(click.ParamType[Any]):
    """One option of an execution provider: ``KEY=VALUE`` or ``PROVIDER:KEY=VALUE``."""

    name = "option"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str, str]:
        """Return provider (empty without one), key and value.

        Example:
            >>> ProviderOptionType().convert("cuda:device_id=1", None, None)
            ('cuda', 'device_id', '1')
            >>> ProviderOptionType().convert("cache=C:/engines", None, None)
            ('', 'cache', 'C:/engines')
        """
        if isinstance(value, tuple):
            return value
        before, equals, after = str(value).partition("=")
        provider, _, key = before.rpartition(":")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE or PROVIDER:KEY=VALUE", param, ctx)
        return provider, key, after
