"""The command line of tools/bench."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmark.calibration import calibration
from benchmark.cases import Case, CaseError, cases_in, read_case
from benchmark.compare import compare_all
from benchmark.fetch import BUILDERS, fetch
from benchmark.methods import METHODS
from benchmark.table import read_records, table

CACHE = Path.home() / ".cache" / "onnxsqueeze-bench"


def absolute(path: str) -> Path:
    """Return a path that means the same in the folder where a command is run."""
    return Path(path).absolute()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure onnxsqueeze beside ONNX Runtime's own quantizers on real models.",
        epilog="Cases, wheels and results lie in --cache. `fetch`, then `run`, then `table`.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    fetched = commands.add_parser("fetch", help="download the models and build the cases")
    fetched.add_argument("cases", nargs="*", help=f"of {', '.join(BUILDERS)} (default: all)")
    fetched.add_argument("--force", action="store_true", help="build again what is there")
    run = commands.add_parser("run", help="compress every case by every method, and score")
    run.add_argument("cases", nargs="*", help="default: all that are there")
    run.add_argument(
        *("-m", "--method"),
        action="append",
        choices=METHODS,
        help="may be given more than once (default: all)",
    )
    run.add_argument(
        "--seconds", type=float, default=6.0, help="of timing per result (%(default)s)"
    )
    shown = commands.add_parser("table", help="print the results as Markdown")
    cost = commands.add_parser("calibration", help="what measuring costs beside a plain run")
    cost.add_argument("case", nargs="?", default="ocr_det", help="default: %(default)s")
    for command in (fetched, run, shown, cost):
        command.add_argument("--cache", type=absolute, default=CACHE, help="default: %(default)s")
    for command in (run, cost):
        command.add_argument(
            "--cases-from", type=absolute, help="a folder of cases (default: CACHE/cases)"
        )
    for command in (run, shown, cost):
        command.add_argument(
            "--out", type=absolute, help="of the results (default: CACHE/results)"
        )
    return top


def cases_folder(arguments: argparse.Namespace) -> Path:
    return Path(arguments.cases_from or arguments.cache / "cases")


def carry_out(arguments: argparse.Namespace) -> int:
    if arguments.command == "fetch":
        left_out = fetch(arguments.cases, arguments.cache, force=arguments.force)
        if left_out:
            print(f"left out: {', '.join(left_out)}", file=sys.stderr)
        return 1 if left_out else 0
    out = arguments.out or arguments.cache / "results"
    if arguments.command == "run":
        cases: list[Case] = cases_in(cases_folder(arguments), arguments.cases)
        compare_all(cases, arguments.method or METHODS, out, arguments.seconds)
        print(f"results: {out / 'results.jsonl'}", file=sys.stderr)
    elif arguments.command == "calibration":
        print(calibration(read_case(cases_folder(arguments) / arguments.case), out))
    else:
        results = out / "results.jsonl"
        if not results.exists():
            raise CaseError(f"no results in {results}\n  Take some with `tools/bench run`.")
        print(table(read_records(results)))
    return 0


def main(words: list[str]) -> int:
    """Carry out one command line; return its exit code."""
    try:
        return carry_out(parser().parse_args(words))
    except CaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
