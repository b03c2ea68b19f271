"""Trials again, computed in float16: for providers that have kernels for it."""

from __future__ import annotations

from onnxsqueeze.plan.providers import recipe
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.search.trial import Search, Trial


def in_half(search: Search, found: Trial, progress: Progress | None = None) -> Trial:
    """Return the trial computed in float16 where the provider can and the budget allows it.

    Otherwise it is returned as it is, or, where it was tried in vain, with a note that says so.
    For ``size`` nothing changes: what is stored is as small either way.

    Args:
        search: The search.
        found: A trial within the budget.
        progress: Called with (stage, done, all).
    """
    wanted = recipe(search.target.provider)
    if wanted.compute != "float16" or search.target.objective == "size":
        return found
    note = f"computes in float16, which {wanted.provider} has kernels for; its edges stay float32"
    trial = search.trial(halved(found.plan, note), found.level, progress)
    if trial.is_within(search.budget):
        return trial
    drop = trial.fidelity.drop.high
    vain = f"float16 was tried, and drops up to {drop:.2%}: activations stay float32"
    plan = found.plan.model_copy(update={"notes": (*found.plan.notes, vain)})
    return Trial(plan, found.fidelity, found.level)


def halved(plan: Plan, note: str) -> Plan:
    """Return a plan whose model computes in float16, and says why."""
    return plan.model_copy(update={"compute": "float16", "notes": (*plan.notes, note)})
