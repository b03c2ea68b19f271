"""Tables of what a processor's integer kernels do, for a terminal."""

from __future__ import annotations

import statistics

from rich.table import Table
from rich.text import Text

from onnxsqueeze.facts.kernels import SPELLINGS, Exactness, Kernels, Speed
from onnxsqueeze.report import fmt
from onnxsqueeze.report.tables import new_table


def exactness(kernels: Kernels) -> Table:
    """Return one row per product, one column per spelling: activation, then weight."""
    per = "channel"
    spellings = [one for one in SPELLINGS if one.per == per]
    made = new_table(
        f"Integer kernels, exact? (activations, weights: u unsigned, s signed; a scale per {per})",
        "product",
        *(str(one).split()[0] for one in spellings),
    )
    cells = {(row.case, row.spelling): row for row in kernels.exactness}
    for case in dict.fromkeys(row.case for row in kernels.exactness):
        made.add_row(case, *(_exact(cells.get((case, one))) for one in spellings))
    return made


def _exact(row: Exactness | None) -> Text:
    if row is None:
        return Text(fmt.UNKNOWN, style="dim")
    if not row.kernel:
        return Text("refused" if row.refused else "stays float", style="yellow")
    if row.wrong_fraction == 0:
        return Text("exact", style="green")
    return Text(f"{row.wrong_fraction:.0%} wrong", style="red")


def speeds(kernels: Kernels) -> Table:
    """Return one row per product and size: its time in floats, and the speedups."""
    names = list(dict.fromkeys(name for row in kernels.speeds for name in row.speedup))
    columns = (f">{name.split()[0]}" for name in names)
    title = "Integer kernels, times the speed in floats (one thread)"
    made = new_table(title, "product", "size", ">float", *columns)
    last = ""
    kinds = list(dict.fromkeys(row.kind for row in kernels.speeds))
    for row in sorted(kernels.speeds, key=lambda row: kinds.index(row.kind)):
        shown = "" if row.kind == last else row.kind
        size = ", ".join(f"{name} {dim}" for name, dim in row.size.items())
        made.add_row(shown, size, _milliseconds(row), *(_speedup(row, name) for name in names))
        last = row.kind
    return made


def _milliseconds(row: Speed) -> str:
    return f"{statistics.median(row.float_ms):.3f} ms"


def _speedup(row: Speed, name: str) -> Text:
    if name not in row.speedup:
        return Text(fmt.UNKNOWN, style="dim")
    one = row.speedup[name]
    style = "green" if one.low > 1 else "red" if one.high < 1 else ""
    return Text(fmt.times(one.value), style=style)


def advice(kernels: Kernels) -> str:
    """Return what follows from the tables, for a reader."""
    if kernels.saturates("int8"):
        return (
            "Signed weights (u8s8, s8s8) saturate here, as on x64 processors without VNNI: sums "
            "of two products are cut off at 16 bits. Unsigned weights around 128, one scale per "
            "channel, are exact on every processor and are what is written; signed ones are "
            "written only where they are faster and no two neighbours can exceed 16 bits."
        )
    if kernels.is_exact("int8"):
        return "Signed and unsigned weights are both exact here."
    return "There are no integer kernels for signed weights here."
