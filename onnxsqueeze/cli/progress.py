"""Progress bars with a forecast, on a terminal, for what takes long."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

PATIENCE_S = 2.0
"""A stage that is done before this shows no bar."""


class Bars:
    """One bar per stage; an instance is called with (stage, done, all)."""

    def __init__(self, *, is_shown: bool) -> None:
        console = Console(stderr=True)
        self._says = is_shown
        self._is_shown = is_shown and console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:<36}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> Bars:
        if self._is_shown:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_shown:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps are done; if there are none, say the words."""
        if total == 0 and self._says:
            self._bars.console.print(stage, highlight=False, soft_wrap=True)
        if not self._is_shown or total == 0:
            return
        start = self._started.setdefault(stage, time.monotonic())
        if stage not in self._tasks:
            if time.monotonic() - start < PATIENCE_S or done >= total:
                return
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)
        if done >= total:
            self._bars.remove_task(self._tasks.pop(stage))
            self._started.pop(stage)
