"""`engine completion`: the script by which a shell completes verbs, options and files. Printed, never installed."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from engine.cli.output import emit

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
VARIABLE = "_ENGINE_COMPLETE"


@click.command(epilog="Example:  engine completion bash")
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a SHELL.

    bash: engine completion bash >> ~/.bashrc. zsh: the same with ~/.zshrc. fish: engine completion fish >
    ~/.config/fish/completions/engine.fish.
    """
    maker = _SHELLS[shell](context.find_root().command, {}, "engine", VARIABLE)
    # `source()` would start a shell to ask for its version; the text is the same.
    emit((maker.source_template % maker.source_vars()).strip())
