"""The command line of tools/importance_study.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from study.case import Case, open_case
from study.compare import Line, compared, truth

SHIPPED = Path(__file__).resolve().parents[2] / "models"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="tools/importance_study.py",
        description="Rank units by each criterion; compare with the damage of removing them one "
        "by one, and with what is left of the output when a part of each group goes.",
        epilog="Needs the extras torch and models. One Markdown table goes to standard output.",
    )
    top.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[SHIPPED / "digits_cnn"],
        help="each with model.onnx, calib.npz, eval.npz (default: models/digits_cnn)",
    )
    top.add_argument("--samples", type=int, default=256, help="calibration samples (256)")
    top.add_argument("--held-out", type=int, default=128, help="samples to measure on (128)")
    top.add_argument("--units", type=int, default=32, help="removed one by one, per group (32)")
    top.add_argument("--looks", type=int, default=32, help="samples for each of those (32)")
    top.add_argument("--parts", type=float, nargs="+", default=[0.25, 0.5], help="(0.25 0.5)")
    return top


def table(case: Case, lines: Sequence[Line], parts: Sequence[float]) -> str:
    """Return the lines as Markdown."""
    shares = [f"{part:.0%} gone, {how}" for part in parts for how in ("cut", "refitted")]
    head = ["criterion", "ρ cut", "ρ refitted", *shares, "seconds"]
    rows = [head, ["---"] * len(head)]
    for line in lines:
        pairs = zip(line.sqnr_db, line.agreement, strict=True)
        cells = [
            f"{sqnr:.1f} dB, {same:.1%}"
            for both, agreements in pairs
            for sqnr, same in zip(both, agreements, strict=True)
        ]
        rho = ["", ""] if line.correlation is None else [f"{one:.2f}" for one in line.correlation]
        rows.append([line.criterion, *rho, *cells, f"{line.seconds:.1f}"])
    words = f"**{case.name}** ({len(case.units)} groups, {len(case.calibration)} samples)"
    return "\n".join([words, "", *("| " + " | ".join(row) + " |" for row in rows)])


def main(arguments: Sequence[str]) -> int:
    """Run the study; returns the exit code."""
    given = parser().parse_args(arguments)
    for folder in given.folders:
        case = open_case(folder, given.samples, given.held_out)
        true = truth(case, given.units, given.looks, _say)
        print(table(case, compared(case, true, given.parts, _say), given.parts))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)
