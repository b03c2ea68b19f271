"""Codes of any width as planes that a file can hold: 8 and 4 bits as they are, 2 and 1 packed.

A code of b bits is ``top · 2**r + rest``. The top plane is signed, 8 bits wide (b ≥ 8) or 4
(b ≥ 4); under 4 bits there is none, and the code is stored without sign, ``2**(b−1)`` higher. The
r bits of the rest are cut into unsigned planes of 4, 2 and 1 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Planes:
    """The planes of a code's width.

    Attributes:
        top: Bits of the signed plane: 8, 4, or 0 for none.
        rest: Bits of each unsigned plane, most significant first.
        offset: What is taken off the sum of the planes.
    """

    top: int
    rest: tuple[int, ...]
    offset: int


def planes(bits: int) -> Planes:
    """Return how codes of ``bits`` bits are cut.

    Raises:
        ValueError: If ``bits`` is not between 2 and 12.

    Example:
        >>> planes(8), planes(6)
        (Planes(top=8, rest=(), offset=0), Planes(top=4, rest=(2,), offset=0))
        >>> planes(3), planes(12)
        (Planes(top=0, rest=(2, 1), offset=4), Planes(top=8, rest=(4,), offset=0))
    """
    if not 2 <= bits <= 12:
        raise ValueError(f"codes have 2 to 12 bits, not {bits}")
    top = 8 if bits >= 8 else 4 if bits >= 4 else 0
    left = bits - top
    rest = tuple(width for width in (4, 2, 1) if left & width)
    return Planes(top, rest, 0 if top else 1 << (bits - 1))


def split(codes: Array, bits: int) -> tuple[Array | None, tuple[Array, ...]]:
    """Return the top plane (None if there is none) and the others, each in the shape of ``codes``.

    Args:
        codes: Signed codes of ``bits`` bits, any integer type.
        bits: Their width.

    Returns:
        The top plane as int8, the others as uint8.

    Example:
        >>> top, rest = split(np.array([-5, 13]), bits=6)
        >>> top.tolist(), [plane.tolist() for plane in rest]
        ([-2, 3], [[3, 1]])
    """
    cut = planes(bits)
    left = sum(cut.rest)
    whole = codes.astype(np.int32) + cut.offset
    top = (whole >> left).astype(np.int8) if cut.top else None
    rest = []
    for width in cut.rest:
        left -= width
        rest.append(((whole >> left) & ((1 << width) - 1)).astype(np.uint8))
    return top, tuple(rest)


def join(top: Array | None, rest: tuple[Array, ...], bits: int) -> Array:
    """Return the codes that ``split`` cut, as int32.

    Example:
        >>> join(*split(np.array([-5, 13]), bits=6), bits=6).tolist()
        [-5, 13]
    """
    cut = planes(bits)
    whole = np.zeros(rest[0].shape, np.int32) if top is None else top.astype(np.int32)
    for plane, width in zip(rest, cut.rest, strict=True):
        whole = whole * (1 << width) + plane
    return whole - cut.offset


def packed(plane: Array, width: int) -> Array:
    """Return a plane of 1 or 2 bits as bytes, the first value in the lowest bits.

    Args:
        plane: Values under ``2**width``, any shape.
        width: 1 or 2.

    Returns:
        uint8, shape (ceil(values · width / 8),); what is left over in the last byte is zero.

    Example:
        >>> packed(np.array([1, 2, 3, 0, 1], np.uint8), width=2).tolist()
        [57, 1]
    """
    per_byte = 8 // width
    flat = plane.ravel()
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    padded[: flat.size] = flat
    shifts = (np.arange(per_byte) * width).astype(np.uint8)
    result: Array = np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1)
    return result
