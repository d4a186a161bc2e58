"""`engine call`: any route of the contract by name; JSON in, JSON out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import emit, emit_json, tell
from engine.cli.run import on_loop
from engine.codec.payload import check_caps, from_plain, loads
from engine.contract.catalog import ROUTES
from engine.errors import RecordError
from engine.events import Event, Warned
from engine.pipeline.findings import did_you_mean


@click.command(epilog="Example:  engine call jobs.list '{\"limit\": 5}'")
@click.argument("route", required=False)
@click.argument("members", required=False, metavar="[JSON|-|@FILE]")
@click.option("--list", "is_listing", is_flag=True, help="List the routes.")
@click.option(
    "--json", "as_json", is_flag=True, help="With --list: one JSON object per route. Answers are JSON anyway."
)
@pass_invocation
def call(invocation: Invocation, *, route: str | None, members: str | None, is_listing: bool, as_json: bool) -> None:
    """Call ROUTE of the contract: its members as a JSON object in, its answer as JSON out.

    - reads the object from stdin, @FILE from a file; without one an empty object is sent.
    """
    if is_listing:
        for name, found in ROUTES.items():
            if as_json:
                emit_json({"name": name, "method": found.method, "path": found.path, "scopes": found.scopes})
                continue
            emit(f"{name:<32} {found.method:<7} {found.path}")
        return
    if route is None:
        raise click.UsageError("which route? engine call --list names them")
    if route not in ROUTES:
        hint = did_you_mean(route, ROUTES)
        raise click.UsageError(f"no such route `{route}`" + (f"; {hint}" if hint else ""))
    ask = _members(members)
    _judge(route, ask)
    settings = invocation.settings(needs_secret=False)
    from engine.platform import call_route

    emit_json(on_loop(lambda: call_route(settings, route, ask, observer=_Warnings())))


class _Warnings:
    """Tells each warning once, beside the answer: a route that is to be withdrawn, for one."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def notice(self, event: Event) -> None:
        if isinstance(event, Warned) and (event.code, event.message) not in self._told:
            self._told.add((event.code, event.message))
            tell(f"warning: {event.message} [{event.code}]")


def _members(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        if text == "-":
            raw = sys.stdin.buffer.read()
        elif text.startswith("@"):
            raw = Path(text[1:]).read_bytes()
        else:
            raw = text.encode("utf-8")
        check_caps(raw)
        value = loads(raw)
    except OSError as exc:
        raise click.BadParameter(f"cannot read {text[1:]}: {(exc.strerror or 'refused').lower()}") from exc
    except RecordError as exc:
        raise click.BadParameter(exc.message) from exc
    if not isinstance(value, dict):
        raise click.BadParameter("the members of a question are a JSON object")
    return value


def _judge(route: str, members: dict[str, Any]) -> None:
    """Refuse a question that is not of the route's form before anything is connected."""
    kind = ROUTES[route].ask
    # On the wire some members have another name: `deviceId`. Both are taken, as the client does.
    written = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    known = tuple(written)
    for name in members:
        if name not in known and name not in written.values():
            hint = did_you_mean(name, known) or f"its members: {', '.join(known) or 'none'}"
            raise click.BadParameter(f"{route} has no member `{name}`; {hint}")
    try:
        from_plain({written.get(name, name): value for name, value in members.items()}, kind)
    except RecordError as exc:
        raise click.BadParameter(f"{route}: {exc.message}") from exc
