"""The command line: ``onnxsqueeze compress|inspect|measure|plan|apply|validate|report``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from onnxsqueeze.cli.commands import group
from onnxsqueeze.errors import SqueezeError
from onnxsqueeze.report.fmt import plain

INTERRUPTED = 130
INTERNAL = 70


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; see ``onnxsqueeze.errors`` for what they mean.

    Errors are printed without traceback, unless ``--traceback`` stands before the command.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    wants_traceback = "--traceback" in arguments
    try:
        code = group.main(
            arguments, prog_name="onnxsqueeze", standalone_mode=False, obj=tuple(arguments)
        )
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; the same command goes on from here", err=True)
        return INTERRUPTED
    except SqueezeError as error:
        if wants_traceback:
            raise
        click.echo(f"error: {_escaped(error)}", err=True)
        return error.exit_code
    except (
        Exception
    ) as error:  # the one place that catches all: a user should not read a traceback
        if wants_traceback:
            raise
        click.echo(
            f"internal error: {type(error).__name__}: {_escaped(error)}\n"
            "  This is a mistake of onnxsqueeze, not yours. "
            "Run 'onnxsqueeze --traceback ...' and report what it prints.",
            err=True,
        )
        return INTERNAL
    return code if isinstance(code, int) else 0


def _escaped(error: Exception) -> str:
    """The message, without what a hostile name in a file may tell the terminal to do."""
    return "\n".join(plain(line.expandtabs()) for line in str(error).split("\n"))
