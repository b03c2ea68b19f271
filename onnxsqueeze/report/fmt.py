"""How numbers and names are written for a reader, alike in the terminal and in the HTML file."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from itertools import takewhile

from onnxsqueeze.facts.records import Interval

UNKNOWN = "–"
MINUS = "−"

_FORMS = {
    "float": "left as float",
    "float16": "stored as float16",
    "stored": "stored as {bits}-bit integers",
    "qdq": "computed with {bits}-bit integers",
    "dynamic": "computed with {bits}-bit integers, grids of each run",
    "blockwise": "kept in {bits}-bit blocks, which kernels read",
}


def size(size_bytes: int) -> str:
    """Return bytes in decimal units, three digits.

    >>> size(999), size(10_761_788), size(4_000)
    ('999 B', '10.8 MB', '4.00 kB')
    """
    return _scaled(size_bytes, ("B", "kB", "MB", "GB", "TB"))


def count(number: int) -> str:
    """Return a count with at most three digits and its magnitude in words.

    >>> count(512), count(22_566_052), count(1_200)
    ('512', '22.6 million', '1.20 thousand')
    """
    return _scaled(number, ("", "thousand", "million", "billion", "trillion")).strip()


def _scaled(number: int, units: tuple[str, ...]) -> str:
    value, unit = float(number), 0
    # 999.5 would be written as "1000".
    while abs(value) >= 999.5 and unit + 1 < len(units):
        value, unit = value / 1000, unit + 1
    if unit == 0:
        return f"{number} {units[0]}"
    digits = max(0, 2 - int(math.log10(max(abs(value), 1))))
    return f"{value:.{digits}f} {units[unit]}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits; a dash for None, words for NaN, infinity.

    >>> number(0.98123), number(None), number(1234.5), number(0.00001234), number(-0.5), number(0)
    ('0.981', '–', '1230', '1.23e-05', '−0.500', '0')
    """
    if value is None:
        return UNKNOWN
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == 0:
        return "0"
    text = f"{value:#.{digits}g}".rstrip(".")
    if "e+" in text and abs(value) < 1e6:
        text = f"{float(text):.0f}"
    return MINUS + text[1:] if value < 0 else text


def percent(fraction: float | None) -> str:
    """Return a fraction as percent: two digits after the point under 1%, one otherwise.

    >>> percent(0.0012), percent(0.125), percent(-0.004), percent(0.0), percent(1.0), percent(None)
    ('0.12%', '12.5%', '−0.40%', '0%', '100%', '–')
    """
    if fraction is None:
        return UNKNOWN
    if not math.isfinite(fraction):
        return number(fraction)
    value = abs(fraction) * 100
    if value in (0, 100):
        text = f"{value:.0f}%"
    elif value < 0.005:
        text = "<0.01%"
    else:
        text = f"{value:.2f}%" if value < 1 else f"{value:.1f}%"
    return MINUS + text if fraction < 0 else text


def decibel(sqnr_db: float | None) -> str:
    """Return a ratio in dB; records write 999 for an infinite one.

    >>> decibel(38.27), decibel(999.0), decibel(None)
    ('38.3 dB', 'exact', '–')
    """
    if sqnr_db is None:
        return UNKNOWN
    return "exact" if sqnr_db >= 999 else f"{sqnr_db:.1f} dB".replace("-", MINUS)


def times(ratio: float) -> str:
    """Return a ratio.

    >>> times(3.8912), times(0.97), times(12.34)
    ('3.89×', '0.97×', '12.3×')
    """
    return f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.1f}×"


def milliseconds(value_ms: float) -> str:
    """Return a time with three digits.

    >>> milliseconds(0.01234), milliseconds(12.34), milliseconds(2500)
    ('12.3 µs', '12.3 ms', '2.50 s')
    """
    if abs(value_ms) < 1:
        return f"{number(value_ms * 1000)} µs"
    return f"{value_ms / 1000:.2f} s" if value_ms >= 1000 else f"{number(value_ms)} ms"


def percent_interval(interval: Interval) -> str:
    """Return an estimate in percent with its interval.

    >>> percent_interval(Interval(value=0.002, low=-0.001, high=0.005))
    '0.20% (−0.10% to 0.50%)'
    """
    return f"{percent(interval.value)} ({percent(interval.low)} to {percent(interval.high)})"


def times_interval(interval: Interval) -> str:
    """Return a ratio with its interval.

    >>> times_interval(Interval(value=1.5, low=1.4, high=1.61))
    '1.50× (1.40× to 1.61×)'
    """
    return f"{times(interval.value)} ({times(interval.low)} to {times(interval.high)})"


def smaller(before: int, after: int) -> str:
    """Return in words how much smaller ``after`` is; never a gain that is not there.

    >>> smaller(400, 100), smaller(100, 100), smaller(100, 104), smaller(1000, 990)
    ('4.00× smaller', 'same size', '1.04× larger', '1.01× smaller')
    """
    if before == after or min(before, after) <= 0:
        return "same size" if before == after else UNKNOWN
    ratio = before / after
    return f"{times(ratio)} smaller" if ratio > 1 else f"{times(1 / ratio)} larger"


def shape(dims: Iterable[int]) -> str:
    """Return dims as a reader writes them; a scalar has none.

    >>> shape((64, 3, 3, 3)), shape(())
    ('64×3×3×3', 'scalar')
    """
    return "×".join(str(dim) for dim in dims) or "scalar"


def form(name: str, bits: int) -> str:
    """Return what a form is, in words; an unknown form stands for itself.

    >>> form("stored", 8), form("float", 32), form("mine", 3)
    ('stored as 8-bit integers', 'left as float', 'mine, 3 bits')
    """
    return _FORMS[name].format(bits=bits) if name in _FORMS else f"{name}, {bits} bits"


def plain(text: str) -> str:
    r"""Return text without control characters, which a hostile name may carry into a terminal.

    >>> plain("conv\x1b[2J\n")
    'conv?[2J?'
    """
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in text)


def middle(text: str, width: int) -> str:
    """Return at most ``width`` characters, with the middle left out: both ends of a name tell.

    >>> middle("encoder.layer.3.attention.weight", 16), middle("short", 16)
    ('encoder.….weight', 'short')
    """
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def distinct(names: Iterable[str], width: int) -> tuple[str, ...]:
    """Return the names at most ``width`` wide; where that makes them equal, the part that differs.

    >>> distinct(["a.block1.convolution.weight", "a.block2.convolution.weight", "b"], 12)
    ('a.block1…', 'a.block2…', 'b')
    """
    found = list(names)
    short = [middle(name, width) for name in found]
    for collision in {text for text in short if short.count(text) > 1}:
        group = [k for k, text in enumerate(short) if text == collision]
        ending = _common_ending([found[k] for k in group])
        for k in group:
            head = found[k][: len(found[k]) - ending] if ending < len(found[k]) else found[k]
            # The common ending may start inside of a word: show that word in full.
            word = re.match(r"\w*", found[k][len(head) :])
            head += word.group() if word else ""
            short[k] = (
                f"…{head[len(head) - width + 2 :]}…" if len(head) > width - 1 else f"{head}…"
            )
    return tuple(short)


def _common_ending(names: list[str]) -> int:
    """Return how many characters at the end all names share."""
    columns = zip(*(name[::-1] for name in names), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def plural(number: int, noun: str) -> str:
    """Return a number of things.

    >>> plural(1, "weight"), plural(3, "weight")
    ('1 weight', '3 weights')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
