"""Put together a report from what was decided, done and measured; it measures nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from onnxsqueeze import __version__
from onnxsqueeze.analysis import summary
from onnxsqueeze.analysis.integers import already_integer
from onnxsqueeze.config import Budget, pattern_of
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.records import Change, Fidelity, Machine, Validation
from onnxsqueeze.facts.weights import WeightFacts
from onnxsqueeze.graph import io, walk
from onnxsqueeze.numerics.metrics import COUNTED
from onnxsqueeze.numerics.statistics import Estimate, decided, samples_needed, samples_to_decide
from onnxsqueeze.plan.choose import changes_file
from onnxsqueeze.plan.types import Plan, WeightChoice
from onnxsqueeze.report import fmt
from onnxsqueeze.report.rows import (
    DRAWN,
    activation_rows,
    distribution,
    frozen_rows,
    scaling_rows,
    width_rows,
)
from onnxsqueeze.report.types import LeftAlone, ModelSummary, Report, WeightRow


@dataclass(frozen=True)
class Story:
    """Everything a report may tell; what is missing is not told.

    Attributes:
        kind: The command.
        original: File of the original.
        model: The cleaned model, whose names plan and facts use.
        result: File of the result.
        facts: What was measured before deciding.
        plan: What was decided.
        changes: What was done, undone and left alone.
        sqnr_db: Signal to noise ratio of each rounded weight itself.
        validation: The result held against the original.
        budget: What the result had to keep to.
        is_met: Whether it does; None where there was nothing to meet.
        command: The command line that does it again.
        seconds: Wall time per stage.
        notes: What else the reader should know.
        data: Where the samples come from.
        samples: Number of calibration and of evaluation samples.
        machine: Where it was measured.
        files: What was written, by what it is.
    """

    kind: Literal["compress", "validate", "inspect"]
    original: Path
    model: ir.Model | None = None
    result: Path | None = None
    facts: Facts | None = None
    plan: Plan | None = None
    changes: tuple[Change, ...] = ()
    sqnr_db: Mapping[str, float] = field(default_factory=dict)
    validation: Validation | None = None
    budget: Budget | None = None
    is_met: bool | None = None
    command: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    data: str | None = None
    samples: tuple[int, int] = (0, 0)
    machine: Machine | None = None
    files: Mapping[str, str] = field(default_factory=dict)


def build(story: Story) -> Report:
    """Return the report of a story."""
    facts, result = story.facts, story.result
    shapes = {} if facts is None else facts.shapes
    work = None
    if story.model is not None and facts is not None:
        work = summary.multiply_adds(story.model, shapes).total
    before = _summary(story.original, work)
    after = None if result is None else _summary(result, work)
    sizes = {} if result is None else _restored_bytes(io.read(result))
    rows = tuple(_weight_rows(story, sizes))
    plan, model = story.plan, story.model
    grids = () if plan is None or facts is None else tuple(activation_rows(plan, facts))
    frozen = () if model is None or facts is None else tuple(frozen_rows(model, facts))
    return Report(
        kind=story.kind,
        version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=story.command,
        seconds={stage: round(seconds, 3) for stage, seconds in story.seconds.items()},
        original=before,
        result=after,
        verdict=_verdict(story),
        headline=_headline(story, before, after),
        max_drop=None if story.budget is None else story.budget.max_drop,
        metric=None if story.budget is None else story.budget.metric,
        validation=story.validation,
        weights=rows,
        activations=grids,
        widths=() if plan is None else tuple(width_rows(plan)),
        scalings=() if plan is None else tuple(scaling_rows(plan)),
        frozen=frozen,
        left_alone=tuple(_left_alone(story)),
        changes=story.changes,
        notes=(*_notes(story), *_loading_notes(before, after, story.validation)),
        data=story.data,
        calibration_samples=story.samples[0],
        evaluation_samples=story.samples[1],
        machine=story.machine,
        files=dict(story.files),
    )


def _notes(story: Story) -> Iterable[str]:
    yield from story.notes
    if story.plan is not None:
        yield from story.plan.notes
    if story.model is not None and (note := already_integer(story.model).note):
        yield note
    if story.budget is not None and story.validation is not None:
        for fidelity in story.validation.fidelity:
            if fidelity.optimization == "default":
                yield from _undecided(story.budget, fidelity)


def _undecided(budget: Budget, fidelity: Fidelity) -> Iterable[str]:
    """Say how many samples a budget needs, where decisions are counted and there are fewer."""
    needed = samples_needed(budget.max_drop)
    if fidelity.metric not in COUNTED or (needed is not None and fidelity.samples >= needed):
        yield from _too_wide(budget, fidelity)
        return
    can = (
        "no number of samples can"
        if needed is None
        else f"at least {needed} samples are needed to"
    )
    yield (
        f"{fidelity.metric} on {fmt.plural(fidelity.samples, 'sample')} cannot show a drop of at "
        f"most {fmt.percent(budget.max_drop)}: {can}; metric auto needs fewer"
    )


def _too_wide(budget: Budget, fidelity: Fidelity) -> Iterable[str]:
    """Say how many samples are needed where the budget lies inside the drop's interval."""
    drop = Estimate(**fidelity.drop.model_dump())
    if decided(drop, budget.max_drop) != "undecided":
        return
    needed = samples_to_decide(drop, fidelity.samples, budget.max_drop)
    most = fmt.percent(budget.max_drop)
    much = (
        "no number of samples is likely to" if needed is None else f"about {needed} samples would"
    )
    yield (
        f"{fmt.plural(fidelity.samples, 'sample')} on {fidelity.provider} do not tell whether "
        f"the drop is at most {most}: it is {fmt.percent_interval(fidelity.drop)}; {much}, if the "
        "drop is what it seems to be"
    )


