"""How work tells how far it is: a callable of (stage, done, all); with all 0, just words."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def tell_of_part(
    progress: Callable[[int, int], None] | None, before: int, total: int, done: int
) -> None:
    """Tell how far a part of some work is, if anybody wants to know.

    Args:
        progress: Called with (done, all) of the whole.
        before: Steps of the whole before this part.
        total: Steps of the whole.
        done: Steps of this part.
    """
    if progress is not None:
        progress(before + done, total)


def silent(_stage: str, _done: int, _total: int) -> None:
    """Tell nobody."""
