"""How work tells how far it is: a callable of (stage, done, all)."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(_stage: str, _done: int, _total: int) -> None:
    """Tell nobody."""
