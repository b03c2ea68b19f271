"""One function per subcommand: settings from options, one call of the api, one file or table."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from onnxsqueeze import api
from onnxsqueeze.cli import options
from onnxsqueeze.cli.completion import completion
from onnxsqueeze.cli.diff import diff
from onnxsqueeze.cli.doctor import doctor
from onnxsqueeze.cli.frontier import Budgets, compress_for, frontier_option
from onnxsqueeze.cli.progress import Bars
from onnxsqueeze.cli.report import report
from onnxsqueeze.cli.show import (
    checked_files,
    html_option,
    junit_option,
    markdown_option,
    save_files,
    show,
)
from onnxsqueeze.cli.version import show_version
from onnxsqueeze.errors import BudgetError
from onnxsqueeze.outcome import check_output, default_run
from onnxsqueeze.plan.choose import counts
from onnxsqueeze.plan.types import Plan

NOT_MET = BudgetError.exit_code


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the versions of onnxsqueeze, of ONNX Runtime and its providers, and exit.",
)
@click.option("--traceback", is_flag=True, help="Show Python's traceback with an error.")
def group(traceback: bool) -> None:  # main looks for it
    """Make ONNX files smaller and faster, within an accuracy budget that is measured.

    \b
    Quick start:
      onnxsqueeze compress model.onnx --data samples.npz --max-drop 1% -o small.onnx

    \b
    'compress' does it all. The other commands are its stages, from files:
      inspect   what a model is made of, and what may be done to it
      measure   run samples, keep what was seen in a run folder
      plan      decide a form for each weight; write plan.json
      apply     carry out a plan
      validate  hold one model against another
      report    a report.json as an HTML page, as Markdown or JUnit XML
      diff      what changed between two models or two reports
      doctor    what is installed, what works, what this processor's kernels do

    Exit codes: 0 done, 2 wrong command line, 3 model, 4 plan, 5 samples, 6 broken promise,
    7 provider, 8 missing package, 9 budget not met, 10 output.
    """  # noqa: D301 (click needs the backspace itself)


def _command() -> str:
    return shlex.join(["onnxsqueeze", *click.get_current_context().find_root().obj])


def _says(quiet: bool, as_json: bool) -> bool:
    return not quiet and not as_json


@group.command()
@options.model_argument
@click.option("-o", "--output", type=options.FILE, required=True, help="Where the result goes.")
@options.data_options
@options.budget_options
@options.target_options
@options.limit_options
@options.engine_options
@options.run_option
@frontier_option
@junit_option
@options.output_options
def compress(
    model: Path,
    output: Path,
    run: Path | None,
    frontier: Budgets | None,
    quiet: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Write a smaller MODEL that keeps to the budget.

    Killed half-way? The same command goes on where it was. If nothing keeps to the budget, the
    cleaned original is written and the exit code is 9.
    """
    data = options.data_settings(values)
    files = checked_files((model, output), data, values)
    if frontier is not None:
        if files:
            raise click.UsageError("--junit is for one result, not for a --frontier")
        how = {"quiet": quiet, "as_json": as_json}
        return compress_for(model, output, run, frontier, _command(), **how, values=values)
    with Bars(is_shown=_says(quiet, as_json)) as progress:
        made = api.compress(
            model,
            output,
            data,
            budget=options.budget(values),
            target=options.target(values),
            limits=options.limits(values),
            run=run,
            command=_command(),
            progress=progress,
        )
    save_files(made.report, files)
    show(made.report, quiet=quiet, as_json=as_json)
    if made.is_met:
        return 0
    why = f"nothing smaller keeps to the budget of {values['max_drop']:.2%}"
    advice = "Allow a larger --max-drop, more --bits, or give more samples."
    if not made.report.weights:
        why = "there is nothing to compress: the model has no weights that may be stored otherwise"
        advice = f"See what it is made of: onnxsqueeze inspect {model}"
    written = f"{output} is the original, cleaned up where that makes it no larger."
    click.echo(f"error: {why}\n  {written}\n  {advice}", err=True)
    return NOT_MET


@group.command()
@options.model_argument
@options.data_options
@html_option
@options.output_options
def inspect(model: Path, quiet: bool, as_json: bool, **values: Any) -> int:
    """Say what MODEL is made of, what may be done to it, and why not more."""
    data = options.data_settings(values)
    files = checked_files((model,), data, values)
    made = api.inspect(model, data, command=_command())
    save_files(made, files)
    show(made, quiet=quiet, as_json=as_json)
    return 0


