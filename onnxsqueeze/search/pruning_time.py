"""How long pruning will take, told before it starts, so that it may be left out."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from onnxsqueeze.analysis.summary import multiply_adds
from onnxsqueeze.measure.prune_moments import FEWEST_ROWS, MOST_ROWS, ROWS_PER_FEATURE
from onnxsqueeze.measure.prune_readers import Reader, readers
from onnxsqueeze.measure.prune_widths import RIDGES, TRIED_PARTS, TRIED_SAMPLES
from onnxsqueeze.measure.prune_windows import MOST_BYTES, MOST_WINDOWS
from onnxsqueeze.numerics.pruning_descent import MOST_STEPS
from onnxsqueeze.search.cutting import affordable_walk
from onnxsqueeze.search.trial import Search

RATE = 3e10
"""Multiply-adds a second that two cores of a server do in float32, what is beside them included:
from 2e10 (PP-OCR recognition) to 6e10 (MiniLM)."""
PER_RUN = 2e7
"""What a run takes beside its multiply-adds, in these: a millisecond."""
PER_BYTE = 140.0
"""What writing, checking and loading a model takes for each of its bytes, in multiply-adds."""
QUICK_TRIALS, SLOW_TRIALS = 5, 2
"""Rungs of the ladder that are tried, about, without and with a repair layer by layer."""
SECONDS = 360.0
"""Pruning that takes longer is left out where it was not asked for."""
NONE = "no channels, neurons or heads removed"
ASK = "--prune on, or --objective latency, does it"


def screening_seconds(search: Search) -> float:
    """Return about how many seconds it takes to tell whether pruning will pay.

    It grows with the multiply-adds and with the third power of what a weight reads.

    Args:
        search: The search.
    """
    found = list(readers(search.model).values())
    given = len(search.samples) * _once(search)
    return (given + sum(_moments(search, one) + _ranked(one) for one in found)) / RATE


def pruning_seconds(search: Search, groups: int) -> float:
    """Return about how many seconds pruning will take, within a factor of two or so.

    Args:
        search: The search.
        groups: How many groups of units there are.
    """
    found, once = list(readers(search.model).values()), _once(search)
    held_out = len(search.reference.samples) * once
    written = PER_BYTE * sum(4.0 * prod(one.shape) for one in found)
    refits = sum(map(_refit, found))
    looks = min(TRIED_SAMPLES, len(search.reference.samples))
    tried = (1 + len(TRIED_PARTS)) * (groups * (looks * once + written) + refits)
    quick, walk = held_out + written + refits, affordable_walk(search)
    trials = QUICK_TRIALS * quick
    if walk is not None:
        runs = 2 * len(walk.samples) * once * min(walk.stages, len(found))
        moments = sum(_moments(search, one) for one in found)
        descent = max((_descent(search, one) for one in found), default=0.0)
        trials += SLOW_TRIALS * (quick + runs + moments + descent)
    return screening_seconds(search) + (tried + trials) / RATE


def too_long(seconds: float) -> str:
    """Return in words that pruning is left out for its time, and how to ask for it; or nothing.

    Args:
        seconds: What it, or a part of it, takes.
    """
    if seconds <= SECONDS:
        return ""
    return f"{NONE}, since that would take about {seconds / 60:.0f} minutes: {ASK}"


def _once(search: Search) -> float:
    """Return the multiply-adds that a run takes, with what it takes beside them."""
    counted = multiply_adds(search.model, search.facts.shapes).multiply_adds
    return sum(counted.values()) + PER_RUN


def _moments(search: Search, reader: Reader) -> float:
    """Return the multiply-adds of a Gram matrix."""
    groups, _, features = reader.dims
    rows = min(max(ROWS_PER_FEATURE * features, FEWEST_ROWS), MOST_ROWS, _there(search, reader))
    return float(groups * rows) * features**2


def _there(search: Search, reader: Reader) -> int:
    """Return how many rows all samples have."""
    groups, out, _ = reader.dims
    outs = reader.shape[0] if reader.is_wide else groups * out
    return len(search.samples) * prod(search.facts.shapes.get(reader.y, ())) // outs


def _ranked(reader: Reader) -> float:
    """Return the work of ranking: an inverse and its downdates, in float64, for each ridge."""
    groups, out, features = reader.dims
    return len(RIDGES) * groups * (3.0 * features + min(out, features)) * features**2


def _refit(reader: Reader) -> float:
    """Return the work of a refit to half of the features: five solves and their errors."""
    groups, out, features = reader.dims
    return groups * (0.7 * features**3 + 15.0 * min(out, features) * features**2)


def _descent(search: Search, reader: Reader) -> float:
    """Return the work of conjugate gradients on the windows of a wide kernel, half of all steps.

    Groups that are cut are mostly read by one such kernel.
    """
    if not reader.is_wide:
        return 0.0
    _, out, features = replace(reader, is_wide=False).dims
    values = min(MOST_BYTES / 4, min(MOST_WINDOWS, _there(search, reader)) * features)
    return 1.5 * MOST_STEPS * values * out
