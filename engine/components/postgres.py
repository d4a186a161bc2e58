"""PostgreSQL: a piece of work on a connection of its own, and what the server's refusals mean; the door of asyncpg.

Blocking on purpose: sources and sinks are driven on threads. A connection lives as long as one piece of work, so none
is ever found dead, and a server that went away costs a try and no state. The URL is a secret: it leaves here only
towards the server, and no message holds any of it but host, port and database.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from engine.errors import ConfigError, EngineError, MissingExtra, OutputError
from engine.settings import Secret

T = TypeVar("T")
Work = Callable[[Any], Awaitable[T]]

_CONNECT_S = 10.0
_LOOK_EVERY_S = 0.1
# A command whose answer does not come: the machine at the other end is gone and sent no farewell.
_COMMAND_S = 900.0
_LOCK_WAIT = "30s"
# What passes by itself (PostgreSQL appendix A): connections lost, refused for now or too many; the server going down
# or coming up, out of memory or disk; deadlocks and serialization failures; a lock that was not got in time; a server
# that became a standby.
_PASSING = re.compile(r"08...|53...|57P0[1235]|40...|55P03|57014|25006")
_CREDENTIALS = re.compile(r"28...")
_ASKED_WRONGLY = re.compile(r"42...|3D000|3F000|0A000")
# What a row's values cause: of these the server quotes the value, which may be somebody's name.
_VALUE = re.compile(r'"(?:[^"])*"')


class Server(msgspec.Struct, frozen=True):
    """Where a database is, and for what: `need` names the table of the pipeline's file, for messages."""

    url: Secret
    need: str
    application: str
    settings: Mapping[str, str] = {}

    @property
    def place(self) -> str:
        """Host, port and database; never the user or the password."""
        parts = urlsplit(self.url.reveal())
        try:
            port = parts.port
        except ValueError:
            port = None
        host, database = parts.hostname or "localhost", unquote(parts.path.lstrip("/"))
        return f"{host}:{port or 5432}" + (f"/{database}" if database else "")

    def do(self, work: Work[T], *, stop: threading.Event | None = None) -> T:
        """Connect, do the work, disconnect. Blocks; never on a thread that has a loop.

        Once `stop` is set, what the server still does for us is cancelled.

        Raises:
            OutputError: the server refused; with the fact `is_away`, nobody answers there now, or what stands in the
            way will pass. ConfigError: user, password, database, tables or rights are not as the pipeline says.
        """
        asyncpg = _asyncpg(self.need)
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                return runner.run(_heeding(stop, self._connected(asyncpg, work)))
        except EngineError:
            raise
        except asyncpg.PostgresError as exc:
            raise self._refusal(exc) from exc
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
            raise _away(f"{self.need}: {self.place} {_what_happened(exc)}") from exc

    async def configure(self, connection: Any) -> None:
        """Make our settings those of the transaction that was begun; a pooler allows no others."""
        settings = {"lock_timeout": _LOCK_WAIT, **self.settings}
        calls = ", ".join(f"set_config(${index}, ${index + 1}, true)" for index in range(1, 2 * len(settings), 2))
        await connection.fetchrow(f"SELECT {calls}", *(part for pair in settings.items() for part in pair))

    async def _connected(self, asyncpg: Any, work: Work[T]) -> T:
        try:
            # Nothing is prepared for a second time, and a pooler between us and the server need not know of it.
            connecting = asyncpg.connect(
                self.url.reveal(),
                timeout=_CONNECT_S,
                command_timeout=_COMMAND_S,
                statement_cache_size=0,
                server_settings={"application_name": self.application},
            )
        except ValueError:
            raise self._no_url() from None
        try:
            connection = await connecting
        except (ValueError, asyncpg.ClientConfigurationError):
            # Its words quote the part that could not be read, which may be the password.
            raise self._no_url() from None
        try:
            done = await work(connection)
        except BaseException:
            connection.terminate()
            raise
        await connection.close()
        return done

    def _no_url(self) -> ConfigError:
        return ConfigError(
            f"{self.need}: `url` is not the URL of a PostgreSQL database",
            hint="the form is postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with reserved characters percent-encoded",
        )

    def _refusal(self, exc: Any) -> EngineError:
        state, said = str(exc.sqlstate or ""), explain(exc)
        where = f"{self.need}: {self.place}"
        if _CREDENTIALS.fullmatch(state):
            return ConfigError(f"{where} refused the user or the password", hint="check the user and password in `url`")
        if _PASSING.fullmatch(state):
            return _away(f"{where} {said}", sqlstate=state)
        if _ASKED_WRONGLY.fullmatch(state):
            return ConfigError(f"{where} {said}", hint="check names, types and the rights of the user")
        return OutputError(f"{where} {said}", sqlstate=state)


def _away(message: str, **facts: Any) -> OutputError:
    hint = "check that the server runs and can be reached from here; a run goes on where it stopped"
    return OutputError(message, hint=hint, is_away=True, **facts)


async def _heeding(stop: threading.Event | None, work: Coroutine[Any, Any, T]) -> T:
    if stop is None:
        return await work
    task = asyncio.ensure_future(work)
    while not (task.done() or stop.is_set()):
        await asyncio.wait((task,), timeout=_LOOK_EVERY_S)
    if not task.done():
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        raise _away("a stop was asked for") from None


def explain(exc: Any) -> str:
    """What the server said, by its code, without the values of rows."""
    state, said = str(exc.sqlstate or ""), str(exc.args[0] if exc.args else "").partition("\n")[0]
    if state.startswith("22"):
        said = _VALUE.sub('"…"', said)
    return f"said: {said} [{state}]"


def quoted(name: str) -> str:
    """A name as an identifier of SQL, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def table_of(text: str) -> str:
    """`schema.table` or `table` as SQL; a dot always separates."""
    return ".".join(quoted(part) for part in text.split("."))


def _what_happened(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return "did not answer in time"
    if isinstance(exc, ConnectionRefusedError):
        return "takes no connections"
    if isinstance(exc, OSError):
        return f"cannot be reached: {exc.strerror or type(exc).__name__}"
    return "cut the connection"


def _asyncpg(need: str) -> Any:
    try:
        import asyncpg
    except ImportError as exc:
        raise MissingExtra(need=need, extra="postgres") from exc
    return asyncpg
