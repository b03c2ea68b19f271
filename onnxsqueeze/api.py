"""The whole flow, top-down: load, inspect, measure, plan, apply, validate; compress."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from onnxsqueeze.analysis.weights import weights
from onnxsqueeze.config import Budget, Limits, Target
from onnxsqueeze.data import DataSettings
from onnxsqueeze.errors import PlanError
from onnxsqueeze.facts.bundle import Facts
from onnxsqueeze.graph.io import LARGE_BYTES, fingerprint
from onnxsqueeze.measure.collect import Subject, described
from onnxsqueeze.measure.load import Loaded, samples_for
from onnxsqueeze.measure.load import load as load_model
from onnxsqueeze.measure.machine import machine
from onnxsqueeze.measure.validate import validate as validate_pair
from onnxsqueeze.outcome import (
    Clock,
    Workshop,
    check_output,
    clear,
    default_run,
    install,
    story,
)
from onnxsqueeze.passes.apply import Applied
from onnxsqueeze.plan.providers import with_options
from onnxsqueeze.plan.types import Plan
from onnxsqueeze.progress import Progress
from onnxsqueeze.report import files
from onnxsqueeze.report.build import Story, build
from onnxsqueeze.report.types import Report
from onnxsqueeze.runtime.blas import one_blas_thread
from onnxsqueeze.runtime.shapes import measured_shapes
from onnxsqueeze.search import Search, Trial, applied, trials
from onnxsqueeze.stages import (
    Measured,
    check_kept,
    may_prune,
    measured_of,
    narrower,
    narrower_by,
    reference_of,
    said_of_memory,
    search_in,
    store_in,
    unmeasured,
)


@dataclass(frozen=True)
class Compressed:
    """What ``compress`` made.

    Attributes:
        output: The file that was written.
        report: What was done, why, and what it costs and saves.
        plan: The decisions.
        is_met: Whether something was compressed within the budget; if not, ``output`` is the
            cleaned original, or the original itself.
    """

    output: Path
    report: Report
    plan: Plan
    is_met: bool


def load(model: Path, data: DataSettings | None = None, *, run: Path | None = None) -> Loaded:
    """Return the cleaned model with its samples; see ``Loaded``.

    Args:
        model: An ONNX file.
        data: Where samples come from; without, they are random.
        run: Run folder where the cleaned model is kept; None keeps nothing.

    Raises:
        ModelError: If the file is no model that runs.
        DataError: If the samples do not fit it.
    """
    return load_model(model, data or DataSettings(), None if run is None else store_in(run))


@one_blas_thread()
def measure(
    model: Path,
    data: DataSettings | None = None,
    *,
    run: Path,
    target: Target | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Return the facts that planning needs, measured or found in the run folder.

    Args:
        model: An ONNX file.
        data: Where samples come from; without, nothing can be fitted, and activations stay float.
        run: Run folder; what is measured is kept there and not measured again.
        target: For ``size`` activations are not calibrated, since stored weights do not need it.
        limits: ``prune_below`` counts the weights that it would make zero.
        progress: Called with (stage, done, all).
    """
    data, store = data or DataSettings(), store_in(run)
    loaded, limits = load_model(model, data, store), limits or Limits()
    check_kept(loaded, limits)
    return measured_of(loaded, store, data.seed, target or Target(), limits, progress)


