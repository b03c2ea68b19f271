"""Pages that are made of the package itself, so that they cannot say something else."""

from __future__ import annotations

from collections.abc import Iterator

import click
import numpy as np

from onnxsqueeze import cli, errors
from onnxsqueeze.cli.commands import group
from onnxsqueeze.config import WIDTHS
from onnxsqueeze.numerics.error import sqnr_db
from onnxsqueeze.numerics.grid import from_grid, mse_scale, to_grid
from onnxsqueeze.report import fmt


def options_page() -> str:
    """Return every command with every argument and option, as its help says it."""
    lines = ["# Options", "", "Every command, as `onnxsqueeze COMMAND --help` shows it.", ""]
    for name, command in sorted(group.commands.items()):
        lines += [f"## onnxsqueeze {name}", "", *_help(command), ""]
        lines += ["| option | what | default |", "| --- | --- | --- |", *_rows(command), ""]
    return "\n".join(lines)


def _help(command: click.Command) -> Iterator[str]:
    """The help's paragraphs; what is not to be wrapped there is a block of code here."""
    for paragraph in (command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            yield from ("```text", paragraph.removeprefix("\b\n"), "```", "")
        else:
            yield from (paragraph, "")


def _rows(command: click.Command) -> Iterator[str]:
    ctx = click.Context(command)
    for one in command.params:
        if isinstance(one, click.Argument):
            yield f"| `{one.make_metavar(ctx)}` | {_kind(one)} | |"
        elif isinstance(one, click.Option):
            names = ", ".join(f"`{name}`" for name in one.opts)
            default = _default(one)
            yield f"| {names} | {_cell(one.help or '')} {_kind(one)} | {default} |"


def _kind(one: click.Parameter) -> str:
    if isinstance(one.type, click.Choice):
        return "One of " + ", ".join(f"`{choice}`" for choice in one.type.choices) + "."
    return "Needed." if one.required else ""


def _default(one: click.Option) -> str:
    value = one.default
    if one.is_flag or not isinstance(value, str | int | float | tuple) or value == ():
        return ""
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def exit_codes_page() -> str:
    """Return every exit code, from the classes of errors."""
    kinds = [errors.SqueezeError, *errors.SqueezeError.__subclasses__()]
    named = [(kind.exit_code, f"{kind.__doc__} (`{kind.__name__}`)") for kind in kinds]
    codes = [
        (0, "Done."),
        (2, "The command line is wrong; click's own code."),
        (cli.INTERNAL, "A mistake of onnxsqueeze; `--traceback` shows where."),
        (cli.INTERRUPTED, "Interrupted; the same command goes on from there."),
        *((code, text.replace("\n", " ")) for code, text in named),
    ]
    rows = [f"| {code} | {text} |" for code, text in sorted(codes)]
    head = [
        "# Exit codes",
        "",
        "A pipeline can depend on these.",
        "",
        "| code | |",
        "| --- | --- |",
    ]
    return "\n".join([*head, *rows, ""])


FIGURES_HERE = "<!-- figures -->"
"""What stands in a page where the figures of the forms go."""
_SIDE = 256


def figures() -> str:
    """Return what each stored width takes and keeps, of normally distributed weights."""
    rows = np.random.default_rng(0).standard_normal((_SIDE, _SIDE)).astype(np.float32)
    half = rows.astype(np.float16)
    found = [("float32", 4 * rows.size, None), ("float16", 2 * rows.size, sqnr_db(rows, half))]
    for bits in sorted((width for width in WIDTHS if width < 16), reverse=True):
        scale = mse_scale(rows, bits)
        kept = from_grid(to_grid(rows, scale, bits), scale)
        size_bytes = rows.size * bits // 8 + 2 * _SIDE  # and a float16 scale per row
        found.append((f"{bits} bits", size_bytes, sqnr_db(rows, kept)))
    head = (
        f"A matrix of {_SIDE} × {_SIDE} normally distributed weights, rounded to the nearest with "
        "a scale per row, as it is when this page is built:"
    )
    lines = [head, "", "| stored in | bytes | | signal to noise |", "| --- | ---: | --- | ---: |"]
    for name, size_bytes, kept_db in found:
        bar = "█" * round(24 * size_bytes / found[0][1])
        lines.append(f"| {name} | {size_bytes:,} | {bar} | {fmt.decibel(kept_db)} |")
    return "\n".join(lines)


PAGES = {"options.md": options_page, "exit-codes.md": exit_codes_page}
