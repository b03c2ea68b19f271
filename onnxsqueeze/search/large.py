"""The search in a large model: few trials, since each reads all of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_ir as ir

from onnxsqueeze.analysis.blocks import block_weight
from onnxsqueeze.plan.large import Blocks, large_plan, ranked
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress, silent
from onnxsqueeze.search.trial import Search

TRIALS = 6
"""Most plans that are tried."""


def large_plans(search: Search, progress: Progress | None = None) -> Iterator[Plan]:
    """Yield plans to make a file of, the one to prefer first.

    With samples that is the one with the fewest bits that keeps to the budget in a trial: the
    weights that lose most per byte take more bits, as many as it needs, found by bisection.
    Without, it is the one with the fewest bits. A milder one comes last.
    """
    blocks = blocks_of(search)
    order = ranked(search.facts, search.limits, blocks)

    def plan(count: int) -> Plan:
        milder = frozenset(order[:count])
        return large_plan(search.facts, search.target, search.limits, blocks, milder)

    has_data = search.facts.data_sha256 is not None
    count = _fewest(search, plan, len(order), progress) if has_data else 0
    if count is not None:
        yield plan(count)
        if count < len(order):
            yield plan(len(order))


def holds_budget(search: Search) -> bool:
    """Return whether the result must keep to the budget: without samples, only if one was given.

    The default budget is a promise about real inputs, and random ones tell nothing of those.
    """
    return search.facts.data_sha256 is not None or "max_drop" in search.budget.model_fields_set


def _fewest(
    search: Search, plan: Callable[[int], Plan], most: int, progress: Progress | None
) -> int | None:
    """Return the smallest number of milder weights that is within the budget, about."""
    tell = progress or silent
    low, high, good, count = 0, most, None, 0
    for done in range(TRIALS):
        trial = search.trial(plan(count), count, progress)
        tell("search within the budget", done + 1, TRIALS)
        if trial.is_within(search.budget):
            good, high = count, count - 1
        else:
            low = count + 1
        if low > high:
            break
        count = (low + high + 1) // 2
    return good


def blocks_of(search: Search) -> Blocks:
    """Return the weights of a search's model that a kernel reads in blocks.

    Ranks are those of a run: ONNX Runtime makes a Gemm, which reads no blocks, of a product of
    matrices and an addition.
    """
    axes, features = dict[str, int](), dict[str, int]()
    graph = search.model.clone().graph
    for node in graph:
        for output in node.outputs:
            dims = search.facts.shapes.get(str(output.name))
            output.shape = None if dims is None else ir.Shape(dims)
    for weight in search.facts.weights:
        value = graph.initializers.get(weight.name)
        found = None if value is None else block_weight(graph, value)
        if found is not None and not found.reason:
            axes[weight.name], features[weight.name] = found.axis, found.features
    return Blocks(axes, features)
