"""Short ways to say what a step did: one function per outcome."""

from __future__ import annotations

from onnxsqueeze.facts.records import Change


def done(step: str, subject: str, before: str, after: str) -> Change:
    """Return the record of something that was changed."""
    return Change(step=step, subject=subject, outcome="done", before=before, after=after)


def left_alone(step: str, subject: str, what: str, reason: str) -> Change:
    """Return the record of something that stays as it is, and why."""
    return Change(step=step, subject=subject, outcome="left alone", before=what, after=reason)


def undone(step: str, what: str, reason: str) -> Change:
    """Return the record of a step that was taken back as a whole, and why."""
    return Change(step=step, subject="model", outcome="undone", before=what, after=reason)


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Return the first three names and how many more there are.

    Example:
        >>> listed(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
