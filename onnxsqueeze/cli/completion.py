"""``onnxsqueeze completion``: the script that lets a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

COMPLETE_VARIABLE = "_ONNXSQUEEZE_COMPLETE"
"""Set by the script when the shell asks; click derives this name from the program's."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print what SHELL needs to complete commands, options and their values.

    \b
    Once, for every shell that is started from then on:
      bash  onnxsqueeze completion bash >> ~/.bashrc
      zsh   onnxsqueeze completion zsh >> ~/.zshrc
      fish  onnxsqueeze completion fish > ~/.config/fish/completions/onnxsqueeze.fish
    """  # noqa: D301 (click needs the backspace itself)
    group = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None, "click completes for each of the choices"
    made = kind(group, {}, "onnxsqueeze", COMPLETE_VARIABLE)
    # Not source(): it runs bash to learn its version, and the script may be for another machine.
    click.echo(made.source_template % made.source_vars())
    return 0
