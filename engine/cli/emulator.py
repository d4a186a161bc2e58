"""`engine emulator`: serves the whole contract on loopback until it is told to stop.

stdout gets one JSON line once it is ready, for programs; stderr says the same for humans.
"""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from engine.cli.collecting import collect_rarely
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import tell
from engine.cli.run import on_loop
from engine.emulator.process import Announcement, ServeOptions, serve, write_announcement
from engine.emulator.server import Bind
from engine.emulator.state import Options
from engine.pipeline.units import UNITS
from engine.settings import EmulatorSettings


def _seconds(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """A duration with its unit, as in the TOML files."""
    if text is None:
        return None
    try:
        return UNITS["duration"].read(text)
    except ValueError:
        raise click.BadParameter(f'"{text}" is no duration; write {UNITS["duration"].examples}') from None


@click.command(epilog="Example:  engine emulator --port 4380")
@click.option("--host", default=Bind().host, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Of the live origin; 0 is a free one.")
@click.option("--sandbox-port", type=click.IntRange(0, 65_535), default=0, help="Of the sandbox origin.")
@click.option("--state", metavar="FILE", help="Keep everything in this file, across restarts.")
@click.option("--faults", metavar="FILE", help="A fault script.  [default: of config.toml]")
@click.option("--seed", type=int, help="Makes its choices repeatable.  [default: of config.toml, or 0]")
@click.option(
    "--latency", metavar="TIME", callback=_seconds, help="Median job duration, as 0.2s.  [default: of config.toml]"
)
@click.option("--bare", is_flag=True, help="Begin without the devices, encounters and evidence of the examples.")
@click.option("--allow-remote", is_flag=True, help="Listen on an address others can reach.")
@click.option("--stop-on-stdin-eof", is_flag=True, hidden=True)
@pass_invocation
def emulator(  # noqa: PLR0917 - click passes by name
    invocation: Invocation,
    host: str,
    port: int,
    sandbox_port: int,
    state: str | None,
    faults: str | None,
    seed: int | None,
    latency: float | None,
    bare: bool,  # noqa: FBT001
    allow_remote: bool,  # noqa: FBT001
    stop_on_stdin_eof: bool,  # noqa: FBT001
) -> int:
    """Serve the whole contract on loopback, with real tokens, jobs and signatures."""
    # A run that starts its own says everything by flags; which config.toml it used is no business of ours.
    ours = EmulatorSettings() if stop_on_stdin_eof else invocation.emulator_settings()
    seed = ours.seed if seed is None else seed
    latency = ours.latency if latency is None else latency
    if state:
        Path(state).parent.mkdir(parents=True, exist_ok=True)
    options = Options(
        state_path=state,
        seed=Options().seed if seed is None else seed,
        latency_s=Options().latency_s if latency is None else latency,
        inventory=not bare,
    )
    collect_rarely()
    return serve(
        ServeOptions(
            options=options,
            bind=Bind(host=host, port=port, sandbox_port=sandbox_port, allow_remote=allow_remote),
            faults_path=faults or ours.faults,
            stop_on_stdin_eof=stop_on_stdin_eof,
        ),
        runner=_on_loop,
        announce=_announce,
    )


def _on_loop(main: Coroutine[Any, Any, None]) -> None:
    on_loop(lambda: main)


def _announce(ready: Announcement) -> None:
    # The client secret is for programs: it is in the JSON line, and opens nothing but this emulator.
    tell(
        f"emulator  {ready.url}  (plays the auth, api and docs hosts)\n"
        f"  sandbox   {ready.sandbox_url}\n"
        f"  client    {ready.client_id}\n"
        f"  use it    --set platform.emulator.url={ready.url}\n"
        "  Ctrl-C stops it"
    )
    write_announcement(ready)
