"""From a search to a file: written, held against the original, then moved into place."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import onnx_ir as ir

from onnxsqueeze.config import Budget
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import OutputError
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.facts.records import Validation
from onnxsqueeze.graph import io
from onnxsqueeze.measure.load import Loaded
from onnxsqueeze.measure.validate import validate
from onnxsqueeze.passes.apply import Applied
from onnxsqueeze.passes.coverage import coverage
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.report.build import Story
from onnxsqueeze.runtime.memory import release
from onnxsqueeze.search import GIVEN_BACK, Search, trials
from onnxsqueeze.search.large import holds_budget, large_plans
from onnxsqueeze.search.trial import LARGE_FILE, spelled

CLEARLY_FASTER = 1.03
"""Integer kernels must beat stored weights by this factor on the whole model to be used."""

BALANCED_SHARE = 0.3
"""For ``balanced``, a file with integer kernels must stay under this part of the original."""


Sought = TypeVar("Sought")


@dataclass
class Clock:
    """Wall seconds per stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time spent inside for a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


@dataclass(frozen=True)
class Outcome:
    """A file in the run folder that was held against the original.

    Attributes:
        path: The file.
        plan: What it was made by; a plan without decisions for the cleaned original.
        applied: What was done; None for the original as it came.
        validation: What was measured of it.
        is_met: Whether something was compressed within the budget.
        notes: What did not work out on the way.
        holds_budget: Whether the budget was asked of it; see ``search.large.holds_budget``.
    """

    path: Path
    plan: Plan
    applied: Applied | None
    validation: Validation
    is_met: bool
    notes: tuple[str, ...] = ()
    holds_budget: bool = True


@dataclass(frozen=True)
class Workshop:
    """Where and how results are made: one search, its model, the run folder."""

    search: Search
    loaded: Loaded
    run: Path
    clock: Clock
    progress: Progress | None

    def outcome(self) -> Outcome:
        """Return the best file that keeps to the budget, or else the cleaned original."""
        mildness, notes = 0, list[str]()
        if self.search.is_large:
            return self._large(notes)
        while True:
            found, levels = trials(self.search, self.progress, mildness=mildness), list[int]()
            kept: list[Outcome] = []
            while (trial := self._next(found)) is not None:
                levels.append(trial.level)
                made = self._made(trial.plan, notes)
                kept += [] if made is None else [made]
                if made is not None and self._is_enough(made):
                    return made
            if kept:
                return self._faster(kept)
            if not levels:
                return self._unchanged(tuple(notes))
            mildness = max(levels) + GIVEN_BACK

    def _next(self, found: Iterator[Sought]) -> Sought | None:
        with self.clock.stage("search"):
            return next(found, None)

    def _large(self, notes: list[str]) -> Outcome:
        """Return the first plan's file that keeps to the budget; each costs minutes."""
        plans = large_plans(self.search, self.progress)
        while (plan := self._next(plans)) is not None:
            holds = holds_budget(self.search)
            made = self._made(plan, notes, holds=holds)
            if made is not None:
                return replace(made, holds_budget=holds)
        return self._unchanged(tuple(notes))

    def planned(self, plan: Plan) -> Outcome:
        """Return the file that a plan makes, whatever it costs."""
        with self.clock.stage("apply"):
            applied = self.search.applied(plan, self.progress)
        path = self._written(applied.model)
        return Outcome(path, plan, applied, self._validated(path, plan), is_met=True)

    def _made(self, plan: Plan, notes: list[str], *, holds: bool = True) -> Outcome | None:
        """Write, run and measure the plan's model; None (and a note) if it breaks a promise.

        The budget is one of them if it ``holds``.
        """
        outcome = self.planned(plan)
        validation = outcome.validation
        if holds and drop_high(outcome) > self.search.budget.max_drop:
            notes.append(
                f"a plan was given up: its file dropped up to {drop_high(outcome):.2%} "
                "when measured"
            )
        elif validation.result_bytes >= validation.original_bytes:
            notes.append(f"a plan was given up: its file has {validation.result_bytes} bytes")
        else:
            return replace(outcome, notes=tuple(notes))
        return None

    def _written(self, model: ir.Model) -> Path:
        path = self._next_path()
        io.write(model, path)
        return path

    def _copied(self) -> Path:
        """Return the original once more, byte by byte where it is one file."""
        original, path = self.loaded.path, self._next_path()
        if io.size_bytes(original) == original.stat().st_size:
            copy(original, path)
        else:
            io.write(io.read(original), path)
        return path

    def _next_path(self) -> Path:
        return self.run / f"result-{len(list(self.run.glob('result-*.onnx')))}.onnx"

    def _validated(self, path: Path, plan: Plan) -> Validation:
        target, budget = self.search.target, self.search.budget
        release()
        with self.clock.stage("validate"):
            return validate(
                self.loaded.path,
                path,
                self.loaded.held_out,
                metric=budget.metric,
                on=target.providers,
                threads=target.threads,
                seed=budget.seed,
                coverage=coverage(plan, path),
                progress=self.progress,
            )

    def _faster(self, kept: list[Outcome]) -> Outcome:
        """Return stored weights, unless integer kernels are clearly faster as a whole."""
        if len(kept) < 2:
            return kept[0]
        integer, stored = kept
        gain = speedup(integer) / speedup(stored)
        return integer if gain > CLEARLY_FASTER and self._is_small(integer) else stored

    def _is_enough(self, made: Outcome) -> bool:
        """Return whether a file is faster than stored weights would be, which run as floats do."""
        is_whole = not self.search.units  # a narrower model is faster by itself
        gain = made.validation.latency[0].speedup.low
        return is_whole and gain > CLEARLY_FASTER and self._is_small(made)

    def _is_small(self, made: Outcome) -> bool:
        share = made.validation.result_bytes / made.validation.original_bytes
        return self.search.target.objective == "latency" or share <= BALANCED_SHARE

    def _unchanged(self, notes: tuple[str, ...]) -> Outcome:
        plan = Plan(
            model_sha256=self.loaded.sha256,
            weights={},
            notes=(
                "no form of any weight keeps to the budget"
                if self.search.facts.weights
                else "the model has no weight that could be stored in another form",
            ),
        )
        shapes = self.search.facts.shapes
        applied = spelled(Applied(self.loaded.model.clone(), (), {}), shapes)
        path = self._written(applied.model)
        cleaned = Outcome(path, plan, applied, self._validated(path, plan), False, notes)
        is_larger = cleaned.validation.result_bytes > cleaned.validation.original_bytes
        if not is_larger and drop_high(cleaned) <= self.search.budget.max_drop:
            return cleaned
        path = self._copied()
        return Outcome(path, plan, None, self._validated(path, plan), False, notes)