@one_blas_thread()
def plan(
    measured: Measured,
    *,
    budget: Budget | None = None,
    target: Target | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Trial | None:
    """Return the best plan within the budget with its measured fidelity, or None.

    Args:
        measured: The model and its facts.
        budget: How much may be lost.
        target: Where the result will run, and what it should be best at.
        limits: What must not be done.
        progress: Called with (stage, done, all).
    """
    budget, target = budget or Budget(), target or Target()
    known = reference_of(measured.loaded, budget, target)
    search = search_in(measured, known, budget, target, limits or Limits())
    prunes = may_prune(measured.loaded, target, search.limits)
    smaller = narrower(measured, search, progress) if prunes else ""
    searches = [search] if isinstance(smaller, str) else [smaller[1], search]
    return next((trial for one in searches for trial in trials(one, progress)), None)


@one_blas_thread()
def apply(plan: Plan, measured: Measured, progress: Progress | None = None) -> Applied:
    """Return a copy of the model with every decision of the plan carried out; nothing is written.

    Args:
        plan: Decisions for this very model.
        measured: The model, and the Gram matrices that rounding is fitted to.
        progress: Called with (stage, done, all).

    Raises:
        PlanError: If the plan was made for another model.
    """
    _check_model(plan, measured.loaded.path, measured.loaded.sha256)
    loaded = measured.loaded
    if plan.units:
        budget, target = Budget(metric="mse"), Target()
        known = reference_of(loaded, budget, target)
        search = search_in(measured, known, budget, target, Limits())
        smaller = narrower_by(plan, measured, search, progress)
        assert smaller is not None  # the plan has units
        return smaller[1].applied(plan, progress)
    return applied(
        plan,
        loaded.model,
        measured.facts,
        loaded.calibration,
        measured.store,
        is_large=loaded.is_large,
        progress=progress,
    )


def _check_model(plan: Plan, path: Path, sha256: str) -> None:
    if plan.model_sha256 != sha256:
        raise PlanError(
            f"the plan was made for model sha256:{plan.model_sha256[:12]}, "
            f"and {path} is sha256:{sha256[:12]}\n"
            f"  Make a plan for this one: onnxsqueeze plan {path}"
        )


@one_blas_thread()
def compress(
    model: Path,
    output: Path,
    data: DataSettings | None = None,
    *,
    budget: Budget | None = None,
    target: Target | None = None,
    limits: Limits | None = None,
    run: Path | None = None,
    command: str = "",
    large_bytes: int = LARGE_BYTES,
    progress: Progress | None = None,
) -> Compressed:
    """Write a smaller model that keeps to the budget, and return it with its report.

    The file is written, run, compared with the original and timed before it is moved to
    ``output``. Where nothing keeps to the budget, the cleaned original is written (or the
    original itself, where cleaning makes it no smaller), and ``is_met`` is False.

    Args:
        model: An ONNX file; it is only read.
        output: Where the result goes; an existing file is replaced when the new one is complete.
        data: Where samples come from.
        budget: How much may be lost.
        target: Where the result will run, and what it should be best at.
        limits: What must not be done.
        run: Run folder for facts, plan and reports; default ``NAME.squeeze`` beside the output.
            The same call with the same folder goes on where it was stopped.
        command: The command line, for the report.
        large_bytes: A model with more weights is treated as a large one: in the memory of one
            weight beside a session, and with few trials.
        progress: Called with (stage, done, all).

    Raises:
        SqueezeError: For all that is wrong with model, samples, settings or output; nothing is
            written.
    """
    budget, limits = budget or Budget(), limits or Limits()
    target = with_options(target or Target())
    data = data or DataSettings()
    run = run or default_run(output)
    check_output(model, output, data)
    clock = Clock()
    with clock.stage("measure"):
        store = store_in(run)
        loaded = load_model(model, data, store, large_bytes=large_bytes)
        loaded = said_of_memory(loaded, progress)
        check_kept(loaded, limits)  # before pruning, which may leave an operator no weight
        # First, so that a metric or provider that does not fit is told before all that takes long.
        known = reference_of(loaded, budget, target)
    found: tuple[Measured, Search] | str = ""
    made = None
    if may_prune(loaded, target, limits):
        with clock.stage("prune"):
            whole = unmeasured(loaded, store, data.seed)
            search = search_in(whole, known, budget, target, limits)
            found = narrower(whole, search, progress)
    if isinstance(found, str):
        loaded = replace(loaded, notes=(*loaded.notes, *filter(None, [found])))
    else:
        measured, search = found
        made = Workshop(search, measured.loaded, run, clock, progress).outcome()
    if made is None or not made.is_met:
        with clock.stage("measure"):
            measured = measured_of(loaded, store, data.seed, target, limits, progress)
        search = search_in(measured, known, budget, target, limits)
        made = Workshop(search, loaded, run, clock, progress).outcome()
    made.plan.save(run / "plan.json")
    install(made.path, output)
    clear(run)
    report = build(story(measured.loaded, measured.facts, made, budget, clock, command, output))
    report = files.save_all(report, run)
    return Compressed(output, report, made.plan, made.is_met)


def inspect(model: Path, data: DataSettings | None = None, *, command: str = "") -> Report:
    """Return what a model is made of, what may be done to it, and why not more.

    Args:
        model: An ONNX file.
        data: Samples to run it on; needed only where it does not run on random ones.
        command: The command line, for the report.

    Raises:
        ModelError: If the file is no model that runs.
    """
    loaded = load_model(model, data or DataSettings())
    found, others = weights(loaded.model)
    subject = Subject(loaded.model, loaded.sha256, loaded.calibration, is_synthetic=True)
    facts = Facts(
        model_sha256=loaded.sha256,
        data_sha256=None,
        shapes=measured_shapes(loaded.model, loaded.calibration[0]),
        weights=tuple(described(subject, weight, {}, {}) for weight in found),
        left_alone={other.name: other.reason for other in others},
        grams={},
    )
    told = Story(
        "inspect",
        model,
        model=loaded.model,
        facts=facts,
        changes=loaded.changes,
        command=command,
        notes=loaded.notes,
        machine=machine(),
    )
    return build(told)


def validate(
    original: Path,
    result: Path,
    data: DataSettings | None = None,
    *,
    budget: Budget | None = None,
    target: Target | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Report:
    """Return one model held against another: fidelity, latency, size, placement.

    Args:
        original: The model that is the truth.
        result: The model that is held against it.
        data: Samples; all of them are measured on. Without, both run on random ones.
        budget: With one, the report's verdict tells whether the result keeps to it.
        target: Provider and threads to run them with.
        command: The command line, for the report.
        progress: Called with (stage, done, all).

    Raises:
        ModelError: If the two cannot be compared, or one does not run.
        DataError: If the samples do not fit them.
    """
    data, target = data or DataSettings(), with_options(target or Target())
    samples, notes = samples_for(original, data)
    metric = Budget().metric if budget is None else budget.metric
    validation = validate_pair(
        original,
        result,
        samples,
        metric=metric,
        on=target.providers,
        threads=target.threads,
        seed=data.seed,
        progress=progress,
    )
    met = None
    if budget is not None:
        met = validation.drop_high <= budget.max_drop
    told = Story(
        "validate",
        original,
        result=result,
        validation=validation,
        budget=budget,
        is_met=met,
        command=command,
        notes=notes,
        data=samples.source,
        samples=(0, len(samples)),
        machine=validation.machine,
    )
    return build(told)


def read_report(source: Path) -> Report:
    """Return a report that was written before.

    Args:
        source: A ``report.json``, or the run folder that holds it.

    Raises:
        SqueezeError: If there is none, or it is malformed.
    """
    return files.load_json(source / "report.json" if source.is_dir() else source)


@one_blas_thread()
def carry_out(
    plan: Plan,
    model: Path,
    output: Path,
    data: DataSettings | None = None,
    *,
    run: Path,
    target: Target | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Report:
    """Write the model that a plan makes, after it was run and compared, and return the report.

    Args:
        plan: Decisions, as ``plan`` made them or edited by hand.
        model: The ONNX file that the plan was made for; it is only read.
        output: Where the result goes.
        data: The samples that the plan was made with.
        run: Run folder for what is measured.
        target: Provider and threads to run it with.
        command: The command line, for the report.
        progress: Called with (stage, done, all).

    Raises:
        PlanError: If the plan does not fit the model, or needs samples that are not there.
    """
    data, target = data or DataSettings(), with_options(target or Target())
    fits = plan.units or any(one.rounding == "compensated" for one in plan.weights.values())
    if data.source is None and fits:
        raise PlanError(
            "the plan makes up for errors, and that needs the samples it was made with\n"
            "  Give them (--data), or write rounding: nearest into the plan, without units."
        )
    check_output(model, output, data)
    _check_model(plan, model, fingerprint(model))
    clock = Clock()
    with clock.stage("measure"):
        wanted = target.model_copy(update={"objective": "latency" if plan.activations else "size"})
        measured = measure(model, data, run=run, target=wanted, progress=progress)
    budget = Budget(max_drop=1.0, seed=data.seed)
    known = reference_of(measured.loaded, budget, target)
    search = search_in(measured, known, budget, target, Limits())
    with clock.stage("prune"):
        found = narrower_by(plan, measured, search, progress)
    if found is not None:
        measured, search = found
    made = Workshop(search, measured.loaded, run, clock, progress).planned(plan)
    install(made.path, output)
    clear(run)
    return build(story(measured.loaded, measured.facts, made, None, clock, command, output))
