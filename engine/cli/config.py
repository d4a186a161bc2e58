"""`engine config show`: the settings as they hold here and now, and where each comes from. Prints no secret."""

from __future__ import annotations

import os

import click
import msgspec

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.ledgers import table
from engine.cli.output import emit_json


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command("show", epilog="Example:  engine config show platform.limits")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--changed", is_flag=True, help="Leave out what nobody has set.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per setting.")
@pass_invocation
def show(invocation: Invocation, *, keys: tuple[str, ...], changed: bool, as_json: bool) -> None:
    """Show each setting as it holds, and whether a flag, the environment, the file or nobody said so.

    KEY keeps the settings that begin so: a table, or one option. Secrets are shown as being there, never as what they
    are; what the chosen profile does not use is not read.
    """
    from engine.pipeline.effective import effective
    from engine.pipeline.layers import divide_overrides
    from engine.telemetry.redact import Redactor

    settings = invocation.settings(needs_secret=False)
    ours, _ = divide_overrides(invocation.pairs)
    found = [
        setting
        for setting in effective(settings, invocation.config_path, env=os.environ, overrides=ours)
        if not keys or any(setting.key == key or setting.key.startswith(f"{key}.") for key in keys)
    ]
    if unknown := [key for key in keys if not any(f"{setting.key}.".startswith(f"{key}.") for setting in found)]:
        raise click.UsageError(f"no setting begins with `{unknown[0]}`; `engine config show` lists all")
    redact = Redactor()  # An address may hold a password, whatever option it is of.
    found = [
        msgspec.structs.replace(setting, value=redact(setting.value))
        for setting in found
        if setting.origin != "default" or not changed
    ]
    if as_json:
        for setting in found:
            emit_json(setting)
        return
    table(
        ("SETTING", "VALUE", "FROM", "WHERE"),
        [(setting.key, setting.value, setting.origin, setting.where) for setting in found],
    )
