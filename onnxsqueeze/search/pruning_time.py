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

RATE = 2e10
"""Multiply-adds a second that one core of a server does in float32."""
PER_RUN = 2e7
"""What a run takes beside its multiply-adds, in these: a millisecond."""
PER_BYTE = 140.0
"""What writing, checking and loading a model takes for each of its bytes, in multiply-adds."""
QUICK_TRIALS, SLOW_TRIALS = 5, 2
"""Rungs of the ladder that are tried, about, without and with a repair layer by layer."""
SECONDS = 120.0
"""Pruning that takes longer is left out where it was not asked for."""


def pruning_seconds(search: Search) -> float:
    """Return about how many seconds of one core pruning will take, within a factor of two or so.

    It grows with the multiply-adds and with the third power of what a weight reads.

    Args:
        search: The search.
    """
    found = list(readers(search.model).values())
    once = sum(multiply_adds(search.model, search.facts.shapes).multiply_adds.values()) + PER_RUN
    given, held_out = len(search.samples) * once, len(search.reference.samples) * once
    written = PER_BYTE * sum(4.0 * prod(one.shape) for one in found)
    moments, refits = sum(_moments(search, one) for one in found), sum(map(_refit, found))
    tried = (1 + len(TRIED_PARTS)) * (len(found) * (TRIED_SAMPLES * once + written) + refits)
    quick, walk = held_out + written + refits, affordable_walk(search)
    trials = QUICK_TRIALS * quick
    if walk is not None:
        runs = 2 * len(walk.samples) * once * min(walk.stages, len(found))
        trials += SLOW_TRIALS * (quick + runs + moments + sum(map(_descent, found)))
    return float((given + moments + sum(map(_ranked, found)) + tried + trials) / RATE)


def left_out(search: Search) -> str:
    """Return in words that pruning is left out for its time, and how to ask for it; or nothing.

    Args:
        search: The search; its objective and limits tell whether pruning was asked for.
    """
    if search.limits.prunes_however_long(search.target.objective):
        return ""
    seconds = pruning_seconds(search)
    if seconds <= SECONDS:
        return ""
    return (
        f"no channels, neurons or heads removed, since that would take about {seconds / 60:.0f} "
        "minutes: --prune on, or --objective latency, does it"
    )


def _moments(search: Search, reader: Reader) -> float:
    """Return the multiply-adds of a Gram matrix."""
    groups, out, features = reader.dims
    outs = reader.shape[0] if reader.is_wide else groups * out
    there = len(search.samples) * prod(search.facts.shapes.get(reader.y, ())) // outs
    rows = min(max(ROWS_PER_FEATURE * features, FEWEST_ROWS), MOST_ROWS, there)
    return float(groups * rows) * features**2


def _ranked(reader: Reader) -> float:
    """Return the work of ranking: an inverse and its downdates, in float64, for each ridge."""
    groups, out, features = reader.dims
    return len(RIDGES) * groups * (3.0 * features + min(out, features)) * features**2


def _refit(reader: Reader) -> float:
    """Return the work of a refit to half of the features: five solves and their errors."""
    groups, out, features = reader.dims
    return groups * (0.7 * features**3 + 15.0 * min(out, features) * features**2)


def _descent(reader: Reader) -> float:
    """Return the work of conjugate gradients on the windows of a wide kernel."""
    whole = replace(reader, is_wide=False)
    _, out, features = whole.dims
    values = min(MOST_BYTES / 4, MOST_WINDOWS * features)
    return 3.0 * MOST_STEPS * values * out if reader.is_wide else 0.0
