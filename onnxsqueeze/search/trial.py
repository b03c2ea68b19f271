"""A plan that is carried out and measured, and what all trials of one search share."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass

import onnx_ir as ir

from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.records import Fidelity
from onnxsqueeze.facts.store import Store
from onnxsqueeze.measure.fidelity import Reference, fidelity_against
from onnxsqueeze.passes.apply import apply
from onnxsqueeze.plan.make import make_plan
from onnxsqueeze.plan.types import Plan

LEVELS = 50
"""Damage limits that are tried: level k is ``10 ** (-k / 6)``, from 1 to 1e-8; the last is 0."""


@dataclass(frozen=True)
class Trial:
    """A plan that was carried out and measured; ``level`` is how mild it is, see ``LEVELS``."""

    plan: Plan
    fidelity: Fidelity
    level: int

    def is_within(self, budget: Budget) -> bool:
        """Return whether the drop, at its interval's pessimistic end, is within the budget."""
        return self.fidelity.drop.high <= budget.max_drop


@dataclass(frozen=True)
class Search:
    """What stays the same over all trials of one search."""

    model: ir.Model
    facts: Facts
    reference: Reference
    budget: Budget
    target: Target
    limits: Limits
    store: Store

    def trial(self, plan: Plan, level: int) -> Trial:
        """Return the plan with its measured fidelity; a plan measured before is not run again."""
        decisions = plan.model_dump_json(exclude={"notes"})
        key = {
            "model": self.facts.model_sha256,
            "data": self.reference.samples.fingerprint,
            "fitted to": self.facts.data_sha256,
            "metric": self.reference.metric.name,
            "seed": self.budget.seed,
            "provider": self.target.provider,
            "plan": hashlib.sha256(decisions.encode()).hexdigest(),
        }
        saved = self.store.get("trial", key)
        if saved is None:
            made = apply(plan, self.model, self.facts.grams, store=self.store)
            measured = fidelity_against(self.reference, made.model)
            saved = self.store.put("trial", key, measured.model_dump(mode="json"))
        return Trial(plan, Fidelity.model_validate_json(json.dumps(saved.values)), level)


def deadline(search: Search) -> float:
    """Return the time, by ``time.monotonic``, at which the search should end."""
    return time.monotonic() + (search.limits.time_limit_s or float("inf"))


def at_level(search: Search, level: int) -> Plan:
    """Return the plan whose expected damage is at most that of a level."""
    damage_limit = 10 ** (-level / 6) if level < LEVELS - 1 else 0.0
    return make_plan(search.facts, search.target, search.limits, damage_limit=damage_limit)
