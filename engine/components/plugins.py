"""Plug-ins: sources, sinks and transforms that other distributions bring, found by their entry points.

What each kind is called with is here; the battery that one has to pass is `engine.testing`. Entry points are looked up
only for a pipeline that uses one, because reading what is installed takes time.

    engine.sources      function(Pull) that yields (row, place)
    engine.sinks        function(Opening) that answers a `ports.Sink`
    engine.transforms   function(options) that answers a function over a batch, as a python transform calls it
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

import msgspec

from engine.errors import ConfigError, EngineError

SOURCES, SINKS, TRANSFORMS = "engine.sources", "engine.sinks", "engine.transforms"

# A row as an object or as its JSON text, and the place after it: text from which reading can go on.
Row = tuple[dict[str, Any] | bytes, str]


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    """What a source is asked for: every row after the place `after` (None: from the start), in an order that stays.

    `stop` is set when nobody wants rows any more: whoever waits for the outside looks at it every second or so.
    """

    options: Mapping[str, Any]
    after: str | None
    stop: threading.Event


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink is opened with: its options, the declared columns, the member that names a row, and whose rows come.

    `owner` is the name of the ledger, by which parts of one pipeline in two state directories can be told apart.
    """

    options: Mapping[str, Any]
    fields: Mapping[str, str]
    key: str
    pipeline: str
    owner: str


RowSource = Callable[[Pull], Iterator[Row]]


def find(group: str, name: str) -> Callable[..., Any]:
    """The function that an installed distribution gives this name in a group.

    Raises:
        ConfigError: nobody does, several do, or it cannot be imported.
    """
    there = entry_points(group=group)
    found = [point for point in there if point.name == name]
    if not found:
        names = ", ".join(sorted({point.name for point in there})) or "none"
        raise ConfigError(f"no plug-in of {group} is called `{name}`", hint=f"installed are: {names}")
    if len({point.value for point in found}) > 1:
        values = ", ".join(point.value for point in found)
        raise ConfigError(f"several plug-ins of {group} are called `{name}`: {values}", hint="uninstall all but one")
    try:
        function = found[0].load()
    except Exception as exc:
        raise ConfigError(f"the plug-in `{name}` cannot be imported: {type(exc).__name__}: {exc}") from exc
    if not callable(function):
        raise ConfigError(f"the plug-in `{name}` is no function: {found[0].value}")
    return function  # type: ignore[no-any-return]


def opened(group: str, name: str, argument: object) -> Any:
    """What the function answers.

    Raises:
        ConfigError: as `find`, or it raised anything but an error of the engine.
    """
    function = find(group, name)
    try:
        return function(argument)
    except EngineError:
        raise
    except Exception as exc:
        raise ConfigError(f"the plug-in `{name}` of {group} cannot be opened: {type(exc).__name__}: {exc}") from exc
