"""What a pipeline asks of routes beside jobs: a listing as its source, one request for each row, a route as its sink.

Pure, like `check`: which routes can be used so is read off the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.contract import provenance
from engine.contract.catalog import ROUTES, ask_of
from engine.contract.route import Route
from engine.contract.rows import CURSOR, is_asked_per_row, is_write, listing_of
from engine.errors import RecordError
from engine.pipeline.findings import Fault, did_you_mean
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import RequestSpec, SinkSpec, SourceSpec

# Options of files, and what each is when nobody has set it.
_OF_FILES: dict[str, Any] = {"compression": "auto", "delimiter": ",", "header": (), "paths": ()}
_OF_PARTS: dict[str, Any] = {"path": "", "compression": "none"}


def check_routes(source: SourceSpec | None, request: RequestSpec | None, sink: SinkSpec | None) -> Iterator[Fault]:
    """Routes that do not exist, or cannot do what they are named for, and options that do not go with them."""
    if source is not None:
        yield from _source(source)
    if request is not None:
        yield from _route(request.route, ("request", "route"), is_asked_per_row, "can be asked for each row")
        if request.verify and request.route != provenance.GET.name:
            message = f"`verify` is for {provenance.GET.name} alone: only transcripts can be proven"
            yield _fault(("request", "verify"), "conflict", message)
    if sink is not None:
        yield from _sink(sink)


def _source(source: SourceSpec) -> Iterator[Fault]:
    if source.type != "platform":
        if source.route is not None:
            yield _fault(("source", "route"), "conflict", f"a {source.type} source has no `route`")
        if source.members:
            yield _fault(("source", "members"), "conflict", f"a {source.type} source has no `members`")
        return
    yield from _strangers(source, "source", _OF_FILES)
    if source.route is None:
        hint = f"use one of {', '.join(_names(_lists))}"
        yield _fault(("source", "route"), "missing", "`route` is missing in [source]", hint)
        return
    yield from _route(source.route, ("source", "route"), _lists, "lists things")
    route = ROUTES.get(source.route)
    if route is None or not _lists(route):
        return
    if CURSOR in source.members:
        yield _fault(("source", "members", CURSOR), "conflict", "the source keeps its own place in the list")
    try:
        ask_of(route, source.members)
    except RecordError as exc:
        yield _fault(("source", "members"), "range", exc.message, exc.hint)


def _sink(sink: SinkSpec) -> Iterator[Fault]:
    if sink.type != "platform":
        if sink.route is not None:
            yield _fault(("sink", "route"), "conflict", f"a {sink.type} sink has no `route`")
        return
    yield from _strangers(sink, "sink", _OF_PARTS)
    if sink.route is None:
        hint = f"use one of {', '.join(_names(is_write))}"
        yield _fault(("sink", "route"), "missing", "`route` is missing in [sink]", hint)
        return
    yield from _route(sink.route, ("sink", "route"), is_write, "takes rows")


def _route(name: str, at: KeyPath, may: Callable[[Route[Any, Any]], bool], what: str) -> Iterator[Fault]:
    route, options = ROUTES.get(name), _names(may)
    if route is None:
        hint = did_you_mean(name, options)
        yield Fault(at=at, code="config.choice", message=f"unknown route `{name}`", hint=hint, options=options)
    elif not may(route):
        message = f"`{name}` is not a route that {what}"
        yield Fault(at=at, code="config.choice", message=message, hint="", options=options)


def _strangers(table: SourceSpec | SinkSpec, name: str, usual: dict[str, Any]) -> Iterator[Fault]:
    for option, value in usual.items():
        if getattr(table, option) != value:
            yield _fault((name, option), "conflict", f"a platform {name} has no `{option}`")


def _names(may: Callable[[Route[Any, Any]], bool]) -> tuple[str, ...]:
    return tuple(name for name, route in ROUTES.items() if may(route))


def _lists(route: Route[Any, Any]) -> bool:
    return listing_of(route) is not None


def _fault(at: KeyPath, code: str, message: str, hint: str = "") -> Fault:
    return Fault(at=at, code=f"config.{code}", message=message, hint=hint)
