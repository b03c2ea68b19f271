"""One or more example nodes per operator of the table."""

from __future__ import annotations

from tests.ops import examples_compute as compute
from tests.ops import examples_layout as layout

NEEDS_A_GRAPH = ("If", "Loop", "Scan")
"""Operators with subgraphs; they have no facets, so there is nothing to run."""

EXAMPLES = [
    *compute.LINEAR,
    *compute.NORM,
    *compute.ELEMENTWISE,
    *compute.RECURRENT,
    *compute.QUANTIZE,
    *compute.CONTROL,
    *layout.POOL,
    *layout.REDUCE,
    *layout.MOVEMENT,
]
