"""Pages that are made of the package itself, so that they cannot say something else."""

from __future__ import annotations

from collections.abc import Iterator

import click

from onnxsqueeze import cli, errors
from onnxsqueeze.cli.commands import group


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


PAGES = {"options.md": options_page, "exit-codes.md": exit_codes_page}
