"""One kind of bad input: how it is made, and what the user is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.cli.place import Place

COMPRESS = ("compress", "model.onnx", "--data", "data.npz", "-o", "out/small.onnx")


@dataclass(frozen=True)
class Case:
    """A mistake.

    Attributes:
        name: What is wrong.
        code: The exit code that ``onnxsqueeze.errors`` gives it.
        says: Pattern that the error's first line holds.
        arrange: Spoils the place; without, the command line is the mistake.
        arguments: The command line, run inside the place.
    """

    name: str
    code: int
    says: str
    arrange: Callable[[Place], object] = Place.digests  # which changes nothing
    arguments: tuple[str, ...] = COMPRESS

    def arranged(self, place: Place) -> tuple[str, ...]:
        self.arrange(place)
        return self.arguments