def _default_run(model: Path, run: Path | None) -> Path:
    return run or default_run(Path(model.name))


@group.command()
@options.model_argument
@options.data_options
@options.target_options
@options.limit_options
@options.engine_options
@options.run_option
@options.output_options
def measure(model: Path, run: Path | None, quiet: bool, as_json: bool, **values: Any) -> int:
    """Run MODEL on samples and keep what was seen in the run folder (default NAME.squeeze)."""
    run = _default_run(model, run)
    with Bars(is_shown=_says(quiet, as_json)) as progress:
        measured = api.measure(
            model,
            options.data_settings(values),
            run=run,
            target=options.target(values),
            limits=options.limits(values),
            progress=progress,
        )
    facts = measured.facts
    summary = {
        "run": str(run),
        "calibration_samples": len(measured.loaded.calibration),
        "weights": len(facts.weights),
        "gram_matrices": len(facts.grams),
        "activation_ranges": len(facts.ranges),
        "timed_nodes": len(facts.latencies),
    }
    _say(summary, quiet=quiet, as_json=as_json)
    return 0


def _say(summary: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(summary, indent=1))
    elif not quiet:
        for name, value in summary.items():
            click.echo(f"{name.replace('_', ' '):<20} {value}")


@group.command()
@options.model_argument
@click.option(
    "-o", "--output", type=options.FILE, help="The plan; default plan.json in the run folder."
)
@options.data_options
@options.budget_options
@options.target_options
@options.limit_options
@options.engine_options
@options.run_option
@options.output_options
def plan(
    model: Path,
    output: Path | None,
    run: Path | None,
    quiet: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Decide a form for each weight of MODEL, within the budget, and write the plan as JSON."""
    run = _default_run(model, run)
    target, limits = options.target(values), options.limits(values)
    data = options.data_settings(values)
    if output is not None:
        check_output(model, output, data)
    with Bars(is_shown=_says(quiet, as_json)) as progress:
        measured = api.measure(
            model, data, run=run, target=target, limits=limits, progress=progress
        )
        trial = api.plan(
            measured,
            budget=options.budget(values),
            target=target,
            limits=limits,
            progress=progress,
        )
    if trial is None:
        raise BudgetError(
            f"no plan keeps to the budget of {values['max_drop']:.2%}\n"
            "  Allow a larger --max-drop or more --bits, or give more samples."
        )
    place = output or run / "plan.json"
    trial.plan.save(place)
    summary = {"plan": str(place), "drop": f"{trial.fidelity.drop.value:.3%}"}
    summary |= {name: str(count) for name, count in counts(trial.plan.weights).items()}
    _say(summary, quiet=quiet, as_json=as_json)
    return 0


@group.command()
@options.model_argument
@click.argument("plan_file", metavar="PLAN", type=options.FILE)
@click.option("-o", "--output", type=options.FILE, required=True, help="Where the result goes.")
@options.data_options
@options.engine_options
@options.run_option
@options.output_options
def apply(
    model: Path,
    plan_file: Path,
    output: Path,
    run: Path | None,
    quiet: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Carry out PLAN (a plan.json) on MODEL; the result is run and compared before it is written.

    Rounding that makes up for its errors needs the samples that the plan was made with.
    """
    decided = Plan.load(plan_file)
    with Bars(is_shown=_says(quiet, as_json)) as progress:
        made = api.carry_out(
            decided,
            model,
            output,
            options.data_settings(values),
            run=_default_run(model, run),
            target=options.target(values),
            command=_command(),
            progress=progress,
        )
    show(made, quiet=quiet, as_json=as_json)
    return 0


@group.command()
@click.argument("original", type=options.FILE)
@click.argument("result", type=options.FILE)
@options.data_options
@options.budget_options
@options.engine_options
@html_option
@markdown_option
@junit_option
@options.output_options
def validate(original: Path, result: Path, quiet: bool, as_json: bool, **values: Any) -> int:
    """Hold RESULT against ORIGINAL: fidelity, speed, size.

    The exit code is 9 if the budget is not kept.
    """
    data = options.data_settings(values)
    files = checked_files((original, result), data, values)
    with Bars(is_shown=_says(quiet, as_json)) as progress:
        made = api.validate(
            original,
            result,
            data,
            budget=options.budget(values),
            target=options.target(values),
            command=_command(),
            progress=progress,
        )
    save_files(made, files)
    show(made, quiet=quiet, as_json=as_json)
    return NOT_MET if made.verdict == "not met" else 0


group.add_command(report)
group.add_command(diff)
group.add_command(doctor)
group.add_command(completion)