def speedup(outcome: Outcome) -> float:
    """Return how many times as fast as the original the outcome was measured to be."""
    return outcome.validation.latency[0].speedup.value


def drop_high(outcome: Outcome) -> float:
    """Return the pessimistic end of the drop, in sessions as users make them, at the worst."""
    return outcome.validation.drop_high


def install(made: Path, output: Path) -> None:
    """Move a finished file to where it was asked for, complete or not at all."""
    if made.with_name(made.name + ".data").exists():
        io.write(io.read(made), output, external=True)
        return
    try:
        made.replace(output)  # nothing is left behind, however this ends
    except OSError:  # on another file system, or not allowed, which the copy then says
        copy(made, output)


def copy(source: Path, target: Path) -> None:
    """Copy one file, complete or not at all; a link at the target is replaced, not followed.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            part = Path(folder) / target.name
            shutil.copyfile(source, part)
            part.replace(target)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written: {error.strerror or error}\n"
            "  Check the folder's permissions and the free space, or choose another place."
        ) from error


def clear(run: Path) -> None:
    """Make the run folder, without results and half-made files of an earlier run; facts stay.

    Raises:
        OutputError: If it cannot be made.
    """
    try:
        (run / "facts").mkdir(parents=True, exist_ok=True)
        for old in [*run.glob("result-*.onnx"), *run.glob("result-*.onnx.data")]:
            old.unlink()
        for half in [*run.glob(".*.onnx.*"), *run.glob("facts/.*.onnx.*")]:
            shutil.rmtree(half)  # of a run that was killed
        for half in [*run.glob(".report.*.part"), *run.glob(f"facts/{LARGE_FILE}")]:
            half.unlink()
    except OSError as error:
        raise OutputError(
            f"the run folder {run} cannot be used: {error.strerror or error}\n"
            "  Name another folder: --run FOLDER"
        ) from error


def check_output(model: Path, output: Path, data: DataSettings | None = None) -> None:
    """Raise OutputError if ``output`` cannot be written, before any work is done for it.

    What is read is never written to: neither the model nor a file that ``data`` names.
    """
    if _is_same(output, model):
        raise OutputError(
            f"{output} is the model itself, which is never written to\n  Choose another place."
        )
    read = data or DataSettings()
    for source in (read.source, read.evaluation, read.labels, read.evaluation_labels):
        if isinstance(source, str | Path) and _is_same(output, Path(source)):
            raise OutputError(
                f"{output} holds the samples or labels that are read\n  Choose another place."
            )
    if output.is_dir():
        raise OutputError(f"{output} is a folder\n  Name a file: -o {output / 'small.onnx'}")
    if not output.parent.is_dir():
        raise OutputError(f"the folder {output.parent} does not exist\n  Make it first.")
    if not os.access(output.parent, os.W_OK):
        raise OutputError(f"the folder {output.parent} cannot be written to\n  Choose another.")


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def default_run(output: Path) -> Path:
    """Return the run folder that belongs to an output.

    Example:
        >>> default_run(Path("out/small.onnx")).name
        'small.squeeze'
    """
    return output.with_name(output.stem + ".squeeze")


def story(
    loaded: Loaded,
    facts: Facts,
    made: Outcome,
    budget: Budget | None,
    clock: Clock,
    command: str,
    output: Path,
) -> Story:
    """Return what the report of a file tells; without a budget, no verdict."""
    applied = made.applied
    if not made.holds_budget:
        budget = None
    return Story(
        "compress",
        loaded.path,
        model=loaded.model,
        result=output,
        facts=facts,
        plan=made.plan,
        changes=loaded.changes + (() if applied is None else applied.changes),
        sqnr_db={} if applied is None else applied.sqnr_db,
        validation=made.validation,
        budget=budget,
        is_met=None if budget is None else made.is_met,
        command=command,
        seconds=clock.seconds,
        notes=loaded.notes + made.notes,
        data=loaded.calibration.source,
        samples=(len(loaded.calibration), len(loaded.held_out)),
        machine=made.validation.machine,
        files={"model": str(output)},
    )