def _loading_notes(
    before: ModelSummary, after: ModelSummary | None, validation: Validation | None
) -> Iterable[str]:
    """Say what changed for whoever loads the file: stored weights are made float there."""
    if after is not None and after.opset != before.opset:
        yield (
            f"opset {before.opset} became {after.opset}: "
            "a runtime that knows only older opsets does not load the file"
        )
    if validation is not None:
        times = validation.original_load_ms, validation.result_load_ms
        old, new = (fmt.milliseconds(ms) for ms in times)
        yield f"the file loads in {new}, and the original in {old}"


def _verdict(story: Story) -> Literal["met", "not met", "unchanged", "none"]:
    if story.is_met is None:
        return "none"
    if not story.is_met:
        return "not met"
    if story.plan is None:  # a file that was made elsewhere
        return "met"
    decided = any(changes_file(choice) for choice in story.plan.weights.values())
    return "met" if decided else "unchanged"


def _summary(path: Path, work: int | None) -> ModelSummary:
    model = io.read(path)
    size_bytes = io.size_bytes(path)
    return ModelSummary(
        path=str(path),
        sha256=io.fingerprint(path),
        size_bytes=size_bytes,
        nodes=walk.node_count(model),
        parameters=summary.parameters(model),
        multiply_adds=work,
        opset=model.graph.opset_imports.get("", 0),
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        operators=summary.operators(model),
        bytes_by_cause=summary.bytes_by_cause(model, size_bytes),
    )


def _restored_bytes(model: ir.Model) -> dict[str, int]:
    """Return the bytes of every initializer of a result, by name."""
    return {
        value.name or "": value.const_value.nbytes
        for _, value in walk.initializers(model)
        if value.const_value is not None
    }


PARTS = ("int", "bits4", "bits2", "bits1", "scale", "column", "zero", "half", "mask", "some")
"""Endings of the tensors that a weight is stored as; see passes/store_weights.py."""


def _bytes_after(name: str, sizes: Mapping[str, int]) -> int:
    return sizes.get(name, 0) + sum(sizes.get(f"{name}.{part}", 0) for part in PARTS)


def _weight_rows(story: Story, sizes: Mapping[str, int]) -> Iterable[WeightRow]:
    if story.facts is None or story.model is None:
        return
    values = {value.name: value for _, value in walk.initializers(story.model)}
    largest = sorted(story.facts.weights, key=lambda weight: -weight.count * weight.item_bytes)
    drawn = {weight.name for weight in largest[:DRAWN]}
    for weight in story.facts.weights:
        choice = None if story.plan is None else story.plan.weights.get(weight.name)
        tensor = values[weight.name].const_value
        assert tensor is not None  # ONNX: an initializer has a value
        before = weight.count * weight.item_bytes
        is_changed = choice is not None and sizes
        yield WeightRow(
            name=weight.name,
            node=weight.node,
            operator=weight.operator,
            shape=weight.shape,
            bytes_before=before,
            bytes_after=_bytes_after(weight.name, sizes) if is_changed else before,
            form="float" if choice is None else choice.form,
            bits=8 * weight.item_bytes if choice is None else choice.bits,
            zeros_fraction=_zeros_fraction(weight, choice),
            sqnr_db=story.sqnr_db.get(weight.name),
            damage=weight.damage,
            reason="" if choice is None else choice.reason,
            distribution=distribution(tensor.numpy()) if weight.name in drawn else None,
        )


def _zeros_fraction(weight: WeightFacts, choice: WeightChoice | None) -> float:
    found = weight.zeros / weight.count
    if choice is None:
        return found
    part = choice.sparsity or 0.0
    if choice.pattern is not None:
        stay, of = pattern_of(choice.pattern)
        part = 1 - stay / of
    return max(found, part)


def _left_alone(story: Story) -> Iterable[LeftAlone]:
    if story.facts is not None:
        for name, reason in story.facts.left_alone.items():
            yield LeftAlone(subject=name, reason=reason)
    if story.plan is not None:
        for name, choice in story.plan.weights.items():
            if not changes_file(choice):
                yield LeftAlone(subject=name, reason=choice.reason)


def _headline(story: Story, before: ModelSummary, after: ModelSummary | None) -> str:
    if after is None:
        return (
            f"{story.original.name}: {fmt.size(before.size_bytes)}, "
            f"{fmt.plural(before.nodes, 'node')}, {fmt.count(before.parameters)} parameters"
        )
    size = fmt.smaller(before.size_bytes, after.size_bytes)
    parts = [f"{story.original.name}: {size}"]
    if story.validation is not None:
        default = story.validation.fidelity[0]
        budget = "" if story.budget is None else f" (budget {fmt.percent(story.budget.max_drop)})"
        parts.append(f"drop {fmt.percent(default.drop.value)}{budget}")
        for latency in story.validation.latency[:1]:
            speed = fmt.times(latency.speedup.value)
            parts.append("speed the same" if latency.verdict == "same" else f"speed {speed}")
    return ", ".join(parts)
