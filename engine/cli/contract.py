"""`engine contract routes|openapi|graphql|diff`: the contract as this engine speaks it, and where a document differs.

Asks nobody. The documents are made from the routes themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.foreign import read_file, shown
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import Paint, emit, emit_json, plural, tell
from engine.codec.payload import check_caps, dumps, loads, to_wire
from engine.codec.yaml import dump_yaml
from engine.contract.catalog import EXAMPLES, ROUTES
from engine.contract.difference import Difference, differences
from engine.contract.graphql import ACQI_METRICS, HEALTH_CHECK, fingerprint
from engine.contract.openapi import Places, describe, published
from engine.contract.profile import DOCS, LIVE_API, LIVE_AUTH, SANDBOX_API
from engine.contract.sdl import external_graphql
from engine.contract.titles import title_of
from engine.errors import EngineError, Exit, OutputError

_DOCUMENT_MAX = 32 * 1024 * 1024
_PLACES = Places(auth=LIVE_AUTH, api=LIVE_API, sandbox=SANDBOX_API, docs=DOCS)


@click.group()
def contract() -> None:
    """The contract as this engine speaks it; nobody is asked."""


@contract.command()
@click.option("--group", metavar="NAME", help="Only the routes of one group, such as jobs.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object for each route.")
def routes(*, group: str | None, is_json: bool) -> None:
    """List the routes: name, method, path, scopes of which any is enough, hosts.

    Example: engine contract routes --group jobs
    """
    groups = {route.group for route in ROUTES.values()}
    if group is not None and group not in groups:
        raise click.BadParameter(f"no group `{group}`; there are {', '.join(sorted(groups))}")
    for route in ROUTES.values():
        if group not in (None, route.group):
            continue
        hosts = [host.value for host in route.hosts]
        if is_json:
            told = {"number": route.number, "name": route.name, "method": route.method, "path": route.path}
            more = {"hosts": hosts, "auth": route.auth.value, "scopes": route.scopes, "status": route.status}
            emit_json({**told, **more, "title": title_of(route)})
        else:
            scopes = " ".join(route.scopes) or f"({route.auth.value})"
            emit(f"{route.number:>3}  {route.name:<26} {route.method:<7} {route.path:<52} {scopes}  {','.join(hosts)}")


@contract.command()
@click.option("--all", "is_whole", is_flag=True, help="All routes, not only those of the API's own descriptor.")
@click.option("--yaml", "is_yaml", is_flag=True, help="YAML instead of JSON.")
@click.option("-o", "--output", metavar="FILE", default="-", help="Write there; - is stdout.")
def openapi(*, is_whole: bool, is_yaml: bool, output: str) -> None:
    """Print the OpenAPI 3.1 document of the contract.

    Example: engine contract openapi --all -o argus.json
    """
    document = _described(is_whole=is_whole)
    text = dump_yaml(document) if is_yaml else dumps(document).decode()
    if output == "-":
        emit(text.rstrip("\n"))
        return
    try:
        Path(output).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"cannot write {output}: {(exc.strerror or 'refused').lower()}") from exc
    tell(f"wrote {output}")


@contract.command()
@click.option("--json", "is_json", is_flag=True, help="One JSON object for each document.")
@click.option("--schema", "is_schema", is_flag=True, help="The schema in SDL, as partners get it (reference.sdl).")
def graphql(*, is_json: bool, is_schema: bool) -> None:
    """Print the approved GraphQL documents, each with the SHA-256 by which it is known.

    Example: engine contract graphql --json
    """
    if is_schema:
        emit(external_graphql().rstrip())
        return
    for document in (HEALTH_CHECK, ACQI_METRICS):
        if is_json:
            emit_json({"sha256": fingerprint(document), "document": document})
        else:
            emit(f"# {fingerprint(document)}\n{document}")


@contract.command()
@click.argument("file", metavar="FILE")
@click.option("--all", "is_whole", is_flag=True, help="Compare all routes, not only those of the API's own descriptor.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object for each difference.")
@pass_invocation
def diff(invocation: Invocation, *, file: str, is_whole: bool, is_json: bool) -> int:
    """Compare an OpenAPI document in FILE (JSON; - is stdin) with the contract as this engine speaks it.

    + only theirs, - only ours, ~ said differently. Exit 0 if nothing differs, 1 if something does, 2 if FILE is no
    such document.

    Example: engine call discovery.openapi | engine contract diff -
    """
    found = _differences(file, _described(is_whole=is_whole))
    paint = invocation.paint_out()
    for one in found:
        if is_json:
            emit_json(to_wire(one))
        else:
            emit(_line(one, paint))
    tell(f"{shown(file)}: {plural(len(found), 'difference')}")
    return Exit.FAILED if found else Exit.DONE


def _described(*, is_whole: bool) -> dict[str, Any]:
    told = list(ROUTES.values())
    return describe(told if is_whole else published(told), _PLACES, examples=EXAMPLES)


def _differences(file: str, ours: dict[str, Any]) -> list[Difference]:
    """How the document in a file differs from ours.

    Raises:
        click.BadParameter: it cannot be read, or is none.
    """
    text = read_file(file, _DOCUMENT_MAX)
    try:
        check_caps(text, max_bytes=_DOCUMENT_MAX)
        theirs = loads(text)
        return differences(ours, theirs if isinstance(theirs, dict) else {})
    except EngineError as exc:
        raise click.BadParameter(f"{file}: {exc.message}; give an OpenAPI 3 document as JSON") from exc


def _line(one: Difference, paint: Paint) -> str:
    sign = {"theirs": paint.good("+"), "ours": paint.bad("-"), "both": paint.strong("~")}[one.side]
    said = f"  {paint.dim(shown(one.said))}" if one.said else ""
    return f"{sign} {shown(one.at)}  {shown(one.what)}{said}"
