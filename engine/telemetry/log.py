"""Log lines for operators: one fact, one line, in logfmt or JSON.

Only what concerns the run as a whole, and warnings; facts about jobs, requests and spans at level debug.
Never a payload, never an attribute of a span. Whatever a value holds, it stays inside its line and moves
no cursor: CR, LF, ESC, U+2028, bidirectional controls and the like are written as escapes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from engine.events import Event, RunEnded, RunStarted, SpanEnded, Warned
from engine.telemetry.redact import Redactor

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
VALUE_CHARACTERS: Final = 1000
MEMBERS: Final = 32

_BARE = re.compile(r"[^\s\"=\\]+")
_WORD = re.compile(r"(?<!^)(?=[A-Z])")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_HIDDEN_FIELDS: Final[dict[type[Event], frozenset[str]]] = {SpanEnded: frozenset({"attributes", "links"})}


class LogObserver:
    """Writes a line for each fact at or above `level`; give it to a `Tee`.

    A stream that refuses (a closed pipe) silences it for good: losing the log must not lose the run.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        level: Level = "info",
        fmt: Format = "text",
        redactor: Redactor | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._stream = stream
        self._threshold = LEVELS[level]
        self._render = _json_line if fmt == "json" else _logfmt_line
        self._redact = redactor or Redactor()
        self._now_ns = now_ns
        self._is_silent = False

    def notice(self, event: Event) -> None:
        """Write the fact's line, if its level asks for one."""
        level = level_of(event)
        if self._is_silent or LEVELS[level] < self._threshold:
            return
        fields = {"ts": _timestamp(self._now_ns()), "level": level, "event": name_of(type(event))}
        line = self._render({**fields, **dict(_fields(event, self._redact))}) + "\n"
        try:
            self._write(line)
        except (OSError, ValueError):
            self._is_silent = True

    def _write(self, line: str) -> None:
        try:
            # One call a line, so that lines of several threads do not mix.
            self._stream.write(line)
        except UnicodeEncodeError:
            self._stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
        self._stream.flush()


def level_of(event: Event) -> Level:
    """How loud a fact is: a run's start and end are info, a failed run an error, all detail debug."""
    match event:
        case RunEnded(outcome=outcome):
            return "error" if outcome == "failed" else "info"
        case RunStarted():
            return "info"
        case Warned():
            return "warning"
        case _:
            return "debug"


def name_of(kind: type[Event]) -> str:
    """A fact's name in a log: `RunStarted` is `run_started`."""
    return _WORD.sub("_", kind.__name__).lower()


def escape(text: str) -> str:
    r"""The text with every character that is not printable as an escape (`\n`, `\x1b`, `\u2028`).

    Printable is Unicode's word for it: controls, format characters (bidirectional ones among them), line
    and paragraph separators, surrogates and unassigned code points are not. A backslash is doubled.
    """
    text = text.replace("\\", "\\\\")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _ESCAPES.get(char) or _code(char) for char in text)


def _code(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _timestamp(now_ns: int) -> str:
    moment = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{now_ns // 1_000_000 % 1000:03d}Z"


def _fields(event: Event, redact: Redactor) -> Iterator[tuple[str, Any]]:
    hidden = _HIDDEN_FIELDS.get(type(event), frozenset())
    for name in event.__struct_fields__:
        if name not in hidden and (value := getattr(event, name)) is not None:
            yield name, _tidy(value, redact)


def _tidy(value: Any, redact: Redactor) -> Any:
    """Numbers as they are (times to the microsecond), text redacted and then cut, never the other way."""
    match value:
        case bool() | int():
            return value
        case float():
            return round(value, 6)
        case dict():
            members = list(value.items())[:MEMBERS]
            return {_cut(redact(str(key))): _tidy(member, redact) for key, member in members}
        case _:
            return _cut(redact(str(value)))


def _cut(text: str) -> str:
    over = len(text) - VALUE_CHARACTERS
    return text if over <= 0 else f"{text[:VALUE_CHARACTERS]}…[+{over}]"


def _json_line(fields: dict[str, Any]) -> str:
    # ASCII only: JSON's own escapes then cover every character that could end a line or turn it around.
    return json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f")


def _logfmt_line(fields: dict[str, Any]) -> str:
    pairs: list[str] = []
    for name, value in fields.items():
        members = value.items() if isinstance(value, dict) else (("", value),)
        pairs += [f"{name}.{_key(key)}={_word(item)}" if key else f"{name}={_word(item)}" for key, item in members]
    return " ".join(pairs)


def _key(key: str) -> str:
    return re.sub(r"[^\w.-]", "_", key, flags=re.ASCII)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text.isprintable() and _BARE.fullmatch(text):
        return text
    return '"' + escape(text).replace('"', '\\"') + '"'
